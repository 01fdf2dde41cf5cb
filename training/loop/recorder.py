"""What is kept of a run behind each chunk of its steps: metrics, evaluations and checkpoints.

The loop of one network (`training.loop.loop`) and that of many
(`training.experiments.batched_loop`) differ in how they take steps; what they write down of them,
and when they stop, is here.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..common.train_state import TrainState
from ..config.schema import Config
from ..data.tree import rows
from ..distributed import processes
from ..distributed.sharding import ShardingPlan
from ..evaluation import evaluate_split
from ..experiment import Experiment
from ..initialize import InitReport
from ..run.directory import Run
from ..tasks.metric_names import format_metrics
from .checkpointing import LoopState, Saver
from .chunks import BatchChunk
from .early_stopping import Stopping, after_evaluation, after_step
from .metric_window import MetricWindow
from .nonfinite import diverged, find_nonfinite
from .progress import Display


class TrainingRecorder:
    """The books of one run.

    Args:
        run: where they are written.
        experiment: what it trains.
        layout: where its train state lies.
        eval_step: see `training.evaluation`.
        saver: writes its checkpoints.
        display: where progress goes.
        step: how many steps were taken before.
        memory: what is remembered of them.

    Attributes:
        step, memory: as they are by now.
        metric: the watched metric of the last validation.
    """

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        plan: ShardingPlan,
        eval_step: Callable[..., Any],
        saver: Saver,
        display: Display,
        *,
        step: int,
        memory: LoopState,
    ):
        self.step, self.memory = step, memory
        self.metric: float | None = None
        self.run, self.experiment, self.plan = run, experiment, plan
        self.eval_step, self.saver, self.display = eval_step, saver, display
        self._rules = stopping_rules(experiment.config)
        self._meter = MetricWindow(run, experiment, display, memory.window)

    def on_start(self, taken: InitReport, train_state: TrainState) -> None:
        """Say what was taken from elsewhere, and save it: the file need not be there to resume."""
        self.run.update_info(init_from=taken._asdict())
        self.display.note(str(taken))
        self.saver.save(self.plan.gather(train_state), LoopState())
        self.saver.wait()

    def on_chunk(
        self,
        done: BatchChunk,
        count: int,
        fine: int,
        metrics: dict[str, np.ndarray],
        state: Callable[[], TrainState],
    ) -> None:
        """Take in the steps of a chunk; one that is not finite is left out, and counts as taken.

        Args:
            done: the chunk.
            count: how many of its steps were to be taken.
            fine: how many of those were finite numbers throughout.
            metrics: of each step.
            state: gives the train state behind the last that was.

        Raises:
            NonFiniteError: no more steps may be left out; the state is saved.
        """
        self.step += fine
        self._meter.add(self.step, {k: m[:fine] for k, m in metrics.items()})
        if fine == count:
            self._stop_where_updates_are_small(metrics, fine - 1)
            return
        odd = find_nonfinite(self.step + 1, {k: m[: fine + 1] for k, m in metrics.items()})
        if self.memory.skipped >= self.experiment.config.training.skip_nonfinite:
            last = self.plan.gather(state())
            self.saver.save(last, self.loop_state())
            self.saver.wait()
            batch = (done.images[fine], rows(done.labels, fine))
            raise processes.give_up(diverged, self.run, self.experiment, odd, last, batch)
        self.run.log({"kind": "skipped", **odd.as_json()})
        self.memory = self.memory._replace(skipped=self.memory.skipped + 1)
        self.step += 1

    def maybe_evaluate(self, done: BatchChunk, state: Callable[[], TrainState]) -> bool:
        """Report and validate, as far as that is due behind a chunk.

        Args:
            done: the chunk.
            state: gives the train state.

        Returns:
            Whether it has to be saved now.
        """
        at_end = self.step == done.stop
        due = at_end and done.evaluated
        if self.memory.reason or (at_end and done.reported):
            self._meter.flush(self.step)
        if due:
            self._validate(state())
        return due or bool(self.memory.reason)

    def save(self, train_state: TrainState) -> None:
        """Checkpoint this state, beside the training."""
        self.memory = self.loop_state()
        self.saver.save(self.plan.gather(train_state), self.memory)

    def _stop_where_updates_are_small(self, metrics: dict[str, np.ndarray], row: int) -> None:
        """A step left out as its gradients overflowed is no small one: `step.loss_scaling`."""
        if self._rules.min_update is None or ("overflow" in metrics and metrics["overflow"][row]):
            return
        reason = after_step(self._rules, metrics["largest_update"][row])
        self.memory = self.memory._replace(reason=reason)

    def _validate(self, train_state: TrainState) -> None:
        """Evaluate on the validation split, if there is one, and remember what that came to."""
        dataset, rules = self.experiment.dataset, self._rules
        if not dataset.validation.count:
            return
        task, trained = self.experiment.task, train_state.trained
        result = evaluate_split(task, self.eval_step, *trained, dataset, "validation")
        record = result.as_record()
        self.run.log({"kind": "validation", "step": self.step, **record})
        self.display.note(f"validation at step {self.step}:  {format_metrics(record)}")
        self.metric = metric = float(getattr(result, self.experiment.config.early_stopping.metric))
        progress, why = after_evaluation(rules, self.memory.progress, metric, self.step)
        reason = self.memory.reason or why
        self.memory = memory = self.memory._replace(progress=progress, reason=reason)
        if math.isfinite(metric) and (memory.best is None or _as_good(rules, metric, memory.best)):
            self.memory = memory._replace(best=metric, best_step=self.step)

    def loop_state(self) -> LoopState:
        """What a checkpoint of this step remembers; it is the best if none was ever measured."""
        best_step = self.step if self.memory.best is None else self.memory.best_step
        return self.memory._replace(best_step=best_step, window=self._meter.window)


def stopping_rules(config: Config) -> Stopping:
    """When a config wants its run to stop before the end."""
    keywords = config.early_stopping.model_dump(exclude={"metric"})
    return Stopping(**keywords, mode="min" if config.early_stopping.metric == "loss" else "max")


def _as_good(rules: Stopping, metric: float, best: float) -> bool:
    """At least as good: of equals, the later is kept. NaN is never good."""
    return metric >= best if rules.mode == "max" else metric <= best
