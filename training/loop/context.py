"""What the loop needs of one network: handed as one value to its recorder, its program and its end.

`LoopContext` stays the same from the first step to the test; `StartPoint` is where the steps begin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..common.duration import interval_in_steps
from ..common.train_state import TrainState
from ..distributed import processes
from ..distributed.sharding import ShardingPlan
from ..experiment import Experiment, run_length
from ..initialize import InitReport
from ..run.directory import Run
from .callbacks import make_callbacks
from .checkpointing import LoopState, Saver
from .progress import Display


@dataclass(frozen=True)
class LoopContext:
    """One network in training, and all that is at hand for it.

    Args:
        run: its run directory.
        experiment: what is trained.
        plan: where its arrays lie.
        eval_step: see `training.evaluation`.
        saver: writes its checkpoints; a context of its own, for the caller to enter.
        display: where its progress goes.
        callbacks: look on; see `training.loop.callbacks`.
    """

    run: Run
    experiment: Experiment
    plan: ShardingPlan
    eval_step: Callable[..., Any]
    saver: Saver | processes.NullSaver
    display: Display
    callbacks: tuple[Any, ...] = ()


class StartPoint(NamedTuple):
    """Where training begins: before the first step, or behind a checkpoint."""

    train_state: TrainState
    loop_state: LoopState = LoopState()
    init_report: InitReport | None = None  # of first parameters from elsewhere, not yet saved
    ended: bool = False  # finished or diverged before: there is nothing left to train


def make_context(
    run: Run,
    experiment: Experiment,
    plan: ShardingPlan,
    eval_step: Callable[..., Any],
    display: Display,
    callbacks: Sequence[Any] = (),
) -> LoopContext:
    """Return the context of a network, with a saver in the process that writes the run.

    Args:
        run, experiment, plan, eval_step, display: see `LoopContext`.
        callbacks: beside those that its config names.
    """
    watching = make_callbacks(experiment.config, callbacks)
    make_saver = Saver if processes.is_first() else processes.NullSaver
    saver = make_saver(run, experiment, every=evaluation_interval(experiment))
    return LoopContext(run, experiment, plan, eval_step, saver, display, watching)


def evaluation_interval(experiment: Experiment) -> float:
    """Return the number of steps between two evaluations, not rounded."""
    config, examples = experiment.config, experiment.card.counts["train"]
    length = run_length(config, examples, experiment.total_steps)
    return interval_in_steps(config.training.evaluate_every, length)
