"""Many networks in one program: `training.loop.chunk_loop` over all of them at once.

Each has a run directory, a recorder and a saver of its own, as if it were trained alone; what is
different is its program (`training.experiments.batched_program`), and that a network which stops
early or diverges keeps its state while the others go on.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import jax
import numpy as np

from ..distributed.sharding import ShardingPlan
from ..experiment import Experiment
from ..initialize import init_from_source
from ..loop.checkpointing import disk_watched
from ..loop.chunk_loop import ChunkLoop
from ..loop.chunks import BatchChunk
from ..loop.context import LoopContext, StartPoint, make_context
from ..loop.loop import finish
from ..loop.nonfinite import NonFiniteError
from ..loop.progress import Display, Silent
from ..loop.recorder import ChunkResult, TrainingRecorder
from ..loop.resume import find_resume_point
from ..loop.signals import signals_noted
from ..loop.tracking import followed
from ..run import lock
from ..run.directory import Run
from .batched_program import BatchedProgram, Batching, make_eval_steps
from .results import spread_of


class Member(NamedTuple):
    """One network of many."""

    name: str
    run: Run
    experiment: Experiment


class MemberRecorder(TrainingRecorder):
    """The recorder of a network among others: what ends it is noted, and ends none of the others.

    Args:
        context, start: see `TrainingRecorder`; the context's display is its own.
        name: of the member.
        display: of the study.
    """

    def __init__(self, context: LoopContext, start: StartPoint, *, name: str, display: Display):
        super().__init__(context, start)
        self._name, self._study_display = name, display

    def on_chunk(self, result: ChunkResult) -> None:
        """See `TrainingRecorder`; where this network diverges, the study hears of it."""
        try:
            super().on_chunk(result)
        except NonFiniteError as error:
            self.ended = True
            self._study_display.note(str(error))

    def maybe_evaluate(self, result: ChunkResult) -> bool:
        """See `TrainingRecorder`; where this network stops early, the study hears of it."""
        due = super().maybe_evaluate(result)
        if self.loop_state.reason:
            self._study_display.note(f"{self._name} stopped early: {self.loop_state.reason}")
        return due


def fit_together(
    members: Sequence[Member],
    batching: Batching,
    whole: Run,
    display: Display,
    *,
    force: bool = False,
) -> list[int]:
    """Train members of one program to their ends; those that are finished or diverged stay so.

    Where some are further on than others, as after a kill between two checkpoints, those wait.

    Args:
        members: the networks.
        batching: of the program.
        whole: the directory that they belong to, for messages.
        display: where progress goes.
        force: see `loop.resume`.

    Returns:
        Signals that came too late to interrupt this.

    Raises:
        RunError: a member is in use, has changed or is damaged; or the disk refuses to take
            something.
        InterruptedRun: Ctrl-C, SIGTERM or SIGHUP; all states were saved.
    """
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(lock.held(member.run.path))
        starts = [_start_point(member, display, force) for member in members]
        with disk_watched(whole):
            recorders = _recorders(members, starts, display, stack)
            with signals_noted() as signals:
                if any(recorder.is_training for recorder in recorders):
                    _train(recorders, starts, batching, whole, display, signals)
            for recorder in recorders:
                if not recorder.ended:
                    with disk_watched(recorder.context.run):
                        finish(recorder, draw=False)
            return signals


def _start_point(member: Member, display: Display, force: bool) -> StartPoint:
    """Its newest whole checkpoint, or the very beginning; what has ended is not looked at."""
    run, experiment = member.run, member.experiment
    if run.info()["status"] in ("finished", "diverged"):
        return StartPoint(experiment.init(), ended=True)
    found = find_resume_point(run, experiment, display, force=force)
    run.update_info(status="running")
    if found is None:
        train_state, report = init_from_source(experiment)
        return StartPoint(train_state, init_report=report)
    return StartPoint(found.train_state, found.loop_state)


def _recorders(
    members: Sequence[Member],
    starts: Sequence[StartPoint],
    display: Display,
    stack: ExitStack,
) -> list[MemberRecorder]:
    """A recorder of each member; what it has open is closed with the stack."""
    recorders = []
    eval_steps = make_eval_steps([member.experiment for member in members])
    for member, start, eval_step in zip(members, starts, eval_steps, strict=True):
        run, experiment = member.run, member.experiment
        quiet: Display = Silent()
        if not start.ended:
            quiet = stack.enter_context(followed(run, experiment.config, quiet, display.note))
        context = make_context(run, experiment, ShardingPlan(None), eval_step, quiet)
        stack.enter_context(context.saver)
        recorder = MemberRecorder(context, start, name=member.name, display=display)
        if start.init_report is not None:
            display.note(str(start.init_report))
            recorder.on_start(start.init_report, start.train_state)
        recorders.append(recorder)
    return recorders


def _train(
    recorders: Sequence[MemberRecorder],
    starts: Sequence[StartPoint],
    batching: Batching,
    whole: Run,
    display: Display,
    signals: list[int],
) -> None:
    """Take the steps of all members, until the end of each or its reason to stop."""
    steps = [recorder.step for recorder in recorders if recorder.is_training]
    contexts = [recorder.context for recorder in recorders]
    experiment = contexts[0].experiment
    total, metric = experiment.total_steps, experiment.config.early_stopping.metric
    display.note(
        f"{whole.path}: {len(steps)} networks in one program ({batching}), from step {min(steps)} "
        f"to {total}; {jax.default_backend()}"
    )
    for note in dict.fromkeys(n for context in contexts for n in context.experiment.card.notes):
        display.note(f"note: {note}")

    def report(chunk: BatchChunk, active: list[int], losses: np.ndarray) -> None:
        """Show the mean over the networks that took these steps, and how far they are apart."""
        display.step(chunk.stop, total, {"loss": float(losses.mean())})
        values = [m for m in (recorders[i].metric for i in active) if m is not None]
        if chunk.evaluated and values:
            display.note(f"validation at step {chunk.stop}:  {metric} {spread_of(values)}")

    program = BatchedProgram(
        [context.experiment for context in contexts],
        [start.train_state for start in starts],
        batching,
        runs=[context.run for context in contexts],
        display=display,
    )
    ChunkLoop(program, recorders, whole, on_report=report).run(signals)
