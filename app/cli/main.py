"""The command line: each command reads its arguments, calls one function, prints the result.

Exit codes: 0 done; 1 training diverged, or the program itself failed; 2 what was asked for cannot
be done (config, data, file, run); 75 another process of the run is gone; 129, 130 or 143 stopped
by SIGHUP, Ctrl-C or SIGTERM with the state saved.
"""

import io
import os
import sys

from convax.training.common.errors import ConvaxError

from . import explain, export, inference, new, pretrained, train
from .options import app, exit_now, missing_device, warn

__all__ = [
    "explain",
    "export",
    "inference",
    "main",
    "new",
    "pretrained",
    "train",
]  # which put their commands into `app`


def main() -> None:
    """Run the command line; every error becomes a line and an exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        # Collectives hold on to a thread each: with too few, devices wait for each other forever.
        os.environ.setdefault("NPROC", "64")
    _print_anything()
    try:
        app()
    except Exception as error:
        code = _explain(error)
        if _must_abort(error):
            exit_now(code)
        sys.exit(code)


def _in_plugin(error: Exception) -> str | None:
    """Return where an error was raised, if it was in a module that a config names."""
    plugins = sys.modules.get("convax.training.plugins.modules")
    return None if plugins is None else plugins.line_of(error)


def _print_anything() -> None:
    """Let what a terminal cannot show, such as a name that is no text, come out as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _must_abort(error: Exception) -> bool:
    """See `training.distributed.processes`, which is only there where it was needed."""
    distributed = sys.modules.get("convax.training.distributed.processes")
    return distributed is not None and distributed.must_abort(error)


def _explain(error: Exception) -> int:
    """Print what went wrong, and return the exit code."""
    if isinstance(error, ConvaxError):
        warn(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        warn(f"{where}{error.strerror}")
        return 2
    if problem := missing_device():
        warn(problem)
        return 2
    from convax.model import LayerError  # here, as it imports jax

    if isinstance(error, LayerError):
        warn(str(error))
        return 2
    status, _, reason = str(error).partition("\n")[0].partition(": ")
    if status == "RESOURCE_EXHAUSTED":  # JAX has no class for it
        warn(
            f"out of memory: {reason}\nwrite a smaller training.batch_size, "
            "training.grad_accum_steps = 4, or a smaller input.size"
        )
        return 2
    if os.environ.get("CONVAX_DEBUG"):
        raise error
    if place := _in_plugin(error):
        warn(f"{place}: {type(error).__name__}: {error}; --verbose shows the traceback")
        return 2
    warn(
        f"{type(error).__name__}: {error}\n"
        "this looks like a bug in convax; run again with CONVAX_DEBUG=1 for the traceback"
    )
    return 1
