"""The command line's application: what its commands have in common."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    name="convax",
    help="Convolutional neural networks on JAX: one TOML file in, a trained network out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
ConfigArgument = Annotated[
    str, typer.Argument(metavar="[CONFIG]", help="A TOML file, or a name that `configs` lists.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="""Override a key, e.g. training.epochs=2, or a table, e.g. 'loss={name="mse"}'.""",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: JSON instead of text.")]
CheckpointOption = Annotated[str, typer.Option(help='"best" (by the validation metric) or "last".')]
RawOption = Annotated[
    bool, typer.Option("--raw", help="The weights themselves, where the run averages them ([ema]).")
]
DEFAULT_CONFIG = "lenet5-digits"


def folder_of(config: str) -> Path | None:
    """Where a relative data path of a config file begins; a shipped config has no folder."""
    return Path(config).parent if Path(config).is_file() else None


def one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is not known."""
    if value not in known:
        refuse(f"{option}: got {value!r}, need one of {', '.join(known)}")


def refuse(problem: str) -> NoReturn:
    """Say what cannot be done, and end with exit code 2."""
    complain(problem)
    raise typer.Exit(2)


def leave(code: int) -> NoReturn:
    """End at once: JAX would wait for the other processes of a run, who wait for this one."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def complain(problem: str) -> None:
    """Say on standard error what is wrong."""
    print(f"error: {problem}", file=sys.stderr)
