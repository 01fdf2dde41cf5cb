"""The training loop: from a config to a run directory with a trained, tested network.

The batch at step t, and every random number used on it, is a pure function of (seed, t), and all
that decides the future is in the checkpoint. So a run that was killed and resumed ends with the
same bytes as one that was left alone. The device takes several steps a call
(`training.loop.chunks`), which changes none of them; the loop over these calls, which is that of a
study too, is `training.loop.chunk_loop`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from ...model import Layer
from ..common.memory import format_bytes, peak_bytes
from ..common.pytree_paths import named_leaves
from ..config.from_python import ConfigLike, tables_of
from ..config.given import Objects, attach, put_in
from ..config.schema import Config, ConfigError, Mesh, checked
from ..config_data import given_data
from ..data import Arrays, Dataset
from ..distributed import processes
from ..distributed.sharding import ShardingPlan, sharding_plan
from ..evaluation import evaluate_split, make_eval_step_of
from ..experiment import Experiment, prepare, reopen, resolve_data_path
from ..initialize import init_from_source, resolve_weights_path
from ..plots.attempt import attempt
from ..plugins.register import register_metrics
from ..plugins.tables import without_module
from ..report.figures import draw_experiment, reported_split
from ..run import checkpoint, lock
from ..run.directory import Run, RunError, create_run, open_run, refuse_existing, study_of
from ..run.provenance import convolutions_in_use
from ..step.train_step import GradientTransformation
from ..tasks.metric_names import format_metrics
from .callbacks import CallbackError, check_callbacks, names_of
from .checkpointing import LoopState, disk_watched
from .chunk_loop import ChunkLoop
from .context import LoopContext, StartPoint, make_context
from .final import finalize
from .progress import Display, Silent
from .recorder import TrainingRecorder
from .resume import ResumePoint, allow_nonfinite, find_resume_point, lacks_dataset, repair
from .signals import signals_noted
from .single_program import SingleProgram
from .tensorboard import check_logging
from .tracking import followed


def train(
    config: ConfigLike,
    out: str | Path,
    *,
    data: Dataset | Arrays | None = None,
    net: Layer | None = None,
    loss: Callable[..., Any] | Layer | None = None,
    optimizer: GradientTransformation | None = None,
    augment: Callable[..., Any] | None = None,
    metrics: Sequence[Callable[..., Any]] = (),
    callbacks: Sequence[Any] = (),
    config_dir: str | Path | None = None,
    display: Display | None = None,
) -> Run:
    """Train the network of a config into a new run directory.

    Args:
        config: the experiment: a config, the name of a shipped one, a file, or its tables as a
            dict, which may lack those that the objects below replace.
        out: the run directory to make.
        data: images and labels in memory, in place of the data that the config names, and split as
            it says: see `training.data.load_memory`. The run does not keep them.
        net: the network, in place of ``[model]``.
        loss: ``loss(outputs, targets) -> (N,)``, or a layer of both, in place of ``[loss]``.
        optimizer: of optax or like it, in place of ``[optimizer]`` and ``[schedule]``: its learning
            rate, clipping and groups are its own.
        augment: ``augment(key, image)`` of an image ``(H, W, C)`` in [0, 1], in place of
            ``[augment]``. The run keeps none of these four: `resume`, `evaluate` and `load` are to
            be given what they need of them again.
        metrics: ``metric(outputs, labels)`` each, figures beside those of the task: they are
            registered (`plugins.register`) under their names, and join ``[[metrics]]``.
        callbacks: objects that look on, beside those that the config names: see
            `training.loop.callbacks`.
        config_dir: the folder of the config file, for a relative ``data.path``; that of `config`
            by default, where it is a file.
        display: where progress goes; nowhere by default.

    Returns:
        The finished run.

    Raises:
        ConfigError, DataError, LayerError, RunError: what was asked for cannot be done.
        NonFiniteError: training diverged; the last good checkpoint is kept.
        InterruptedRun: Ctrl-C, SIGTERM or SIGHUP; the state was saved.
    """
    check_callbacks(callbacks)
    objects = Objects(net, loss, optimizer, augment)
    config, replaced, beside = _with_objects(config, objects, metrics)
    if config.sweep is not None:
        raise ConfigError(
            "sweep: this config makes several runs; `convax train` or training.experiments.study "
            "trains them"
        )
    check_logging(config)
    folder, display = beside if config_dir is None else Path(config_dir), display or Silent()
    out = Path(processes.broadcast_str(str(out)))
    with processes.detect_peer_loss(out), ExitStack() as stack:
        with processes.barrier("begin"):
            if processes.is_first():  # before data are read
                refuse_existing(out)
            dataset = None
            if data is not None:
                config, dataset = given_data(config, data)
            attach(config, objects, call="convax.train(CONFIG, OUT")
            config = resolve_weights_path(resolve_data_path(config, folder), folder)
            experiment = prepare(config, dataset)
            plan = sharding_plan(experiment)
            train_state, report = init_from_source(experiment)
        _check_processes(experiment)
        with processes.barrier("make the run directory"):
            run = processes.ReadOnlyRun(out)
            if processes.is_first():
                run = create_run(config, out, experiment.card)
                stack.enter_context(lock.held(run.path))
                display = stack.enter_context(followed(run, config, display))
        start = StartPoint(train_state, init_report=report)
        for line in replaced:
            display.note(line)
        _fit(run, experiment, plan, start, display, callbacks)
    return run


def _with_objects(
    config: ConfigLike, objects: Objects, metrics: Sequence[Callable[..., Any]]
) -> tuple[Config, list[str], Path | None]:
    """Return a config with objects in place of what it names, a line for each, and its folder."""
    if isinstance(config, Config) and not (objects.names or metrics):
        return config, [], None
    where, raw, folder = tables_of(config)
    replaced = put_in(raw, objects)
    if metrics:
        before = raw.get("metrics", [])
        named = {entry.get("name") for entry in before}
        new = [name for name in register_metrics(metrics) if name not in named]
        raw["metrics"] = [*before, *({"name": name} for name in new)]
    return checked(raw, where, folder=folder), replaced, folder


def resume(
    path: str | Path,
    *,
    mesh: Mesh | None = None,
    display: Display | None = None,
    force: bool = False,
    skip_nonfinite: int | None = None,
    data: Dataset | Arrays | None = None,
    data_path: Path | None = None,
    net: Layer | None = None,
    loss: Callable[..., Any] | Layer | None = None,
    optimizer: GradientTransformation | None = None,
    augment: Callable[..., Any] | None = None,
    metrics: Sequence[Callable[..., Any]] = (),
    callbacks: Sequence[Any] = (),
) -> Run:
    """Continue a run from its last checkpoint; to the same bytes as if it had never stopped.

    A run that was killed before its first checkpoint begins anew, which comes to the same. Where
    the newest checkpoint is damaged, the one before it is taken: see `training.loop.resume`.

    Args:
        path: the run directory.
        mesh: in place of the one in its config, for another number of devices: sums are then
            rounded otherwise.
        display: where progress goes; nowhere by default.
        force: go on although config, data, code or device have changed, to another result; or
            although something of the run is damaged.
        skip_nonfinite: how many steps that are not finite to leave out from here on, beside those
            left out before; by default as many as the config says, of the whole run.
        data: its data, where these were given in Python; they are compared by their fingerprint.
        data_path: where its data lie by now, if they were moved; its config says so from here on.
        net, loss, optimizer, augment: what `train` was given; they are compared by the digests of
            their traced programs.
        metrics: what `train` was given; they are compared by their sources.
        callbacks: as those of `train`; they may be others, or none.

    Returns:
        The finished run.

    Raises:
        RunError: not a run directory, finished already, in use, changed, or damaged.
        ConfigError: something is missing that was given in Python.
        CheckpointError: its checkpoints are of another network.
    """
    display, objects = display or Silent(), Objects(net, loss, optimizer, augment)
    register_metrics(metrics)
    with processes.detect_peer_loss(Path(path)), ExitStack() as stack:
        with processes.barrier("resume"):
            if processes.is_first():
                _check_alone(Path(path))
                repair(Run(Path(path)))
                if data_path is not None:
                    run, moved = reopen(path, data_path, objects=objects)
                    run.write_config(moved.config)
                    display.note(f"data: {data_path}: those of the run, by their fingerprint")
        with processes.barrier("resume"):
            run, experiment = _reopen(path, data, objects)
            found = None
            if processes.is_first():
                stack.enter_context(lock.held(run.path))
                found = find_resume_point(run, experiment, display, force=force)
                experiment = allow_nonfinite(run, experiment, found, skip_nonfinite)
                run.update_info(status="running")
        with processes.barrier("resume"):
            if not processes.is_first():
                run = processes.ReadOnlyRun(run.path)
                # Whose config process 0 may have changed.
                config = attach(run.config(), objects)
                experiment = prepare(config, experiment.dataset if data is not None else None)
            experiment = _on_mesh(experiment, mesh)
            plan = sharding_plan(experiment)
        _check_processes(experiment)
        start = _start_point(run, experiment, found)
        if processes.is_first():
            display = stack.enter_context(followed(run, experiment.config, display))
            watched = set(run.info().get("callbacks", ())) - set(names_of(callbacks))
            if watched:
                display.note(f"note: callbacks: {', '.join(sorted(watched))}: not given this time")
        _fit(run, experiment, plan, start, display, callbacks)
    return run


def _check_processes(experiment: Experiment) -> None:
    """Raise RunError unless all processes have the same data, and convolutions of the same bits."""
    processes.check_alike("data", experiment.card.fingerprint)
    processes.check_alike("implementation of convolutions", convolutions_in_use())


def _check_alone(path: Path) -> None:
    """Refuse a run that goes on with others, in a program that rounds otherwise than its own.

    Raises:
        RunError: names its study.
    """
    if study_of(path) is not None:
        raise RunError(
            f"{path}: one of the runs of a study that has not ended; on its own it would round "
            f"differently; continue the study: {Run(path).again}"
        )


def _reopen(
    path: str | Path, data: Dataset | Arrays | None, objects: Objects
) -> tuple[Run, Experiment]:
    """Return a run that is to go on, and its experiment made ready.

    Raises:
        RunError: there is none, or it is finished.
        ConfigError: something is missing that was given in Python.
    """
    run = open_run(path)
    config = run.config()
    check_logging(config)
    if run.info().get("status") == "finished" and not lacks_dataset(run):
        raise RunError(
            f"{path}: this run is finished; nothing to resume (`convax report` draws its figures)"
        )
    attach(config, objects)
    return run, prepare(config, None if data is None else given_data(config, data)[1])


def _on_mesh(experiment: Experiment, mesh: Mesh | None) -> Experiment:
    """Return the experiment on another mesh, where one is given."""
    if mesh is None:
        return experiment
    return experiment._replace(config=experiment.config.model_copy(update={"mesh": mesh}))


def _start_point(run: Run, experiment: Experiment, found: ResumePoint | None) -> StartPoint:
    """Return where all processes go on: at the checkpoint that process 0 found, or at step 0."""
    name = "" if found is None else checkpoint.name_of(int(found.train_state.step))
    name = processes.broadcast_str(name)
    if not name:
        train_state, report = init_from_source(experiment)
        return StartPoint(train_state, init_report=report)
    if found is not None:
        return StartPoint(found.train_state, found.loop_state)
    train_state, saved = checkpoint.read(run.checkpoints, name, experiment.template)
    return StartPoint(train_state, LoopState.from_json(saved))


def _fit(
    run: Run,
    experiment: Experiment,
    plan: ShardingPlan,
    start: StartPoint,
    display: Display,
    callbacks: Sequence[Any],
) -> None:
    """Train, and test the best; what the disk refuses to take is said in one line."""
    display.note(_opening_line(run, experiment, plan, int(start.train_state.step)))
    for note in (*experiment.card.notes, *_found_nowhere(experiment.config)):
        display.note(f"note: {note}")
    with disk_watched(run):
        with closing(display):
            eval_step = plan.evaluating(make_eval_step_of(plan.constrain(experiment)))
            context = make_context(run, experiment, plan, eval_step, display, callbacks)
            if callbacks:
                run.update_info(callbacks=names_of(callbacks))
            recorder = _train(context, start)
        if recorder.loop_state.reason:
            display.note(f"stopped early: {recorder.loop_state.reason}")
        finish(recorder)


def _found_nowhere(config: Config) -> Iterator[str]:
    """Yield a line on what was registered by code that the config does not name."""
    if others := without_module(config.model_dump(exclude_none=True)):
        yield (
            f"{', '.join(others)}: registered by code that the config does not name; to open the "
            "run elsewhere, register it first, or name its module in plugins.modules"
        )


def _train(context: LoopContext, start: StartPoint) -> TrainingRecorder:
    """Take the steps of one network, until its end or a reason to stop."""
    program = SingleProgram(context, start.train_state)
    recorder = TrainingRecorder(context, start)
    with signals_noted() as signals, context.saver:
        if start.init_report is not None:
            recorder.on_start(start.init_report, program.state())
        ChunkLoop(program, [recorder], context.run).run(signals)
    return recorder


def finish(recorder: TrainingRecorder, *, draw: bool = True) -> None:
    """Fit what its task fits last; test the best parameters, write that down, draw its figures.

    Args:
        recorder: of the network, which takes no more steps.
        draw: whether to draw; a member of a study has its figures in those of the study.
    """
    with processes.barrier("save"):
        pass  # until the best is on the disk
    finalize(recorder)
    context, step = recorder.context, recorder.step
    run, experiment, plan = context.run, context.experiment, context.plan
    best = checkpoint.restore(run.checkpoints, "best", experiment.template).train_state
    result: dict[str, Any] = {"step": step, "stopped_early": recorder.loop_state.reason}
    dataset = experiment.dataset
    split = reported_split(dataset)
    params, state = plan.put_trained(*best.trained)
    evaluation = evaluate_split(experiment.task, context.eval_step, params, state, dataset, split)
    if split == "test":
        result["test"] = evaluation.as_record() | {"checkpoint_step": int(best.step)}
        run.log({"kind": "test", "step": step, **result["test"]})
        context.display.note(f"test:  {format_metrics(result['test'])}")
    result["peak_bytes"] = peaks = peak_bytes()
    sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in peaks.items())
    context.display.note(f"peak memory:  {sizes}")
    run.update_info(status="finished", result=result)
    if draw and processes.is_first():  # of a finished run: nothing depends on its figures
        figures = partial(draw_experiment, run, experiment, best.trained[0], evaluation)
        attempt("all of them", figures, [])
    recorder.notify("on_end", evaluation.as_record(), lambda: best)
    if recorder.failure is not None:
        raise CallbackError(f"{recorder.failure}; the run is finished") from None


def _opening_line(run: Run, experiment: Experiment, plan: ShardingPlan, step: int) -> str:
    counts = ", ".join(f"{n:,} {split}" for split, n in experiment.card.counts.items())
    sizes = [(path, leaf.size) for path, leaf in named_leaves(experiment.template.params)]
    parameters = f"{sum(size for _, size in sizes):,} parameters"
    if experiment.frozen:
        still = sum(size for path, size in sizes if experiment.frozen(path))
        parameters += f", {still:,} of them frozen"
    verb = f"resuming at step {step}" if step else f"training for {experiment.total_steps} steps"
    return (
        f"{run.path}: {verb}: {parameters}; {counts} images; "
        f"{len(experiment.card.classes)} classes; {plan}"
    )
