"""The loop itself, for one network or for M: chunk after chunk of steps, until each has ended.

Written once, here: the next chunk, the call of the program and its time, metrics on their way to
the host, what is recorded behind it, checkpoints, early stopping, signals. Two things differ, and
each has one place:

    the program    `StepProgram`: that of one network (`loop.single_program`) is compiled without a
                   leading axis, on as many devices and processes as the plan says; that of M
                   (`experiments.batched_program`) has an axis M in front of every array, as it is
                   mapped over. With an axis of one, a network alone would be rounded otherwise.
    the recorder   `TrainingRecorder`, one for each network. That of a network alone lets the error
                   of a step that is not finite end the run; that of one among others
                   (`experiments.batched_loop.MemberRecorder`) notes it, and the others go on.

Networks may be at different steps, as after a kill between two checkpoints, or behind a step left
out: those that are furthest back take steps, and the others wait for them.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import numpy as np

from ..common.train_state import TrainState
from ..data import DataError
from ..distributed import processes
from ..run.directory import Run
from .callbacks import CallbackError
from .checkpointing import disk_watched
from .chunks import BatchChunk, ChunkLoader, ChunkSizer
from .context import LoopContext, evaluation_interval
from .recorder import ChunkResult, TrainingRecorder
from .signals import InterruptedRun


class InterruptedByDataError(DataError):
    """The data of the next steps cannot be read; the state was saved."""

    in_all_processes = True

    def __init__(self, reason: str, run: Run, step: int, total: int):
        super().__init__(
            f"{reason}; stopped at step {step} of {total}, state saved; when that is mended, "
            f"continue with: {run.again}"
        )


class StepProgram(Protocol):
    """The training steps of M networks as one program, and the states that they are at.

    Attributes:
        shares_batches: whether all M take the same batches, so that one loader is enough.
    """

    shares_batches: bool

    def dispatch(self, chunks: Sequence[BatchChunk], counts: np.ndarray) -> None:
        """Start to take steps; returns while the device is at work.

        Args:
            chunks: one for each network, all of the same steps.
            counts: ``(M,)``, int32: how many steps each takes; at 0 its state stays as it is.
        """
        ...

    def collect(self) -> tuple[list[dict[str, np.ndarray]], list[int]]:
        """Wait for these steps; return for each network its metrics, ``(K,)`` each, and its step.

        The step is behind the last one that was finite.
        """
        ...

    def state(self, index: int) -> TrainState:
        """Return the train state of a network."""
        ...

    def count_left_out(self, index: int) -> None:
        """Count the step that this network was not to take as taken."""
        ...

    def scale_rate(self, index: int, scale: float) -> None:
        """Multiply the learning rate of a network's schedule by this from here on."""
        ...


OnReport = Callable[[BatchChunk, list[int], np.ndarray], None]


class ChunkLoop:
    """The loop over the networks of one program.

    Args:
        program: takes the steps.
        recorders: of each network.
        run: the directory that they belong to, for messages: the run, or its study.
        on_report: called behind a chunk that ends a window of metrics, with that chunk, the indices
            of the networks that took it, M' of them, and their losses, ``(M', steps)``.
    """

    def __init__(
        self,
        program: StepProgram,
        recorders: Sequence[TrainingRecorder],
        run: Run,
        *,
        on_report: OnReport | None = None,
    ):
        self._program, self._recorders, self._run = program, recorders, run
        self._on_report = on_report
        self._total = recorders[0].context.experiment.total_steps
        self._sizer = ChunkSizer()
        own = recorders[:1] if program.shares_batches else recorders
        self._loaders = [_loader(recorder.context, self._sizer) for recorder in own]

    @property
    def _training(self) -> list[int]:
        """The networks that have steps before them."""
        return [i for i, recorder in enumerate(self._recorders) if recorder.is_training]

    def run(self, signals: list[int]) -> None:
        """Take steps, evaluate and checkpoint until all networks have ended.

        Args:
            signals: see `signals_noted`; one that comes in a chunk is acted on behind it.

        Raises:
            InterruptedRun: after a signal; all states were saved.
            InterruptedByDataError: the data of the next steps cannot be read; likewise.
            CallbackError: a callback has raised something; all states were saved.
            NonFiniteError: as far as a recorder lets it pass.
            SaveError: the disk refuses to take something.
        """
        ahead: list[BatchChunk | None] = []
        with ExitStack() as stack:
            for loader in self._loaders:
                stack.callback(loader.close)
            for recorder in self._recorders:  # a second signal kills no save
                stack.callback(recorder.context.saver.wait)
            for i in self._training:
                self._recorders[i].notify("on_start", {}, partial(self._program.state, i))
            self._raise_failure()
            while self._training:
                ahead = self._run_chunk(ahead, signals)

    def _run_chunk(
        self, ahead: Sequence[BatchChunk | None], signals: list[int]
    ) -> list[BatchChunk | None]:
        """Take the steps of the next chunk, and do what is due behind it; return those ahead."""
        began, start = time.perf_counter(), self._furthest_back()
        loaded = _at(start, ahead) or _at(start, [loader.start(start) for loader in self._loaders])
        chunks = loaded * len(self._recorders) if self._program.shares_batches else loaded
        active, count = self._turn(start, chunks[0])
        counts = np.zeros(len(chunks), np.int32)
        counts[active] = count
        self._program.dispatch(chunks, counts)
        whole = count == chunks[0].steps
        ahead, failure = self._read_ahead() if whole else ([], None)  # meanwhile
        metrics, steps = self._program.collect()
        self._sizer.update(count, time.perf_counter() - began)
        results = {
            i: ChunkResult(
                chunks[i], count, steps[i] - start, metrics[i], partial(self._program.state, i)
            )
            for i in active
        }
        noted, failing = self._record(results, signals, failure)
        if whole and chunks[0].reported:
            self._report(results)
        if (noted or failing) and any(recorder.is_unfinished for recorder in self._recorders):
            at = max(self._recorders[i].step for i in active)
            if failing:
                reason = str(failure or processes.failed_elsewhere(failing, "read its data"))
                raise InterruptedByDataError(reason, self._run, at, self._total)
            raise InterruptedRun(self._run, at, self._total, noted[0])
        return ahead

    def _read_ahead(self) -> tuple[list[BatchChunk | None], DataError | None]:
        """Return the next chunks, or why they cannot be read."""
        try:
            return [loader.next() for loader in self._loaders], None
        except DataError as error:
            return [], error

    def _furthest_back(self) -> int:
        return min(self._recorders[i].step for i in self._training)

    def _turn(self, start: int, chunk: BatchChunk) -> tuple[list[int], int]:
        """Return the networks that are at `start`, and how many steps they take.

        Others that are further on wait; no step is taken beyond the first of them.
        """
        training = {i: self._recorders[i].step for i in self._training}
        active = [i for i, step in training.items() if step == start]
        first = min((step for step in training.values() if step > start), default=self._total)
        return active, min(int(chunk.steps), first - start)

    def _record(
        self, results: dict[int, ChunkResult], signals: list[int], failure: DataError | None
    ) -> tuple[list[int], list[int]]:
        """Record what these networks came to, and save it where that is due.

        Returns:
            The signals, and the processes that cannot read their data.
        """
        due = {}
        for i, result in results.items():
            recorder = self._recorders[i]
            with disk_watched(recorder.context.run):
                recorder.on_chunk(result)
                if recorder.ended:  # it has saved what there was
                    continue
                if result.finite < result.steps:
                    self._program.count_left_out(i)
                due[i] = recorder.maybe_evaluate(result)
                if due[i] and recorder.rate_scale is not None:
                    self._program.scale_rate(i, recorder.rate_scale)
        self._sizer.steps, noted, failing = processes.sync(
            self._sizer.steps, signals, failed=failure is not None
        )
        failed = any(recorder.failure is not None for recorder in self._recorders)
        for i, is_due in due.items():
            if is_due or noted or failing or failed:
                with disk_watched(self._recorders[i].context.run):
                    self._recorders[i].checkpoint(self._program.state(i))
        self._raise_failure()
        return noted, failing

    def _raise_failure(self) -> None:
        """Raise what a callback has raised, if one has."""
        for recorder in self._recorders:
            if recorder.failure is not None:
                again = f"correct it, and continue with: {self._run.again}"
                raise CallbackError(f"{recorder.failure}; {again}") from recorder.failure.__cause__

    def _report(self, results: dict[int, ChunkResult]) -> None:
        going = [i for i in results if not self._recorders[i].ended]
        if self._on_report is not None and going:
            losses = [results[i].metrics["loss"][: results[i].steps] for i in going]
            self._on_report(results[going[0]].chunk, going, np.stack(losses))


def _loader(context: LoopContext, sizer: ChunkSizer) -> ChunkLoader:
    """The batches of a network, as far as this process feeds them."""
    experiment = context.experiment
    config = experiment.config
    return ChunkLoader(
        experiment.dataset.train,
        config,
        sizer,
        total=experiment.total_steps,
        every=evaluation_interval(experiment),
        rows=context.plan.local_rows(config.training.batch_size),
    )


def _at(step: int, chunks: Sequence[BatchChunk | None]) -> list[BatchChunk]:
    """The chunks, which are of the same steps, if they begin at this one; else nothing."""
    return [c for c in chunks if c is not None and c.stop - int(c.steps) == step]
