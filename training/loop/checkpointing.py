"""Saving while training goes on, and which checkpoints are kept.

A save copies the state at once; hashing, writing and flushing it to the disk happen in a thread
beside the training, one save at a time: the next one, and the end of the run, wait for it. What was
logged up to that step goes to the disk before the checkpoint, so a checkpoint's metrics are there.

`[checkpoints]` says what is kept: the newest `keep_last`, so that one damaged file costs no more
than a step back; the best; and for good the first one in each stretch of `keep_every`.
"""

import errno
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..common.duration import interval_in_steps
from ..common.train_state import TrainState
from ..experiment import Experiment, run_length
from ..run import checkpoint
from ..run.directory import Run, RunError
from ..run.metrics_log import MetricsLog
from ..run.provenance import summarized
from .early_stopping import Progress
from .plateau import PlateauProgress


class SaveError(RunError):
    """The run could not be written to; names the remedy."""


class LoopState(NamedTuple):
    """All that decides the future beside the train state; in every checkpoint, as JSON."""

    progress: Progress = Progress()  # the validations so far, as the stop conditions see them
    best: float | None = None  # the watched metric of the best checkpoint
    best_step: int | None = None  # its step
    reason: str | None = None  # why to stop, once there is a reason
    skipped: int = 0  # steps left out, as they were not finite
    window: dict[str, list[float]] | None = None  # metrics of steps not yet reported
    finalized_from: int | None = None  # the step of the checkpoint that `loop.final` began with
    plateau: PlateauProgress | None = None  # the validations so far, as `[plateau]` sees them

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        saved = self._asdict() | {"progress": self.progress._asdict()}
        return saved | {"plateau": None if self.plateau is None else self.plateau._asdict()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "LoopState":
        """Return the state that `as_json` was called on."""
        known: dict[str, Any] = {name: saved[name] for name in cls._fields if name in saved}
        known["progress"] = Progress(**saved["progress"])
        if known.get("plateau") is not None:
            known["plateau"] = PlateauProgress(**known["plateau"])
        return cls(**known)


class Saver:
    """Writes the checkpoints of a run; a context, at whose end everything is on the disk."""

    def __init__(self, run: Run, experiment: Experiment, *, every: float):
        self._run, self._provenance = run, summarized(run.info().get("provenance", {}))
        self._keep, total = experiment.config.checkpoints, experiment.total_steps
        length = run_length(experiment.config, experiment.card.counts["train"], total)
        often = self._keep.keep_every
        stretch = math.inf if often is None else interval_in_steps(often, length)
        self._forever = partial(_first, total=total, every=every, stretch=stretch)
        self._metrics_log = MetricsLog(run.metrics_file)
        self._thread: threading.Thread | None = None
        self._failure: tuple[int, Exception] | None = None

    def save(self, train_state: TrainState, loop_state: LoopState) -> None:
        """Checkpoint this state as "last", and as "best" where `loop_state` says that it is.

        Raises:
            SaveError: the save before this one failed.
        """
        self.wait()
        work = (checkpoint.snapshot(train_state), loop_state, self._metrics_log.size())
        self._thread = threading.Thread(target=self._write, args=work, name="saver", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the save that is under way is on the disk.

        Raises:
            SaveError: it failed.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            (step, error), self._failure = self._failure, None
            raise cannot_write(self._run, error, f"the checkpoint of step {step}") from error

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.wait()

    def _write(self, snapshot: checkpoint.Snapshot, loop_state: LoopState, logged: int) -> None:
        try:
            folder = self._run.checkpoints
            saved = loop_state.as_json() | {"metrics": self._metrics_log.digest(logged)}
            name = checkpoint.write(folder, snapshot, saved, self._provenance)
            # "best" first: killed in between, the way to this step is repeated, and finds the same.
            if loop_state.best_step == snapshot.step:
                checkpoint.point(folder, "best", name)
            checkpoint.point(folder, "last", name)
            begun = loop_state.finalized_from  # where this is damaged, it is made of that again
            checkpoint.prune(
                folder, self._keep.keep_last, lambda step: step == begun or self._forever(step)
            )
        except Exception as error:  # whatever it is: a thread's own end would go unnoticed
            self._failure = snapshot.step, error


def cannot_write(run: Run, error: Exception, what: str | None = None) -> SaveError:
    """Return what to raise where the disk or want of memory keeps something from being saved.

    Args:
        run: the run, or study, that was to be written.
        error: what happened.
        what: names what was to be written; by default the file that the error names.
    """
    remedy = {
        errno.ENOSPC: "make room",
        errno.EDQUOT: "make room",
        errno.EROFS: "make it writable",
        errno.EACCES: "make it writable",
        errno.EPERM: "make it writable",
        errno.EFBIG: "raise the limit on the size of a file",
    }.get(getattr(error, "errno", None) or 0, "look to the disk")
    if not isinstance(error, _OF_THE_DISK):
        remedy = "free some memory" if isinstance(error, MemoryError) else "report it as a bug"
    filename = getattr(error, "filename", None)
    what = what or (Path(filename).name if filename else "a file")
    last = next(iter(checkpoint.names(run.checkpoints)), None)
    kept = f"{last} is whole" if last else "nothing had been saved yet"
    if (run.path / "study.json").is_file():
        kept = "what its runs have saved is whole"
    failed = f"{what} could not be written: {_reason(error)}"
    return SaveError(f"{run.path}: {failed}; {kept}; {remedy}, then: {run.again}")


@contextmanager
def disk_watched(run: Run) -> Iterator[None]:
    """Say in one line what the disk refuses to take in the block.

    Raises:
        SaveError: see `cannot_write`.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(run, error) from None


_OF_THE_DISK = (OSError, checkpoint.CheckpointError)


def _reason(error: Exception) -> str:
    """One line."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    first = next(iter(said.splitlines()), "")
    if isinstance(error, _OF_THE_DISK) and first:
        return first
    return f"{type(error).__name__}: {first}".removesuffix(": ")


def _first(step: int, *, total: int, every: float, stretch: float) -> bool:
    """Return whether this evaluation is the first in a stretch: by the steps alone, not history.

    Example:
        >>> [step for step in range(13) if _first(step, total=12, every=2.5, stretch=5.5)]
        [8, 12]
    """
    if step < 1 or not (step // every > (step - 1) // every or step == total):
        return False
    before = math.ceil((step - 1) // every * every)
    return step // stretch > before // stretch
