"""The training loop: from a config to a run directory with a trained, tested network.

The batch at step t, and every random number used on it, is a pure function of (seed, t), and all
that decides the future is in the checkpoint. So a run that was killed and resumed ends with the
same bytes as one that was left alone. The device takes several steps a call (`training.chunk`),
which changes none of them.
"""

import math
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import checkpoint
from .augment import make_augmentation
from .chunk import Chunk, Pace, chunks, most_steps
from .config import Config
from .evaluation import evaluate_split, make_eval_step_of
from .experiment import Experiment, prepare, reopen, steps_between, with_found_data
from .footprint import as_text, peak_bytes, step_bytes
from .init_from import Taken, start_of, with_found_weights
from .paths import named_leaves
from .preprocess import preprocess
from .progress import Display, Silent, describe
from .report import draw_experiment, reported_split
from .run import Run, RunError, create_run, open_run
from .step import TrainState, make_train_steps
from .stopping import Progress, Stopping, after_evaluation, after_step

LONGEST_SILENCE = 15.0  # seconds after which a slow network's steps are reported all the same


class NonFiniteError(ArithmeticError):
    """The loss or an update is not a finite number; says at which step."""


class InterruptedRun(Exception):  # noqa: N818 -- not an error: the run was saved
    """A signal stopped the run after its state was saved."""

    def __init__(self, run: Run, step: int, total: int, signum: int):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} at step {step} of {total}, state saved; "
            f"continue with: convax train --resume {shlex.quote(str(run.path))}"
        )
        self.signum = signum


class Memory(NamedTuple):
    """What decides the future beside the train state; in every checkpoint, as JSON."""

    progress: Progress  # the validations so far, as the stop conditions see them
    best: float | None  # the watched metric of the best checkpoint
    reason: str | None  # why to stop, once there is a reason

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return self._asdict() | {"progress": self.progress._asdict()}


def train(
    config: Config,
    out: str | Path,
    *,
    beside: str | Path | None = None,
    display: Display | None = None,
) -> Run:
    """Train the network of a config into a new run directory.

    Args:
        config: the experiment.
        out: the run directory to make.
        beside: the folder of the config file, for a relative ``data.path``.
        display: where progress goes; nowhere by default.

    Raises:
        ConfigError, DataError, LayerError, RunError: what was asked for cannot be done.
        NonFiniteError: training diverged; the last good checkpoint is kept.
        InterruptedRun: Ctrl-C or SIGTERM; the state was saved.
    """
    folder, display = None if beside is None else Path(beside), display or Silent()
    config = with_found_weights(with_found_data(config, folder), folder)
    experiment = prepare(config)
    train_state, taken = start_of(experiment)
    run = create_run(config, Path(out), experiment.card)
    if taken is not None:
        _note_start(run, train_state, taken, display)
    _fit(run, experiment, train_state, _NOTHING_YET, display)
    return run


def resume(path: str | Path, *, display: Display | None = None) -> Run:
    """Continue a run from its last checkpoint; to the same bytes as if it had never stopped.

    A run that was killed before its first checkpoint begins anew, which comes to the same.

    Raises:
        RunError: not a run directory, finished already, or its data has changed.
        CheckpointError: its last checkpoint is damaged.
    """
    if open_run(path).info().get("status") == "finished":
        raise RunError(f"{path}: this run is finished; nothing to resume")
    run, experiment = reopen(path)
    if checkpoint.named(run.checkpoints, "last") is None:
        (train_state, _), memory = start_of(experiment), _NOTHING_YET
    else:
        train_state, saved = checkpoint.restore(run.checkpoints, "last", experiment.template)
        memory = Memory(Progress(**saved["progress"]), saved["best"], saved["reason"])
    run.forget_after(int(train_state.step))
    run.update_info(status="running")
    _fit(run, experiment, train_state, memory, display or Silent())
    return run


_NOTHING_YET = Memory(Progress(), None, None)


def _note_start(run: Run, train_state: TrainState, taken: Taken, display: Display) -> None:
    """Say what was taken from elsewhere, and save it: the file need not be there to resume."""
    run.update_info(init_from=taken._asdict())
    display.note(str(taken))
    name = checkpoint.save(run.checkpoints, train_state, _NOTHING_YET.as_json())
    checkpoint.point(run.checkpoints, "last", name)


def _fit(
    run: Run,
    experiment: Experiment,
    train_state: TrainState,
    memory: Memory,
    display: Display,
) -> None:
    """Steps, evaluations and checkpoints, until the end or a reason to stop; then the test."""
    config, total = experiment.config, experiment.total_steps
    eval_step = make_eval_step_of(experiment)
    rules = _stopping_rules(config)
    epoch = experiment.card.counts["train"] / config.training.batch_size
    every = steps_between(config.training.evaluate_every, total, epoch)
    step, (progress, best, reason) = int(train_state.step), memory
    pace = Pace()
    to_come = chunks(experiment.dataset.train, config, pace, start=step, total=total, every=every)
    display.note(_opening_line(run, experiment, step))

    with closing(display), closing(to_come), _signals_noted() as signals:
        train_steps = _compile(run, experiment, train_state, display)
        meter = _Meter(run, experiment, display)
        chunk = next(to_come, None)
        while chunk is not None and reason is None:
            began = time.perf_counter()
            train_state, metrics = train_steps(train_state, chunk.images, chunk.labels, chunk.steps)
            done, chunk = chunk, next(to_come, None)  # gathered while the device is at work
            metrics = {k: m[: done.steps] for k, m in jax.device_get(metrics).items()}
            pace.took(int(done.steps), time.perf_counter() - began)
            step, due = done.stop, done.evaluated
            meter.add(done, metrics)
            if rules.min_update is not None:
                reason = after_step(rules, metrics["largest_update"][-1])
            if due or reason or signals:
                meter.flush()
                metric = None
                if due:
                    metric = _validate(run, experiment, eval_step, train_state, display)
                if metric is not None:
                    progress, why = after_evaluation(rules, progress, metric, step)
                    reason = reason or why
                is_best = best is None or (metric is not None and _as_good(rules, metric, best))
                if is_best and metric is not None and math.isfinite(metric):
                    best = metric
                _save(run, train_state, Memory(progress, best, reason), is_best)
            if signals and step < total and reason is None:
                raise InterruptedRun(run, step, total, signals[0])
    if reason:
        display.note(f"stopped early: {reason}")
    _finish(run, experiment, eval_step, train_state, reason, display)


def _compile(
    run: Run, experiment: Experiment, train_state: TrainState, display: Display
) -> jax.stages.Compiled:
    """The training steps as a program; says how long that took, and the memory it works in."""
    began = time.perf_counter()
    config, split = experiment.config, experiment.dataset.train
    batches = (most_steps(split, config), config.training.batch_size)
    task, spec = experiment.task, experiment.card.preprocessing
    train_steps = make_train_steps(
        experiment.net,
        task.loss,
        experiment.optimizer,
        partial(preprocess, spec=spec),
        measures=task.measures,
        targets=partial(task.targets, spec=spec),
        augment=make_augmentation(config.augment),
        frozen=experiment.frozen,
    )
    program = train_steps.lower(
        train_state,
        jax.ShapeDtypeStruct((*batches, *split.images.shape[1:]), split.images.dtype),
        jax.ShapeDtypeStruct((*batches, *split.labels.shape[1:]), split.labels.dtype),
        jax.ShapeDtypeStruct((), np.int32),
    ).compile()
    seconds, size = time.perf_counter() - began, step_bytes(program)
    run.update_info(compile_seconds=round(seconds, 2), step_bytes=size)
    memory = "" if size is None else f"; a training step works in {as_text(size)}"
    display.note(f"compiled in {seconds:.1f} s{memory}")
    return program


def _validate(run, experiment, eval_step, train_state, display) -> float | None:
    """The watched metric on the validation split; None where there is no such split."""
    if not len(experiment.dataset.validation.labels):
        return None
    step = int(train_state.step)
    trained = (train_state.params, train_state.state)
    result = evaluate_split(experiment.task, eval_step, *trained, experiment.dataset, "validation")
    run.log({"kind": "validation", "step": step, **result.as_record()})
    display.note(f"validation at step {step}:  {describe(result.as_record())}")
    return getattr(result, experiment.config.stop.metric)


def _as_good(rules: Stopping, metric: float, best: float) -> bool:
    """At least as good: of equals, the later is kept. NaN is never good."""
    return metric >= best if rules.mode == "max" else metric <= best


def _save(run: Run, train_state: TrainState, memory: Memory, is_best: bool) -> None:
    """Checkpoint this state as "last", and as "best" if none was better; of equals, the later."""
    name = checkpoint.save(run.checkpoints, train_state, memory.as_json())
    # "best" first: a process killed in between repeats the way to this step and finds the same.
    if is_best:
        checkpoint.point(run.checkpoints, "best", name)
    checkpoint.point(run.checkpoints, "last", name)
    checkpoint.prune(run.checkpoints)


def _finish(run, experiment, eval_step, train_state, reason, display) -> None:
    """Test the best parameters, write down the result, and draw the pictures."""
    best = checkpoint.restore(run.checkpoints, "best", experiment.template).train_state
    step = int(train_state.step)
    result: dict[str, Any] = {"step": step, "stopped_early": reason}
    split = reported_split(experiment.dataset)
    trained = (best.params, best.state)
    evaluation = evaluate_split(experiment.task, eval_step, *trained, experiment.dataset, split)
    if split == "test":
        result["test"] = evaluation.as_record() | {"checkpoint_step": int(best.step)}
        run.log({"kind": "test", "step": step, **result["test"]})
        display.note(f"test:  {describe(result['test'])}")
    result["peak_bytes"] = peaks = peak_bytes()
    display.note("peak memory:  " + ", ".join(f"{k} {as_text(v)}" for k, v in peaks.items()))
    draw_experiment(run, experiment, best.params, evaluation)
    run.update_info(status="finished", result=result)


class _Meter:
    """Collects the metrics of steps and reports them in windows."""

    def __init__(self, run: Run, experiment: Experiment, display: Display):
        self._run, self._experiment, self._display = run, experiment, display
        self._pending: list[dict[str, np.ndarray]] = []
        self._step = 0
        self._since = time.perf_counter()

    def add(self, chunk: Chunk, metrics: dict[str, np.ndarray]) -> None:
        """Take in the metrics of a chunk, and stop the run if any of them is not finite."""
        self._check_finite(chunk.stop - int(chunk.steps) + 1, metrics)
        self._pending.append(metrics)
        self._step = chunk.stop
        if chunk.reported or time.perf_counter() - self._since > LONGEST_SILENCE:
            self.flush()

    def flush(self) -> None:
        """Report the window."""
        if not self._pending:
            return
        names = self._pending[0]
        window = {k: np.concatenate([metrics[k] for metrics in self._pending]) for k in names}
        self._pending = []
        step, steps, now = self._step, len(window["loss"]), time.perf_counter()
        training, total = self._experiment.config.training, self._experiment.total_steps
        record = {name: _mean(values) for name, values in window.items()}
        record |= {
            "epoch": step * training.batch_size / self._experiment.card.counts["train"],
            "learning_rate": float(self._experiment.schedule(step - 1)),
            "images_per_second": steps * training.batch_size / (now - self._since),
        }
        self._since = now
        self._run.log({"kind": "train", "step": step, **record})
        self._display.step(step, total, record)

    def _check_finite(self, first: int, metrics: dict[str, np.ndarray]) -> None:
        watched = {k: metrics[k] for k in ("loss", "grad_norm", "update_norm")}
        odd = [
            (first + int(i), k) for k, m in watched.items() for i in np.flatnonzero(~np.isfinite(m))
        ]
        if not odd:
            return
        step, name = min(odd, key=lambda found: found[0])
        value = metrics[name][step - first]
        self._run.update_info(status="diverged", diverged_at_step=step)
        last = checkpoint.named(self._run.checkpoints, "last")
        kept = f"the last good checkpoint is {last}" if last else "nothing had been saved yet"
        rate = float(self._experiment.schedule(step - 1))
        raise NonFiniteError(
            f"{self._run.path}: {name} is {value} at step {step}; {kept}; "
            f"lower optimizer.learning_rate (here {rate:.3g}) or set optimizer.clip_norm"
        )


def _mean(values: np.ndarray) -> float:
    return math.fsum(values.tolist()) / len(values)


def _opening_line(run: Run, experiment: Experiment, step: int) -> str:
    counts = ", ".join(f"{n:,} {split}" for split, n in experiment.card.counts.items())
    sizes = [(path, leaf.size) for path, leaf in named_leaves(experiment.template.params)]
    parameters = f"{sum(size for _, size in sizes):,} parameters"
    if experiment.frozen:
        still = sum(size for path, size in sizes if experiment.frozen(path))
        parameters += f", {still:,} of them frozen"
    verb = f"resuming at step {step}" if step else f"training for {experiment.total_steps} steps"
    return (
        f"{run.path}: {verb}: {parameters}; {counts} images; "
        f"{len(experiment.card.classes)} classes; {jax.default_backend()}"
    )


def _stopping_rules(config: Config) -> Stopping:
    keywords = config.stop.model_dump(exclude={"metric"})
    return Stopping(**keywords, mode="min" if config.stop.metric == "loss" else "max")


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are noted for the loop to act on; a second Ctrl-C is final."""
    noted: list[int] = []

    def note(signum: int, frame: Any) -> None:
        del frame
        if noted and signum == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(signum)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals are somebody else's affair
        yield noted
        return
    try:
        yield noted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
