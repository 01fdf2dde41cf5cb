"""The training loop: from a config to a run directory with a trained, tested network.

The batch at step t, and every random number used on it, is a pure function of (seed, t), and all
that decides the future is in the checkpoint. So a run that was killed and resumed ends with the
same bytes as one that was left alone. The device takes several steps a call
(`training.loop.chunks`), which changes none of them.
"""

import signal
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..common.duration import interval_in_steps
from ..common.errors import ConvaxError
from ..common.memory import format_bytes, memory_usage, peak_bytes
from ..common.pytree_paths import named_leaves
from ..common.train_state import TrainState
from ..config.schema import Config, ConfigError, Mesh
from ..distributed import processes
from ..distributed.sharding import ShardingPlan, sharding_plan
from ..evaluation import evaluate_split, make_eval_step_of
from ..experiment import Experiment, make_step_spec, prepare, resolve_data_path, run_length
from ..initialize import InitReport, init_from_source, resolve_weights_path
from ..report.figures import draw_experiment, reported_split
from ..run import checkpoint, lock
from ..run.directory import Run, RunError, create_run, open_run, study_of
from ..step.train_step import make_train_steps
from ..tasks.metric_names import format_metrics
from . import resume as restoring
from .checkpointing import LoopState, Saver, disk_watched
from .chunks import ChunkLoader, ChunkSizer, most_steps
from .nonfinite import NonFiniteError
from .progress import Display, Silent
from .recorder import TrainingRecorder
from .signals import signals_noted
from .tensorboard import check_records, followed

__all__ = ["InterruptedRun", "NonFiniteError", "resume", "train"]


class InterruptedRun(ConvaxError):  # noqa: N818 -- not an error: the run was saved
    """A signal stopped the run after its state was saved."""

    in_all_processes = True

    def __init__(self, run: Run, step: int, total: int, signum: int):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} at step {step} of {total}, state saved; "
            f"continue with: {run.again}"
        )
        self.signum = signum
        self.exit_code = 128 + signum  # as a shell has it


def train(
    config: Config,
    out: str | Path,
    *,
    config_dir: str | Path | None = None,
    display: Display | None = None,
) -> Run:
    """Train the network of a config into a new run directory.

    Args:
        config: the experiment.
        out: the run directory to make.
        config_dir: the folder of the config file, for a relative ``data.path``.
        display: where progress goes; nowhere by default.

    Raises:
        ConfigError, DataError, LayerError, RunError: what was asked for cannot be done.
        NonFiniteError: training diverged; the last good checkpoint is kept.
        InterruptedRun: Ctrl-C or SIGTERM; the state was saved.
    """
    if config.sweep is not None:
        raise ConfigError(
            "sweep: makes several runs; `convax train` or training.experiments.study trains them"
        )
    check_records(config)
    folder, display = None if config_dir is None else Path(config_dir), display or Silent()
    out = Path(processes.broadcast_str(str(out)))
    with processes.detect_peer_loss(out), ExitStack() as locked:
        with processes.barrier("begin"):
            config = resolve_weights_path(resolve_data_path(config, folder), folder)
            experiment = prepare(config)
            plan = sharding_plan(experiment)
            train_state, taken = init_from_source(experiment)
        processes.check_alike("data", experiment.card.fingerprint)
        with processes.barrier("make the run directory"):
            run = processes.ReadOnlyRun(out)
            if processes.is_first():
                run = create_run(config, out, experiment.card)
                locked.enter_context(lock.held(run.path))
                display = locked.enter_context(followed(run, config, display))
        _fit(run, experiment, plan, train_state, LoopState(), display, taken)
    return run


def resume(
    path: str | Path,
    *,
    mesh: Mesh | None = None,
    display: Display | None = None,
    force: bool = False,
    skip_nonfinite: int | None = None,
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

    Raises:
        RunError: not a run directory, finished already, in use, changed, or damaged.
        CheckpointError: its checkpoints are of another network.
    """
    display = display or Silent()
    with processes.detect_peer_loss(Path(path)), ExitStack() as locked:
        with processes.barrier("resume"):
            if processes.is_first():
                _check_alone(Path(path))
                restoring.repair(Run(Path(path)))
        with processes.barrier("resume"):
            run = open_run(path)
            check_records(run.config())
            if run.info().get("status") == "finished" and not restoring.lacks_dataset(run):
                raise RunError(f"{path}: this run is finished; nothing to resume")
            experiment, found = prepare(run.config()), None
            if processes.is_first():
                locked.enter_context(lock.held(run.path))
                same = restoring.check_unchanged(run, experiment, force=force)
                found = restoring.latest_valid(
                    run, experiment.template, display, force=force, repeats=same
                )
                restoring.keep_metrics(run, found, force=force)
                if skip_nonfinite is not None:
                    experiment = restoring.skipping(run, experiment, found, skip_nonfinite)
                run.update_info(status="running")
        with processes.barrier("resume"):
            if not processes.is_first():
                run = processes.ReadOnlyRun(run.path)
                experiment = prepare(run.config())
            if mesh is not None:
                config = experiment.config.model_copy(update={"mesh": mesh})
                experiment = experiment._replace(config=config)
            plan = sharding_plan(experiment)
        name = "" if found is None else checkpoint.name_of(int(found.train_state.step))
        name, taken, memory = processes.broadcast_str(name), None, LoopState()
        if not name:
            train_state, taken = init_from_source(experiment)
        elif found is not None:
            train_state, memory = found.train_state, found.memory
        else:
            train_state, saved = checkpoint.read(run.checkpoints, name, experiment.template)
            memory = LoopState.from_json(saved)
        if processes.is_first():
            display = locked.enter_context(followed(run, experiment.config, display))
        _fit(run, experiment, plan, train_state, memory, display, taken)
    return run


def _check_alone(path: Path) -> None:
    """Refuse a run that goes on with others, in a program that rounds otherwise than its own.

    Raises:
        RunError: names its study.
    """
    if study_of(path) is not None:
        raise RunError(
            f"{path}: one of the runs of a study that has not ended, and alone it would be rounded "
            f"otherwise; continue the study: {Run(path).again}"
        )


def _fit(
    run: Run,
    experiment: Experiment,
    plan: ShardingPlan,
    train_state: TrainState,
    memory: LoopState,
    display: Display,
    taken: InitReport | None = None,
) -> None:
    """Train, and test the best; what the disk refuses to take is said in one line."""
    display.note(_opening_line(run, experiment, plan, int(train_state.step)))
    train_state = plan.device_put(train_state)
    with disk_watched(run):
        with closing(display):
            train_steps = _compile(run, experiment, plan, train_state, display)
            eval_step = plan.evaluating(make_eval_step_of(plan.constrain(experiment)))
            programs = (train_steps, eval_step)
            train_state, memory = _steps(
                run, experiment, plan, programs, train_state, memory, display, taken
            )
        if memory.reason:
            display.note(f"stopped early: {memory.reason}")
        finish(run, experiment, plan, eval_step, train_state, memory.reason, display)


def _steps(
    run: Run,
    experiment: Experiment,
    plan: ShardingPlan,
    programs: tuple[Any, Any],
    train_state: TrainState,
    memory: LoopState,
    display: Display,
    taken: InitReport | None,
) -> tuple[TrainState, LoopState]:
    """Steps, evaluations and checkpoints, until the end or a reason to stop."""
    config, total = experiment.config, experiment.total_steps
    train_steps, eval_step = programs
    length = run_length(config, experiment.card.counts["train"], total)
    every = interval_in_steps(config.training.evaluate_every, length)
    size = config.training.batch_size
    rows = plan.local_rows(size)
    feed = ChunkLoader(
        experiment.dataset.train, config, pace := ChunkSizer(), total=total, every=every, rows=rows
    )
    make_saver: Any = Saver if processes.is_first() else processes.NullSaver
    with (
        closing(feed),
        signals_noted() as signals,
        make_saver(run, experiment, every=every) as saver,
    ):
        step = int(train_state.step)
        about = (run, experiment, plan, eval_step, saver, display)
        recorder = TrainingRecorder(*about, step=step, memory=memory)
        if taken is not None:
            recorder.on_start(taken, train_state)
        chunk = feed.start(step)
        while chunk is not None and recorder.memory.reason is None:
            began = time.perf_counter()
            batches = plan.feed_batches(chunk.images, chunk.labels, size, rows)
            train_state, metrics = train_steps(train_state, *batches, chunk.steps)
            done, chunk = chunk, feed.next()  # gathered while the device is at work
            count, fine = int(done.steps), int(train_state.step) - recorder.step
            metrics = jax.device_get(metrics)
            pace.update(count, time.perf_counter() - began)
            recorder.on_chunk(done, count, fine, metrics, partial(_same, train_state))
            if fine < count:  # one was left out
                train_state = train_state._replace(step=train_state.step + 1)
            due = recorder.maybe_evaluate(done, partial(_same, train_state))
            pace.steps, noted = processes.sync(pace.steps, signals)
            if due or noted:
                recorder.save(train_state)
            if fine < count:
                chunk = feed.start(recorder.step)
            if noted and recorder.step < total and recorder.memory.reason is None:
                saver.wait()
                raise InterruptedRun(run, recorder.step, total, noted[0])
    return train_state, recorder.memory


def _same(train_state: TrainState) -> TrainState:
    return train_state


def _compile(
    run: Run,
    experiment: Experiment,
    plan: ShardingPlan,
    train_state: TrainState,
    display: Display,
) -> jax.stages.Compiled:
    """The training steps as a program; says how long that took, and the memory it works in."""
    began = time.perf_counter()
    config, split = experiment.config, experiment.dataset.train
    batches = (most_steps(split, config), config.training.batch_size)
    recipe = make_step_spec(plan.constrain(experiment))
    train_steps = make_train_steps(recipe, out_shardings=plan.out_shardings)

    def type_of(array: Any) -> jax.ShapeDtypeStruct:
        sharding = plan.batches(len(array.shape) + 1, lead=1)
        return jax.ShapeDtypeStruct((*batches, *array.shape[1:]), array.dtype, sharding=sharding)

    types = (type_of(split.images), jax.tree.map(type_of, split.labels))
    with plan.scope():
        count = jax.ShapeDtypeStruct((), np.int32)
        program = train_steps.lower(train_state, *types, count).compile()
    seconds, size = time.perf_counter() - began, memory_usage(program)
    run.update_info(compile_seconds=round(seconds, 2), step_bytes=size)
    memory = "" if size is None else f"; a training step works in {format_bytes(size)}"
    display.note(f"compiled in {seconds:.1f} s{memory}")
    return program


def finish(run, experiment, plan, eval_step, train_state, reason, display, *, draw=True) -> None:
    """Test the best parameters, write down the result, and draw the figures."""
    with processes.barrier("save"):
        pass  # until the best is on the disk
    best = checkpoint.restore(run.checkpoints, "best", experiment.template).train_state
    step = int(train_state.step)
    result: dict[str, Any] = {"step": step, "stopped_early": reason}
    split = reported_split(experiment.dataset)
    trained = best.trained
    params, state = plan.put_trained(*trained)
    dataset = experiment.dataset
    evaluation = evaluate_split(experiment.task, eval_step, params, state, dataset, split)
    if split == "test":
        result["test"] = evaluation.as_record() | {"checkpoint_step": int(best.step)}
        run.log({"kind": "test", "step": step, **result["test"]})
        display.note(f"test:  {format_metrics(result['test'])}")
    result["peak_bytes"] = peaks = peak_bytes()
    display.note("peak memory:  " + ", ".join(f"{k} {format_bytes(v)}" for k, v in peaks.items()))
    if draw and processes.is_first():
        draw_experiment(run, experiment, trained[0], evaluation)
    run.update_info(status="finished", result=result)


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
