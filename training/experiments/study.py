"""A study: several runs of one config in one directory, and their results together.

study.toml       the config, every default written out, with its [sweep] if it has one
study.json       the members and what is each one's own; the form of the program; versions, status
seed-0/ ...      each an ordinary run directory (point-0/ ... of a sweep)
results.json     each run's figures; mean and standard deviation at each evaluation, and of the test
                 (of a sweep, the best run)
results.csv      a line for each run
plots/           curves with mean and band; of a sweep, the metric against each key

Runs that one program can train (`training.experiments.traced_hparams`) are trained together
(`training.experiments.batched_loop`), the others one program after the other.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from ..common import atomic_io
from ..common.text import text_of_name
from ..config.schema import Config, ConfigError, to_toml
from ..experiment import Experiment, reopen, resolve_data_path, with_data_path
from ..initialize import resolve_weights_path
from ..loop.checkpointing import disk_watched
from ..loop.nonfinite import NonFiniteError
from ..loop.progress import Display, Silent
from ..loop.resume import repair
from ..loop.signals import InterruptedRun
from ..loop.tensorboard import check_logging
from ..plots import figures
from ..plots.attempt import attempt, draw_each
from ..plugins.modules import sources_of
from ..run import checkpoint, lock
from ..run.directory import (
    Run,
    RunError,
    as_json,
    circumstances,
    create_run,
    exists_already,
    open_run,
    refuse_existing,
    write_json,
)
from ..run.metrics_log import holds
from ..run.study_directory import FILE, Keys, Study
from .batched_loop import Member, fit_together
from .batched_program import Batching, default_batching
from .results import as_csv, as_table, band_figure, best_lines, results_of, spread_lines
from .sweep import keys_of, member_config, points
from .sweep_plot import draw_sweep
from .traced_hparams import prepare_members, program_of


def seed_members(seeds: Sequence[int]) -> dict[str, Keys]:
    """Return the members of a study of one config with several seeds."""
    return {f"seed-{seed}": {"seed": seed} for seed in seeds}


def fold_members(folds: int) -> dict[str, Keys]:
    """Return the members of a cross-validation."""
    return {f"fold-{i}": {"data.fold": f"{i}/{folds}"} for i in range(1, folds + 1)}


def train_study(
    config: Config,
    out: str | Path,
    *,
    seeds: Sequence[int] = (),
    folds: int = 0,
    batching: Batching | None = None,
    config_dir: str | Path | None = None,
    display: Display | None = None,
) -> Study:
    """Train several runs of a config: with these seeds, or those of its [sweep]; or of these folds.

    Args:
        config: the experiment.
        out: the directory to make.
        seeds: for a config without a [sweep]; each run is what it would be alone with that seed,
            its split of the data included, up to rounding.
        folds: cross-validation, for a config without a [sweep], and in place of seeds: so many
            runs, each of which is validated on another part of the data, see `data.split`.
        batching: of the program, see `training.experiments.batched_program`; by default the one
            that was faster when it was measured on such a device.
        config_dir: the folder of the config file, for a relative ``data.path``.
        display: where progress goes; nowhere by default.

    Raises:
        ConfigError, DataError, LayerError, RunError: what was asked for cannot be done.
        NonFiniteError: all runs diverged.
        InterruptedRun: Ctrl-C, SIGTERM or SIGHUP; all states were saved.
    """
    check_logging(config)
    refuse_existing(Path(out))  # before data are read
    folder = None if config_dir is None else Path(config_dir)
    config = resolve_weights_path(resolve_data_path(config, folder), folder)
    if folds and (seeds or config.sweep is not None):
        raise ConfigError("folds: for one config and seed; leave out the seeds, or the [sweep]")
    if not folds and bool(seeds) == (config.sweep is not None):
        raise ConfigError(
            "sweep: name the seeds in the sweep, e.g. keys.seed = [0, 1, 2]"
            if seeds
            else "sweep: missing; a study needs seeds or a [sweep]"
        )
    if config.mesh is not None:
        raise ConfigError("mesh: several networks in one program use one device; leave out [mesh]")
    members = fold_members(folds) or seed_members(seeds) or points(config)
    # All that can be wrong is to be said before anything is made.
    programs = _programs(config, members)
    ready = [prepare_members(list(configs.values())) for configs in programs[:1]]
    for configs in programs[1:]:
        prepare_members(list(configs.values()))
    study = _create(config, Path(out), members, batching or default_batching())
    with lock.held(study.path):
        _go_on(study, display or Silent(), ready[0])
    return study


def resume_study(
    path: str | Path,
    *,
    display: Display | None = None,
    force: bool = False,
    data_path: Path | None = None,
) -> Study:
    """Continue a study to the same bytes as if it had never stopped.

    Args:
        path: the directory.
        display: where progress goes; nowhere by default.
        force: as for `loop.resume`, for each of its runs.
        data_path: where its data lie by now, if they were moved; its configs say so from here on.

    Raises:
        RunError: it is finished already, or in use; or one of its runs has changed or is damaged.
    """
    study = Study(Path(path))
    with lock.held(study.path):
        if study.info()["status"] == "finished":
            raise RunError(f"{path}: this study is finished; nothing to resume")
        check_logging(study.config())
        if not force:
            _check_ended(study)
        if data_path is not None:
            _move_data(study, data_path)
            (display or Silent()).note(
                f"data: {data_path}: those of the study, by their fingerprint"
            )
        _go_on(study, display or Silent(), force=force)
    return study


def _move_data(study: Study, data_path: Path) -> None:
    """Write into the configs of a study, and of its runs, where their data lie by now."""
    runs = [study.run(name) for name in study.members if study.run(name).path.is_dir()]
    configs = [reopen(run.path, data_path)[1].config for run in runs]  # all are right, or none
    for run, config in zip(runs, configs, strict=True):
        run.write_config(config)
    moved = with_data_path(study.config(), data_path)
    atomic_io.atomic_write(study.path / "study.toml", to_toml(moved).encode())


def _check_ended(study: Study) -> None:
    """Raise where a finished run is damaged: it is not trained again, but its results are read."""
    for name in study.members:
        run = study.run(name)
        if not _has_ended(run) or run.info()["status"] != "finished":
            continue
        if problem := _damage_of(run):
            raise RunError(
                f"{problem}; {name} is finished: restore it, or go on with the others: "
                f"{run.again} --force"
            )


def _damage_of(run: Run) -> str | None:
    """Say what is damaged of a finished run: a checkpoint, a pointer to one, or the metrics."""
    folder = run.checkpoints
    try:
        last = checkpoint.pointed(folder, "last")
        for name in {last, checkpoint.pointed(folder, "best")}:
            checkpoint.check(folder, name)
        memory = checkpoint.read_manifest(folder / last)["memory"]
    except checkpoint.CheckpointError as error:
        return str(error)
    best, metrics = memory.get("best_step"), memory.get("metrics")
    if best is not None and checkpoint.named(folder, "best") != checkpoint.name_of(best):
        return f"{folder / 'best'}: damaged: the best checkpoint is that of step {best}"
    if metrics is not None and not holds(run.metrics_file, metrics):
        return f"{run.metrics_file}: damaged: its lines are not those that were logged"
    return None


def _programs(config: Config, members: Mapping[str, Keys]) -> list[dict[str, Config]]:
    """The configs of the members, by name, in groups that one program can train."""
    groups: dict[str, dict[str, Config]] = {}
    for name, keys in members.items():
        own = member_config(config, keys)
        groups.setdefault(program_of(own), {})[name] = own
    return list(groups.values())


def _create(config: Config, out: Path, members: Mapping[str, Keys], batching: Batching) -> Study:
    """Make its directory, all of it or nothing."""
    refuse_existing(out)
    about = {"status": "running", "form": batching, "members": dict(members)} | circumstances()
    files = [("study.toml", to_toml(config).encode()), (FILE, as_json(about))]
    if config.plugins is not None:
        files += sources_of(config.plugins.modules)
    try:
        atomic_io.atomic_write_dir(out, files)
    except OSError as error:
        if out.exists():  # somebody was faster
            raise exists_already(out) from None
        raise RunError(f"{out}: cannot be created: {error.strerror}") from None
    return Study(out)


def _go_on(
    study: Study,
    display: Display,
    ready: list[Experiment] | None = None,
    *,
    force: bool = False,
) -> None:
    """Train what is not trained yet, program after program; then write the results.

    The first program's experiments may be ready.
    """
    config, info = study.config(), study.info()
    programs = _programs(config, info["members"])
    with closing(display):
        _train_programs(study, programs, display, ready, force)
    with disk_watched(Run(study.path)):
        results = write_results(study)
        write_json(study.path / FILE, info | {"status": "finished"})
        lines = spread_lines(results) if config.sweep is None else best_lines(results)
        for line in [*as_table(results, config.early_stopping.metric), *lines]:
            display.note(line)
        attempt("all of them", lambda: _draw_results(study, results), None)
    if len(results["diverged"]) == len(results["members"]):
        raise NonFiniteError(
            f"{study.path}: all {len(results['members'])} networks diverged; lower "
            "optimizer.learning_rate or set optimizer.clip_norm"
        )


def _train_programs(study: Study, programs, display: Display, ready, force: bool) -> None:
    """One after the other, those that have not ended."""
    for number, configs in enumerate(programs, 1):
        if all(_has_ended(study.run(name)) for name in configs):
            continue
        if len(programs) > 1:
            display.note(f"program {number} of {len(programs)}: {', '.join(configs)}")
        experiments, ready = ready or prepare_members(list(configs.values())), None
        members = [
            _member(study, name, experiment)
            for name, experiment in zip(configs, experiments, strict=True)
        ]
        batching, whole = study.info()["form"], Run(study.path)
        signals = fit_together(members, batching, whole, display, force=force)
        if signals and number < len(programs):
            total = experiments[0].total_steps
            raise InterruptedRun(whole, total, total, signals[0])


def _has_ended(run: Run) -> bool:
    repair(run)
    return (run.path / "config.toml").is_file() and run.info()["status"] in (
        "finished",
        "diverged",
    )


def _member(study: Study, name: str, experiment: Experiment) -> Member:
    """A member, its run directory made where a kill came before that."""
    run = study.run(name)
    repair(run)
    if not run.path.exists():
        run = create_run(experiment.config, run.path, experiment.card)
    return Member(name, open_run(run.path), experiment)


def write_results(study: Study) -> dict[str, Any]:
    """Write the results of a study, as they stand.

    Returns:
        The results; see `results.results_of`.
    """
    members = {name: (study.run(name), keys) for name, keys in study.members.items()}
    results = results_of(members, sweep=study.config().sweep is not None)
    write_json(study.path / "results.json", results)
    atomic_io.atomic_write(study.path / "results.csv", as_csv(results).encode())
    return results


def _draw_results(study: Study, results: Mapping[str, Any]) -> None:
    config, plots = study.config(), study.path / "plots"
    good = [study.run(name) for name in study.members if name not in results["diverged"]]
    if not good:
        return
    title = f"{text_of_name(study.path.resolve().name)}: {len(good)} networks"

    def curves() -> Path:
        subtitle = "; ".join(spread_lines(results)) or "no validation and no test images"
        return figures.write(
            band_figure(good, title=title, subtitle=subtitle), plots / "curves.png"
        )

    def metric_against(key: str) -> Path:
        figure = draw_sweep(results, key, config.early_stopping.metric, title=title)
        return figures.write(figure, plots / f"{key}.png")

    with figures.style():
        if config.sweep is None:
            draw_each({"curves.png": curves})
        else:
            draw_each({f"{k}.png": partial(metric_against, k) for k in keys_of(config.sweep)})
