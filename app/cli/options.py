"""The command line's application: what its commands have in common."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

# What commands and options were called in earlier versions.
RENAMED_COMMANDS = {
    "augment": "preview-augment",
    "verify": "verify-bundle",
    "weights": "export-weights",
}
RENAMED_OPTIONS = {
    "--flips": "--tta",
    "--form": "--batching",
    "--heartbeat": "--heartbeat-timeout",
    "--patience": "--startup-timeout",
    "--queue": "--max-in-flight",
    "--raw": "--no-ema",
    "--with": "--ensemble",
}


class Commands(TyperGroup):
    """The commands; an error for an old name of a command or option gives the new name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names."""
        if args[0] in RENAMED_COMMANDS:
            fail(f"{args[0]}: unknown command; write {RENAMED_COMMANDS[args[0]]}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            name = getattr(error, "option_name", None)  # of an option that there is not
            if name in RENAMED_OPTIONS:
                fail(f"{name}: unknown option; write {RENAMED_OPTIONS[name]}")
            raise


app = typer.Typer(
    name="convax",
    cls=Commands,
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
CheckpointOption = Annotated[
    str, typer.Option(help='The checkpoint: "best" (by the validation metric) or "last".')
]
NoEmaOption = Annotated[
    bool,
    typer.Option("--no-ema", help="Use the weights themselves, not their moving averages ([ema])."),
]
DEFAULT_CONFIG = "lenet5-digits"


def config_dir(config: str) -> Path | None:
    """Return where a relative data path of a config file begins; a shipped config has none."""
    return Path(config).parent if Path(config).is_file() else None


def validate_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    """Fail unless a value is one of those that are known."""
    if value not in known:
        fail(f"{option}: got {value!r}, need one of {', '.join(known)}")


def fail(problem: str) -> NoReturn:
    """Print what cannot be done, and end with exit code 2."""
    warn(problem)
    raise typer.Exit(2)


def exit_now(code: int) -> NoReturn:
    """End the process at once: JAX would wait for the run's others, which wait for this one."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def warn(problem: str) -> None:
    """Print on standard error what is wrong."""
    print(f"error: {problem}", file=sys.stderr)
