"""The base of all errors that are written for the person who runs convax."""


class ConvaxError(Exception):
    """Base of the errors that the command line prints as they are, without a traceback.

    `ops` and `model` are libraries and raise ValueError, TypeError and `model.LayerError`.

    Attributes:
        exit_code: of the command that ends with it; `convax.cli.main` lists them.
        in_all_processes: whether every process of a distributed run raises it at the same step, so
            that none is left waiting for the one that stops.
    """

    exit_code: int = 2
    in_all_processes: bool = False
