"""What is kept of one network behind each chunk of its steps: metrics, evaluations, checkpoints.

How steps are taken, of one network or of many, is `training.loop.chunk_loop`'s affair; what is
written down of them, and when a network stops, is here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..common.train_state import TrainState
from ..config.errors import ConfigError
from ..config.schema import Config
from ..data.tree import rows
from ..distributed import processes
from ..evaluation import evaluate_split
from ..initialize import InitReport
from ..plugins.tables import is_better_larger
from ..tasks.metric_names import format_metrics
from .callbacks import CallbackError, call, make_view
from .checkpointing import LoopState
from .chunks import BatchChunk
from .context import LoopContext, StartPoint
from .early_stopping import Stopping, after_evaluation, after_step
from .metric_window import MetricWindow
from .nonfinite import diverged, find_nonfinite
from .plateau import PlateauProgress
from .plateau import after_evaluation as after_plateau


class ChunkResult(NamedTuple):
    """The outcome of the steps of a chunk, for one network."""

    chunk: BatchChunk
    steps: int  # how many of its steps were to be taken
    finite: int  # how many were, before the first whose numbers are not all finite
    metrics: dict[str, np.ndarray]  # (K,) each, of every step
    state: Callable[[], TrainState]  # gives the train state behind the last finite step


class TrainingRecorder:
    """The metrics, evaluations and checkpoints of one network in training.

    Args:
        context: the network.
        start: where it begins.

    Attributes:
        context: as given.
        step: how many steps were taken by now.
        loop_state: what a checkpoint remembers beside the train state, as it is by now.
        ended: whether it takes no more steps and is not tested: it was finished, or has diverged.
        metric: the watched metric of the last validation.
        figures: all of that validation.
        failure: what a callback has raised, to be raised once the state is saved.
    """

    def __init__(self, context: LoopContext, start: StartPoint):
        self.context = context
        self.step, self.loop_state = int(start.train_state.step), start.loop_state
        self.ended = start.ended
        self.metric: float | None = None
        self.failure: CallbackError | None = None
        self.figures: dict[str, Any] = {}
        self._rules = stopping_rules(context.experiment.config)
        self._window = MetricWindow(
            context.run, context.experiment, context.display, start.loop_state.window
        )
        self._window.rate_scale = 1.0 if self.rate_scale is None else self.rate_scale

    @property
    def rate_scale(self) -> float | None:
        """Return what the learning rate is multiplied by; None where that never changes."""
        if self.context.experiment.config.plateau is None:
            return None
        return (self.loop_state.plateau or PlateauProgress()).scale

    @property
    def is_training(self) -> bool:
        """Return whether there are steps before it."""
        before_end = self.step < self.context.experiment.total_steps
        stopped = self.loop_state.reason is not None or self.is_finalized
        return before_end and not (self.ended or stopped)

    @property
    def is_finalized(self) -> bool:
        """Return whether what `Task.finalize` makes is there."""
        return self.loop_state.finalized_from is not None

    @property
    def is_unfinished(self) -> bool:
        """Return whether there are steps before it, or what `Task.finalize` does."""
        stage = self.context.experiment.task.finalize is not None
        return self.is_training or (stage and not (self.ended or self.is_finalized))

    def on_start(self, report: InitReport, train_state: TrainState) -> None:
        """Say what came from elsewhere, and save it: the file need not be there to resume."""
        context = self.context
        context.run.update_info(init_from=report._asdict())
        context.display.note(str(report))
        context.saver.save(context.plan.gather(train_state), LoopState())
        context.saver.wait()

    def on_chunk(self, result: ChunkResult) -> None:
        """Take in the steps of a chunk; one that is not finite is left out, and counts as taken.

        Raises:
            NonFiniteError: no more steps may be left out; the state is saved.
        """
        finite, metrics = result.finite, result.metrics
        self.step += finite
        self._window.add(self.step, {name: m[:finite] for name, m in metrics.items()})
        if finite:
            means = {name: float(np.mean(m[:finite])) for name, m in metrics.items()}
            self.notify("on_chunk", means, result.state)
        if finite == result.steps:
            self._stop_where_updates_are_small(metrics, finite - 1)
        else:
            self._leave_out(result)

    def maybe_evaluate(self, result: ChunkResult) -> bool:
        """Report and validate, as far as that is due behind a chunk.

        Returns:
            Whether the network has to be saved now.
        """
        chunk = result.chunk
        at_end = self.step == chunk.stop
        due = at_end and chunk.evaluated
        if self.loop_state.reason or (at_end and chunk.reported):
            self._window.flush(self.step)
        if due:
            self._validate(result.state())
        return due or bool(self.loop_state.reason)

    def checkpoint(self, train_state: TrainState) -> None:
        """Save this state, beside the training."""
        self.loop_state = self._to_save()
        self.context.saver.save(self.context.plan.gather(train_state), self.loop_state)
        self.notify("on_checkpoint", {}, lambda: train_state)

    def notify(
        self, event: str, metrics: Mapping[str, Any], train_state: Callable[[], TrainState]
    ) -> None:
        """Call the callbacks; note the reason to stop of one that has one, or what it has raised.

        Args:
            event: one of `callbacks.EVENTS`.
            metrics: that belong to it.
            train_state: as it is by now.
        """
        context = self.context
        if not context.callbacks or self.failure is not None:
            return
        total = context.experiment.total_steps
        view = make_view(context.run, self.step, total, metrics, train_state)
        try:
            reason = call(context.callbacks, event, view)
        except CallbackError as error:
            self.failure = error
        else:
            if reason is not None and self.loop_state.reason is None:
                self.loop_state = self.loop_state._replace(reason=reason)

    def on_finalized(self, train_state: TrainState, begun: int) -> None:
        """Validate what `Task.finalize` has made, and save it as the best and the last.

        Args:
            train_state: with it; every process has all of it.
            begun: the step of the checkpoint that it was made from.
        """
        context = self.context
        self.step = int(train_state.step)
        after = self.loop_state._replace(best_step=self.step, finalized_from=begun)
        if context.experiment.dataset.validation.count:
            metric = self._evaluate(*context.plan.put_trained(*train_state.trained))
            after = after._replace(best=metric if math.isfinite(metric) else after.best)
        self.loop_state = after
        context.saver.save(train_state, after)
        context.saver.wait()

    def _leave_out(self, result: ChunkResult) -> None:
        """Step over the first step that is not finite; raise where the limit has been reached."""
        context, chunk, finite = self.context, result.chunk, result.finite
        metrics = {name: m[: finite + 1] for name, m in result.metrics.items()}
        nonfinite = find_nonfinite(self.step + 1, metrics)
        if self.loop_state.skipped >= context.experiment.config.training.skip_nonfinite:
            last = context.plan.gather(result.state())
            context.saver.save(last, self._to_save())
            context.saver.wait()
            batch = (chunk.images[finite], rows(chunk.labels, finite))
            raise processes.give_up(
                diverged, context.run, context.experiment, nonfinite, last, batch
            )
        context.run.log({"kind": "skipped", **nonfinite.as_json()})
        self.loop_state = self.loop_state._replace(skipped=self.loop_state.skipped + 1)
        self.step += 1

    def _stop_where_updates_are_small(self, metrics: dict[str, np.ndarray], row: int) -> None:
        """A step left out as its gradients overflowed is no small one: `step.loss_scaling`."""
        if self._rules.min_update is None or ("overflow" in metrics and metrics["overflow"][row]):
            return
        reason = after_step(self._rules, metrics["largest_update"][row])
        self.loop_state = self.loop_state._replace(reason=self.loop_state.reason or reason)

    def _validate(self, train_state: TrainState) -> None:
        """Evaluate on the validation split, if there is one, and remember what that came to."""
        rules = self._rules
        if not self.context.experiment.dataset.validation.count:
            return
        metric = self._evaluate(*train_state.trained)
        progress, why = after_evaluation(rules, self.loop_state.progress, metric, self.step)
        reason = self.loop_state.reason or why
        after = self.loop_state._replace(progress=progress, reason=reason)
        if math.isfinite(metric) and (after.best is None or _as_good(rules, metric, after.best)):
            after = after._replace(best=metric, best_step=self.step)
        self.loop_state, self.metric = after, metric
        self._lower_rate(metric)
        self.notify("on_evaluate", self.figures, lambda: train_state)

    def _lower_rate(self, metric: float) -> None:
        """Lower the learning rate where the config asks for it, and the metric stays."""
        config, before = self.context.experiment.config, self.rate_scale
        if config.plateau is None or before is None:
            return
        rules: dict[str, Any] = config.plateau.model_dump() | {"mode": self._rules.mode}
        progress = after_plateau(self.loop_state.plateau or PlateauProgress(), metric, **rules)
        self.loop_state = self.loop_state._replace(plateau=progress)
        self._window.rate_scale = progress.scale
        if progress.scale < before and self.step < self.context.experiment.total_steps:
            self.context.display.note(
                f"no improvement on {progress.best}: the learning rate is the schedule's times "
                f"{progress.scale:.3g} from step {self.step + 1} on"
            )

    def _evaluate(self, params: Any, state: Any) -> float:
        """Evaluate on the validation split, log it, and return the watched metric."""
        context = self.context
        task, dataset = context.experiment.task, context.experiment.dataset
        result = evaluate_split(task, context.eval_step, params, state, dataset, "validation")
        self.figures = record = result.as_record()
        context.run.log({"kind": "validation", "step": self.step, **record})
        context.display.note(f"validation at step {self.step}:  {format_metrics(record)}")
        watched = context.experiment.config.early_stopping.metric
        if watched not in record:
            raise ConfigError(
                f"early_stopping.metric: {watched!r} is no figure of an evaluation; there are "
                f"{', '.join(result.figures)}"
            )
        return float(record[watched])

    def _to_save(self) -> LoopState:
        """Return what a checkpoint of this step holds; it is the best if none was ever measured."""
        best_step = self.step if self.loop_state.best is None else self.loop_state.best_step
        return self.loop_state._replace(best_step=best_step, window=self._window.window)


def stopping_rules(config: Config) -> Stopping:
    """Return the conditions under which a run of a config stops before its last step."""
    keywords = config.early_stopping.model_dump(exclude={"metric"})
    larger = is_better_larger(config.early_stopping.metric)
    return Stopping(**keywords, mode="max" if larger else "min")


def _as_good(rules: Stopping, metric: float, best: float) -> bool:
    """At least as good: of equals, the later is kept. NaN is never good."""
    return metric >= best if rules.mode == "max" else metric <= best
