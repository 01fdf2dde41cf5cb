"""The command line: each command reads its arguments, calls one function, prints the result.

Exit codes: 0 done; 1 training diverged, or the program itself failed; 2 what was asked for cannot
be done (config, data, file, run); 75 another process of the run is gone; 130 or 143 stopped by
Ctrl-C or SIGTERM with the state saved.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
LOST = 75  # EX_TEMPFAIL, "try again"


@app.command()
def train(
    config: ConfigArgument = DEFAULT_CONFIG,
    out: Annotated[
        Path | None, typer.Option(help="The run directory to make; runs/NAME by default.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue this run, or study, instead.")
    ] = None,
    overrides: SetOption = None,
    skip_nonfinite: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Leave out up to N steps that are not finite."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: go on although something has changed.")
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="K|LIST", help="Train several seeds in one program: how many, or 0,1,5."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option(help="With several networks: auto, map (in turn) or vmap (side by side).")
    ] = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's event files, too.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(help="One of several processes that SLURM, MPI or Kubernetes started."),
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="JAX_COORDINATOR_ADDRESS",
            help="One of several processes, number 0 of which is there.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, envvar="JAX_NUM_PROCESSES", help="How many they are.")
    ] = None,
    process_id: Annotated[
        int | None, typer.Option(min=0, envvar="JAX_PROCESS_ID", help="Which one this is, from 0.")
    ] = None,
    heartbeat: Annotated[
        int, typer.Option(min=1, help="Seconds of silence after which a process counts as dead.")
    ] = 100,
    patience: Annotated[
        int, typer.Option(min=1, help="Seconds to wait for all processes at the beginning.")
    ] = 300,
) -> None:
    """Train the network of a config; without one, LeNet-5 on scikit-learn's digits."""
    from convax.training import distributed as processes_
    from convax.training.config import load_config, load_mesh
    from convax.training.loop import resume as resume_run
    from convax.training.loop import train as train_run
    from convax.training.progress import display_for_process
    from convax.training.run import free_name
    from convax.training.seeds import parse_seeds
    from convax.training.study import is_study, resume_study, train_study

    _one_of("--form", form, ("auto", "map", "vmap"))
    if distributed or coordinator is not None:
        place = processes_.Place(coordinator, processes, process_id)
        processes_.start(place, heartbeat=heartbeat, patience=patience)
    display = display_for_process()
    if resume is not None:
        others = [override for override in overrides or [] if not override.startswith("mesh")]
        if out or others or config != DEFAULT_CONFIG or seeds or form != "auto" or tensorboard:
            _refuse(
                "--resume takes the run's own config: leave out CONFIG, --out, --seeds, --form, "
                "--tensorboard, and every --set but those of mesh"
            )
        if is_study(resume):
            if skip_nonfinite is not None or overrides:
                _refuse("--skip-nonfinite, --set: are for single runs; a study has its config")
            with _final_interrupt():
                study = resume_study(resume, display=display, force=force)
            _print_study(study.path)
            return
        mesh = load_mesh(overrides) if overrides else None
        with _final_interrupt():
            run = resume_run(
                resume, mesh=mesh, display=display, force=force, skip_nonfinite=skip_nonfinite
            )
    else:
        if force:
            _refuse("--force goes with --resume: a new run has nothing that could have changed")
        overrides = list(overrides or [])
        if skip_nonfinite is not None:
            overrides.append(f"training.skip_nonfinite={skip_nonfinite}")
        if tensorboard:
            overrides.append("records.tensorboard=true")
        experiment = load_config(config, overrides)
        out = out or free_name(Path("runs"), Path(config).stem)
        if seeds is not None or experiment.sweep is not None:
            with _final_interrupt():
                study = train_study(
                    experiment,
                    out,
                    seeds=[] if seeds is None else parse_seeds(seeds, experiment.seed),
                    form=None if form == "auto" else form,  # type: ignore[arg-type] -- one of them
                    beside=_folder_of(config),
                    display=display,
                )
            _print_study(study.path)
            return
        if form != "auto":
            _refuse("--form: is for several networks: give --seeds, or a config with a [sweep]")
        with _final_interrupt():
            run = train_run(experiment, out, beside=_folder_of(config), display=display)
    if not processes_.is_first():
        return
    print(f"run: {run.path}  (pictures in {run.plots})")
    print(f"next: convax evaluate {run.path}   convax predict {run.path} IMAGE...")


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
    as_json: JsonOption = False,
) -> None:
    """Loss, accuracy (or what else the task measures) and the count of examples on a split."""
    from convax.training.evaluation import evaluate as evaluate_run
    from convax.training.progress import describe

    _one_of("--split", split, ("train", "validation", "test"))
    _one_of("--checkpoint", checkpoint, ("best", "last"))
    record = evaluate_run(run, split, checkpoint=checkpoint, raw=raw).as_record()
    if as_json:
        print(json.dumps(record))
    else:
        print(f"{split}: {describe(record)}")


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Picture files, any size or colour.")
    ],
    invert: Annotated[
        bool, typer.Option(help="Swap black and white, e.g. for ink on paper given to MNIST.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="The folder for masks; beside each picture by default.")
    ] = None,
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
    as_json: JsonOption = False,
) -> None:
    """The class of each picture, with its probability; its mask; or what lies nearest to it."""
    from convax.training.data import DataError
    from convax.training.inference import load
    from convax.training.task import Question

    _one_of("--checkpoint", checkpoint, ("best", "last"))
    predictor = load(run, checkpoint=checkpoint, raw=raw)
    say = predictor.task.predict(predictor, run)
    failed = False
    for file in images:
        try:
            said = say(Question(file, invert, top, out))
        except DataError as error:
            _complain(str(error))
            failed = True
            continue
        print(json.dumps(said.record) if as_json else said.text)
    if failed:
        raise typer.Exit(2)


@app.command()
def summary(
    config: ConfigArgument = DEFAULT_CONFIG,
    overrides: SetOption = None,
    lowering: Annotated[
        bool, typer.Option(help="Show which form each convolution takes on CPU.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Each layer's output shape, parameters, FLOPs, activation memory and receptive field."""
    from convax.training.config import load_config
    from convax.training.experiment import summarize_config

    found, assumed = summarize_config(load_config(config, overrides or []), _folder_of(config))
    if assumed:
        print(f"note: {assumed}", file=sys.stderr)
    print(json.dumps(found.as_dict()) if as_json else found.as_table(lowering=lowering))


@app.command("lr-find")
def lr_find(
    config: ConfigArgument = DEFAULT_CONFIG,
    out: Annotated[
        Path | None, typer.Option(help="The folder for two files; runs/NAME-lr by default.")
    ] = None,
    low: Annotated[float, typer.Option("--from", help="The first learning rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--to", help="The last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="How many steps, at most.")] = 200,
    overrides: SetOption = None,
) -> None:
    """Search a learning rate: raise it at every step until the loss breaks."""
    from convax.training.config import load_config
    from convax.training.lr_finder import find_learning_rate
    from convax.training.progress import display_for_stdout
    from convax.training.run import free_name

    experiment = load_config(config, overrides or [])
    out = out or free_name(Path("runs"), f"{Path(config).stem}-lr")
    found = find_learning_rate(
        experiment,
        out,
        low=low,
        high=high,
        steps=steps,
        beside=_folder_of(config),
        display=display_for_stdout(),
    )
    end = "the loss had diverged" if found.diverged else "the end of the ramp"
    print(f"{len(found.loss)} steps, to {found.learning_rate[-1]:.3g}: {end}")
    print(f"suggestion ({found.rule}): --set optimizer.learning_rate={found.suggestion:.2g}")
    print(f"picture: {out / 'lr-find.png'}")


@app.command()
def augment(
    config: ConfigArgument = DEFAULT_CONFIG,
    out: Annotated[
        Path | None, typer.Option(help="The .png file to write; NAME-augmented.png by default.")
    ] = None,
    overrides: SetOption = None,
) -> None:
    """Draw training images as [augment] changes them from epoch to epoch; masks over them."""
    from convax.training.config import load_config
    from convax.training.report_augment import draw

    name = Path(config).stem
    out = out or Path(f"{name}-augmented.png")
    if out.suffix.lower() != ".png":
        _refuse(f"--out: got {str(out)!r}, need a name that ends with .png")
    print(draw(load_config(config, overrides or []), out, title=name, beside=_folder_of(config)))


@app.command()
def configs(
    name: Annotated[str | None, typer.Argument(help="Print this one, to copy and edit.")] = None,
    schema: Annotated[bool, typer.Option(help="Print the JSON Schema, for editors.")] = False,
) -> None:
    """The configs that ship with convax."""
    from convax.training.config import json_schema, read_source, shipped_configs

    if schema:
        print(json.dumps(json_schema(), indent=2))
    elif name:
        print(read_source(name)[1], end="")
    else:
        shipped = shipped_configs()
        width = max(map(len, shipped))
        for title, text in shipped.items():
            print(f"{title:{width}}  {text.partition(chr(10))[0].lstrip('# ')}")


@app.command()
def report(run: RunArgument, checkpoint: CheckpointOption = "best") -> None:
    """Print the figures of a run and draw its pictures anew."""
    from convax.training.report import report as draw
    from convax.training.report import results_table
    from convax.training.run import open_run

    _one_of("--checkpoint", checkpoint, ("best", "last"))
    rows = results_table(open_run(run))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label:{width}}  {value}")
    for path in draw(run, checkpoint):
        print(path)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories, and studies.")
    ],
    out: Annotated[Path, typer.Option(help="The picture to make.")] = Path("compare.png"),
    as_json: JsonOption = False,
) -> None:
    """Runs side by side: figures, steps, time, the config keys in which they differ, curves."""
    from convax.training.compare import compare as compare_runs
    from convax.training.compare import draw, table

    rows = compare_runs(runs)
    if as_json:
        print(json.dumps([row.as_record() for row in rows]))
    else:
        print("\n".join(table(rows)))
    draw(rows, out)
    if not as_json:
        print(out)


@app.command()
def weights(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to make.")],
    torch: Annotated[
        bool,
        typer.Option("--torch", help="As a state dict of PyTorch's, in its names and layouts."),
    ] = False,
    checkpoint: CheckpointOption = "best",
    raw: RawOption = False,
) -> None:
    """Write the weights of a run to one safetensors file."""
    from convax.training.trained import save_run_weights

    _one_of("--checkpoint", checkpoint, ("best", "last"))
    save_run_weights(run, out, checkpoint=checkpoint, torch=torch, raw=raw)
    print(out)


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="Which data to download: mnist or cifar10.")],
    directory: Annotated[
        Path | None, typer.Option(help="Where to; by default where `train` looks.")
    ] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="A URL to try before the known ones.")
    ] = None,
) -> None:
    """Download a dataset, with its checksums verified."""
    from convax.training.data import fetch as download

    print(download(dataset, directory, mirrors=mirror))


@app.command()
def doctor() -> None:
    """Check this installation: versions, devices, data, and one gradient."""
    from convax.doctor import examine

    healthy = True
    for finding in examine():
        healthy = healthy and finding.fine
        print(f"{'ok  ' if finding.fine else 'FAIL'}  {finding.subject:12}  {finding.text}")
    if not healthy:
        raise typer.Exit(1)


@contextmanager
def _final_interrupt() -> Iterator[None]:
    """A second Ctrl-C, which does not wait for the state to be saved, is a line too."""
    try:
        yield
    except KeyboardInterrupt:
        _complain(
            "stopped at once by Ctrl-C; `convax train --resume RUN` goes on from what is saved"
        )
        raise typer.Exit(130) from None


def _print_study(path: Path) -> None:
    print(f"study: {path}  (results.json, results.csv, pictures in {path / 'plots'})")
    print(f"next: convax compare {path}   and with each run in it what a run is for")


def _folder_of(config: str) -> Path | None:
    """Where a relative data path of a config file begins; a shipped config has no folder."""
    return Path(config).parent if Path(config).is_file() else None


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        _refuse(f"{option}: got {value!r}, need one of {', '.join(known)}")


def _refuse(problem: str) -> NoReturn:
    _complain(problem)
    raise typer.Exit(2)


def _complain(problem: str) -> None:
    print(f"error: {problem}", file=sys.stderr)


def main() -> None:
    """Run the command line; every error becomes a line and an exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        # Collectives hold on to a thread each: with too few, devices wait for each other forever.
        os.environ.setdefault("NPROC", "64")
    try:
        app()
    except Exception as error:
        code = _explain(error)
        if _leaves_others(error):
            sys.stdout.flush()
            os._exit(code)  # JAX would wait for the others, who wait for this process
        sys.exit(code)


def _leaves_others(error: Exception) -> bool:
    """See `training.distributed`, which is only there where it was needed."""
    distributed = sys.modules.get("convax.training.distributed")
    return distributed is not None and distributed.leaves_others(error)


def _explain(error: Exception) -> int:
    """Print what went wrong, and return the exit code."""
    if type(error).__module__.startswith("convax."):
        _complain(str(error))
        if type(error).__name__ == "InterruptedRun":
            return 128 + getattr(error, "signum", 2)
        if type(error).__name__ == "LostProcessError":
            return LOST
        return 1 if type(error).__name__ == "NonFiniteError" else 2
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        _complain(f"{where}{error.strerror}")
        return 2
    if os.environ.get("CONVAX_DEBUG"):
        raise error
    _complain(
        f"{type(error).__name__}: {error}\n"
        "this looks like a bug in convax; run again with CONVAX_DEBUG=1 for the traceback"
    )
    return 1
