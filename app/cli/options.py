"""The command line's application: what its commands have in common."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from convax.training.common import waiting
from convax.training.common.first_word import announce
from convax.training.common.forgiving import Forgiving
from convax.training.common.text import printable

# The commands in the order of work.
COMMANDS = (
    *("new", "configs", "fetch", "pretrained", "data", "preview-augment", "summary", "lr-find"),
    *("train", "compare", "evaluate", "report", "calibrate", "predict", "explain"),
    *("export", "verify-bundle", "export-weights", "serve", "doctor"),
)
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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; the options of all commands may stand behind the command, too."""
        return super().parse_args(ctx, _common_first(args))

    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in the order of work."""
        return sorted(super().list_commands(ctx), key=COMMANDS.index)

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


# The options of all commands, and how many words each is.
_COMMON = {"--device": 2, "--no-cache": 1, "--no-plugins": 1, "--verbose": 1}


def _common_first(args: list[str]) -> list[str]:
    """Return the arguments with the options of all commands, where there are some, in front."""
    for common, words in _COMMON.items():
        options = args[: args.index("--")] if "--" in args else args
        for i, option in enumerate(options):
            if option.partition("=")[0] == common:
                end = i + (1 if "=" in option else words)
                args = [*args[i:end], *args[:i], *args[end:]]
                break
    return args


app = typer.Typer(
    name="convax",
    cls=Commands,
    help="Convolutional neural networks on JAX: one TOML file in, a trained network out.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DEVICES = ("cpu", "gpu", "tpu")


def _print_version(wanted: bool) -> None:
    if wanted:
        say(" ".join(f"{name} {importlib.metadata.version(name)}" for name in ("convax", "jax")))
        raise typer.Exit


@app.callback()
def set_common(
    ctx: typer.Context,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="cpu|gpu|tpu",
            help="Where to compute; by default on a TPU or GPU where JAX finds one.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of convax and JAX, and exit.",
        ),
    ] = False,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache", help="Decode images anew, and keep none of them for the next command."
        ),
    ] = False,
    no_plugins: Annotated[
        bool,
        typer.Option(
            "--no-plugins",
            help="Refuse configs and runs that name modules with code of their own ([plugins]).",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Say on standard error what was read from where and how long it took, and show "
            "the traceback of an internal error.",
        ),
    ] = False,
) -> None:
    """Take the options of all commands, for this process and those it starts."""
    waiting.show(True)
    waiting.show_details(verbose)
    if "--quiet" not in sys.argv:
        announce(f"{ctx.invoked_subcommand} ...")
    if verbose:
        os.environ["CONVAX_DEBUG"] = "1"
    if no_cache:
        os.environ["CONVAX_DATA_CACHE"] = "off"
    if no_plugins:
        os.environ["CONVAX_NO_PLUGINS"] = "1"
    if device is None:
        return
    validate_choice("--device", device, DEVICES)
    os.environ["JAX_PLATFORMS"] = _gpu_platform() if device == "gpu" else device
    if "jax" in sys.modules:  # which has read the variable
        sys.modules["jax"].config.update("jax_platforms", os.environ["JAX_PLATFORMS"])


def _gpu_platform() -> str:
    """Return what JAX calls the GPUs of the plugin that is installed; CUDA's without any."""
    plugins = importlib.util.find_spec("jax_plugins")
    places = [] if plugins is None else list(plugins.submodule_search_locations or [])
    names = [module.name for module in pkgutil.iter_modules(places)]
    return "rocm" if any("rocm" in name for name in names) else "cuda"


def missing_device() -> str | None:
    """Say what to do where JAX finds no device of the kind that it is told to use."""
    if "jax" not in sys.modules:
        return None
    import jax

    try:
        jax.devices()
    except Exception as error:  # several kinds, an AssertionError among them
        wanted = os.environ.get("JAX_PLATFORMS") or "device"
        reason = str(error).partition("\n")[0].removesuffix(_ADVICE)
        return (
            f"JAX finds no {wanted} here{reason and f' ({reason})'}: write --device cpu, or unset "
            "JAX_PLATFORMS to take what there is; JAX for a GPU comes with pip install "
            "'convax[cuda]', for a TPU with 'convax[tpu]'"
        )
    return None


_ADVICE = " (set JAX_PLATFORMS='' to automatically choose an available backend)"


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A TOML file, or a name that `configs` lists.")
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
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Print no progress; notes go to standard error.")
]
MovedOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Where the data of the run lie by now; their fingerprint is compared.",
    ),
]
CheckpointOption = Annotated[
    str, typer.Option(help='The checkpoint: "best" (by the validation metric) or "last".')
]
NoEmaOption = Annotated[
    bool,
    typer.Option("--no-ema", help="Use the weights themselves, not their moving averages ([ema])."),
]
CalibratedOption = Annotated[
    bool, typer.Option("--calibrated", help="Use the temperature that `calibrate` has fitted.")
]
NoFoldOption = Annotated[
    bool,
    typer.Option(
        "--no-fold", help="Compute batch norms apart, not folded into the layers before them."
    ),
]
TtaOption = Annotated[
    bool, typer.Option("--tta", help="Average the predictions for each image and its mirror image.")
]
DEFAULT_CONFIG = "lenet5-digits"


def config_dir(config: str) -> Path | None:
    """Return where a relative data path of a config file begins; a shipped config has none."""
    return Path(config).parent if Path(config).is_file() else None


def say_moved(data: Path | None) -> None:
    """Say that data which were moved are those of the run; once they have been compared."""
    if data is not None:
        note = f"note: {data}: the data of the run, by their fingerprint"
        say(note, file=Forgiving(sys.stderr), flush=True)


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
    say(f"error: {problem}", file=Forgiving(sys.stderr), flush=True)


def show(text: object, record: Any, *, as_json: bool) -> None:
    """Print a result, for people or for programs."""
    if as_json:
        print(json.dumps(record, default=str))
    else:
        say(text)


def say(text: object, *, file: Any = None, end: str = "\n", flush: bool = False) -> None:
    """Print text for people: names from elsewhere in it do not control the terminal."""
    print(printable(str(text)), file=file, end=end, flush=flush)
