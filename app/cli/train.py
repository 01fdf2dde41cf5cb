"""Commands from a config to a trained network."""

import json
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convax.training.common.forgiving import Forgiving

from .options import (
    DEFAULT_CONFIG,
    ConfigArgument,
    JsonOption,
    MovedOption,
    QuietOption,
    SetOption,
    app,
    config_dir,
    exit_now,
    fail,
    say,
    show,
    validate_choice,
    warn,
)

if TYPE_CHECKING:
    from convax.training.run.directory import Run
    from convax.training.run.study_directory import Study


@app.command()
def train(
    config: ConfigArgument = DEFAULT_CONFIG,
    out: Annotated[
        Path | None, typer.Option(help="The run directory to write; runs/NAME by default.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue this run, or study.")
    ] = None,
    extend: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Train this finished run for longer, as a new run: --set training.epochs=20.",
        ),
    ] = None,
    overrides: SetOption = None,
    skip_nonfinite: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Skip up to N steps that are not finite; with --resume, N more from there on.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="With --resume or --extend: continue although something has changed."
        ),
    ] = False,
    data: MovedOption = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="K|LIST",
            help="Train several seeds in one program: their number, or a list such as 0,1,5.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1000,
            metavar="K",
            help="Cross-validate: train K runs, each validated on another K-th of the data.",
        ),
    ] = None,
    batching: Annotated[
        str,
        typer.Option(help="How to run several networks: auto, map (in turn) or vmap (at once)."),
    ] = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard event files, too.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(help="Run as one of several processes started by SLURM, MPI or Kubernetes."),
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="JAX_COORDINATOR_ADDRESS",
            help="Run as one of several processes; the address of process 0.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, envvar="JAX_NUM_PROCESSES", help="The number of processes.")
    ] = None,
    process_id: Annotated[
        int | None,
        typer.Option(min=0, envvar="JAX_PROCESS_ID", help="The index of this process, from 0."),
    ] = None,
    heartbeat_timeout: Annotated[
        int,
        typer.Option(
            min=1, help="Seconds without a heartbeat after which a process counts as dead."
        ),
    ] = 100,
    startup_timeout: Annotated[
        int, typer.Option(min=1, help="Seconds to wait for all processes to start.")
    ] = 300,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the network of a config.

    Without a config: LeNet-5 on scikit-learn's digits.
    """
    from convax.inference.compile_cache import enable_compile_cache
    from convax.training.distributed import processes as several

    validate_choice("--batching", batching, ("auto", "map", "vmap"))
    if distributed or coordinator is not None:
        place = several.ProcessSpec(coordinator, processes, process_id)
        several.start(place, heartbeat_timeout=heartbeat_timeout, startup_timeout=startup_timeout)
    enable_compile_cache()
    if resume is not None:
        others = [override for override in overrides or [] if not override.startswith("mesh")]
        changed = out or others or config != DEFAULT_CONFIG or seeds or folds or batching != "auto"
        if changed or tensorboard or extend:
            fail(
                "--resume takes the run's own config: leave out CONFIG, --out, --seeds, "
                "--folds, --batching, --tensorboard, --extend, and every --set except those of mesh"
            )
        done = _resumed(resume, overrides, skip_nonfinite, force, data, quiet=quiet or as_json)
    else:
        if force and extend is None:
            fail("--force: is for --resume and --extend only; leave it out for a new run")
        if data is not None:
            fail(f"--data: is for --resume only; write --set data.path={data} for a new run")
        overrides = list(overrides or [])
        if skip_nonfinite is not None:
            overrides.append(f"training.skip_nonfinite={skip_nonfinite}")
        if tensorboard:
            overrides.append("logging.tensorboard=true")
        if extend is not None:
            if config != DEFAULT_CONFIG or seeds or folds or batching != "auto":
                fail(
                    "--extend takes the config of RUN: leave out CONFIG, --seeds, --folds and "
                    "--batching"
                )
            done = _extended(extend, out, overrides, force, quiet=quiet or as_json)
        else:
            done = _trained(config, out, overrides, seeds, folds, batching, quiet=quiet or as_json)
    if several.is_first():
        _announce(done, as_json=as_json)


def _resumed(
    path: Path,
    overrides: list[str] | None,
    skip_nonfinite: int | None,
    force: bool,
    data: Path | None,
    *,
    quiet: bool,
) -> "Run | Study":
    from convax.training.config.schema import load_mesh
    from convax.training.experiments.study import resume_study
    from convax.training.loop.loop import resume
    from convax.training.loop.progress import display_for_command
    from convax.training.run.study_directory import is_study

    display = display_for_command(quiet=quiet)
    if is_study(path):
        if skip_nonfinite is not None or overrides:
            fail("--skip-nonfinite, --set: are for single runs; leave them out to resume a study")
        with _final_interrupt():
            return resume_study(path, display=display, force=force, data_path=data)
    mesh = load_mesh(overrides) if overrides else None
    with _final_interrupt():
        return resume(
            path,
            mesh=mesh,
            display=display,
            force=force,
            skip_nonfinite=skip_nonfinite,
            data_path=data,
        )


def _extended(
    run: Path, out: Path | None, overrides: list[str], force: bool, *, quiet: bool
) -> "Run":
    from convax.training.loop.extend import extend
    from convax.training.loop.progress import display_for_command
    from convax.training.run.directory import free_name

    out = out or free_name(Path("runs"), f"{run.resolve().name}-extended")
    display = display_for_command(quiet=quiet)
    with _final_interrupt():
        return extend(run, out, overrides, display=display, force=force)


def _trained(
    config: str,
    out: Path | None,
    overrides: list[str],
    seeds: str | None,
    folds: int | None,
    batching: str,
    *,
    quiet: bool,
) -> "Run | Study":
    from convax.training.config.schema import load_config
    from convax.training.experiments.seeds import parse_seeds
    from convax.training.experiments.study import train_study
    from convax.training.loop.loop import train
    from convax.training.loop.progress import display_for_command
    from convax.training.run.directory import free_name

    display = display_for_command(quiet=quiet)
    experiment = load_config(config, overrides)
    out = out or free_name(Path("runs"), Path(config).stem)
    if seeds is None and folds is None and experiment.sweep is None:
        if batching != "auto":
            fail(
                "--batching: is for several networks; add --seeds or --folds, or a [sweep] to the "
                "config"
            )
        with _final_interrupt():
            return train(experiment, out, config_dir=config_dir(config), display=display)
    with _final_interrupt():
        return train_study(
            experiment,
            out,
            seeds=[] if seeds is None else parse_seeds(seeds, experiment.seed),
            folds=folds or 0,
            batching=None if batching == "auto" else batching,  # type: ignore[arg-type] -- one of them
            config_dir=config_dir(config),
            display=display,
        )


def _announce(done: "Run | Study", *, as_json: bool) -> None:
    """Print what was made, and what to do with it."""
    from convax.training.run.directory import Run

    path, plots = shlex.quote(str(done.path)), done.path / "plots"
    record: dict[str, Any] = {"path": str(done.path)}
    if isinstance(done, Run):
        info = done.info()
        record |= {"status": info["status"], "result": info.get("result")}
        lines = [f"run: {done.path}  (figures in {plots})"]
        lines += [f"next: convax evaluate {path}   convax predict {path} IMAGE..."]
    else:
        lines = [f"study: {done.path}  (results.json, results.csv, figures in {plots})"]
        lines += [f"next: convax compare {path}   and evaluate, predict, report for each run in it"]
        record["results"] = str(done.path / "results.json")
    if as_json:
        print(json.dumps(record), file=Forgiving(sys.stdout), flush=True)
    else:
        say("\n".join(lines), file=Forgiving(sys.stdout), flush=True)


@app.command()
def summary(
    config: ConfigArgument = DEFAULT_CONFIG,
    overrides: SetOption = None,
    lowering: Annotated[
        bool, typer.Option(help="Show the implementation of each convolution on CPU.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Summarize a network layer by layer.

    Shows output shapes, parameters, FLOPs, activation memory and receptive fields.
    """
    from convax.training.config.schema import load_config
    from convax.training.experiment import summarize_config

    found, assumed = summarize_config(load_config(config, overrides or []), config_dir(config))
    if assumed:
        say(f"note: {assumed}", file=sys.stderr)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        say(found.as_table(lowering=lowering))


@app.command("lr-find")
def lr_find(
    config: ConfigArgument = DEFAULT_CONFIG,
    out: Annotated[
        Path | None, typer.Option(help="The folder for the results; runs/NAME-lr by default.")
    ] = None,
    low: Annotated[float, typer.Option("--from", help="The first learning rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--to", help="The last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="The largest number of steps.")] = 200,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search for a learning rate.

    Raises the learning rate at every step until the loss diverges.
    """
    from convax.inference.compile_cache import enable_compile_cache
    from convax.training.config.schema import load_config
    from convax.training.loop.progress import display_for_command
    from convax.training.lr_finder import find_learning_rate
    from convax.training.run.directory import free_name

    enable_compile_cache()
    experiment = load_config(config, overrides or [])
    out = out or free_name(Path("runs"), f"{Path(config).stem}-lr")
    found = find_learning_rate(
        experiment,
        out,
        low=low,
        high=high,
        steps=steps,
        config_dir=config_dir(config),
        display=display_for_command(quiet=quiet or as_json),
    )
    end = "the loss had diverged" if found.diverged else "the end of the ramp"
    figure = out / "lr-find.png"
    lines = [f"{len(found.loss)} steps, to {found.learning_rate[-1]:.3g}: {end}"]
    if found.suggestion is None:
        lines.append(f"no suggestion: {found.rule}")
    else:
        value = f"{found.suggestion:.2g}"
        lines.append(f"suggestion ({found.rule}): --set optimizer.learning_rate={value}")
    record = {"suggestion": found.suggestion, "rule": found.rule, "diverged": found.diverged}
    record |= {"steps": len(found.loss), "figure": str(figure)}
    show("\n".join([*lines, f"figure: {figure}"]), record, as_json=as_json)


@app.command("data")
def show_data(
    config: ConfigArgument = DEFAULT_CONFIG,
    sheet: Annotated[
        Path | None, typer.Option(help="A .png file to draw training images of each class into.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at the data of a config.

    Counts images of each class and split; finds images with the same pixels, blank ones, and what
    the reader passed over.
    """
    from convax.training.config.schema import load_config
    from convax.training.report.data_summary import summarize_data

    if sheet is not None and sheet.suffix.lower() != ".png":
        fail(f"--sheet: got {str(sheet)!r}, need a name that ends with .png")
    experiment = load_config(config, overrides or [])
    found = summarize_data(experiment, config_dir=config_dir(config), sheet=sheet)
    show(found.as_text(), found.as_dict(), as_json=as_json)


@app.command("preview-augment")
def preview_augment(
    config: ConfigArgument = DEFAULT_CONFIG,
    out: Annotated[
        Path | None, typer.Option(help="The .png file to write; NAME-augmented.png by default.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw augmented training images.

    Shows them as [augment] changes them from epoch to epoch, with masks or boxes over them.
    """
    from convax.training.config.schema import load_config
    from convax.training.report.augmentation import draw

    name = Path(config).stem
    out = out or Path(f"{name}-augmented.png")
    if out.suffix.lower() != ".png":
        fail(f"--out: got {str(out)!r}, need a name that ends with .png")
    experiment = load_config(config, overrides or [])
    drawn = draw(experiment, out, title=name, config_dir=config_dir(config))
    show(drawn, {"path": drawn}, as_json=as_json)


@app.command()
def configs(
    name: Annotated[str | None, typer.Argument(help="Print this config, to copy and edit.")] = None,
    schema: Annotated[
        bool,
        typer.Option(
            help="Print the JSON Schema of configs, for editors; with a config file, what its "
            "[plugins] register too."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the configs that ship with convax."""
    from convax.training.config.files import read_source, shipped_configs
    from convax.training.config.schema import json_schema

    if schema:
        print(json.dumps(json_schema(name), indent=2))
    elif name:
        text = read_source(name)[1]
        show(text.removesuffix("\n"), tomllib.loads(text), as_json=as_json)
    else:
        titles = {
            shipped: text.partition("\n")[0].lstrip("# ")
            for shipped, text in shipped_configs().items()
        }
        width = max(map(len, titles))
        lines = [f"{shipped:{width}}  {title}" for shipped, title in titles.items()]
        show("\n".join(lines), titles, as_json=as_json)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories and studies.")
    ],
    out: Annotated[Path, typer.Option(help="The figure to write.")] = Path("compare.png"),
    as_json: JsonOption = False,
) -> None:
    """Compare runs side by side.

    Prints status, metrics, steps, time and the config keys that differ; draws the curves.
    """
    from convax.training.experiments.compare import compare as compare_runs
    from convax.training.experiments.compare import draw, table

    rows = compare_runs(runs)
    if as_json:
        print(json.dumps([row.as_record() for row in rows]))
    else:
        say("\n".join(table(rows)))
    draw(rows, out)
    if not as_json:
        say(out)


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="The dataset: mnist or cifar10.")],
    directory: Annotated[
        Path | None,
        typer.Option(
            help="The folder to download into; by default the data folder that `train` reads."
        ),
    ] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="A URL to try before the known ones; repeatable.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds that all of it may take; what came is kept.")
    ] = 3600,
    as_json: JsonOption = False,
) -> None:
    """Download a dataset.

    Verifies the checksums.
    """
    from convax.training.data import fetch as download

    folder = download(dataset, directory, mirrors=mirror, time_limit=time_limit)
    show(folder, {"path": folder}, as_json=as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check this installation.

    Checks versions, devices, data, and one gradient.
    """
    from convax.cli.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            say(f"{'ok  ' if finding.fine else 'FAIL'}  {finding.subject:12}  {finding.text}")
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings]))
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


@contextmanager
def _final_interrupt() -> Iterator[None]:
    """Print a line for a second Ctrl-C, too, which does not wait for the state to be saved."""
    from convax.training.distributed.processes import must_abort

    try:
        yield
    except KeyboardInterrupt as stop:
        warn(
            "stopped at once by Ctrl-C; `convax train --resume RUN` continues from the last "
            "checkpoint"
        )
        if must_abort(stop):
            exit_now(130)
        raise typer.Exit(130) from None
