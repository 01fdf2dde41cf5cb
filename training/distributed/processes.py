"""Several processes as one run: how they find each other, agree, and notice that one is gone.

Every process runs the same program on the same config and data, and holds some of the devices of
one mesh (`training.distributed.sharding`). JAX's own runtime does the rest. What the clock, a
signal or the file system decides is not the same everywhere, so it is agreed upon here: process 0
sets the pace and writes the run directory, and a signal to one is a signal to all.
"""

import re
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather

from ...model import LayerError
from ..common.errors import ConvaxError
from ..run import checkpoint
from ..run.directory import Run, RunError

AGREED = "all processes know of this error"


class ProcessError(ConvaxError, RuntimeError):
    """Processes cannot find each other, or another one could not go on; one line."""

    in_all_processes = True


class LostProcessError(ConvaxError, RuntimeError):
    """Another process is gone; one line that says how to continue."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, "try again"


class ProcessSpec(NamedTuple):
    """Where processes meet, how many they are, and which one this is."""

    coordinator: str | None = None  # HOST:PORT of process 0
    processes: int | None = None
    process_id: int | None = None


def start(place: ProcessSpec, *, heartbeat_timeout: int, startup_timeout: int) -> None:
    """Join the other processes, before JAX is used for anything else.

    Args:
        place: what is None is found by JAX: under SLURM, Open MPI, on Kubernetes and Cloud TPU.
        heartbeat_timeout: seconds without a sign of life after which a process counts as dead.
        startup_timeout: seconds to wait for the others at the beginning.

    Raises:
        ProcessError: not all of it is known, or the others did not come.
    """
    if place.coordinator is not None and place.process_id != 0:
        _reach(place.coordinator, startup_timeout)
    # Its handler of SIGTERM would take the place of ours, which saves.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *place,
            initialization_timeout=startup_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
            shutdown_timeout_seconds=max(startup_timeout, heartbeat_timeout),
        )
    except ValueError as error:
        raise ProcessError(
            f"--distributed: {_first_line(error)}; the environment does not identify the "
            "processes; give --coordinator HOST:PORT --processes N --process-id I"
        ) from None
    except RuntimeError as error:
        raise ProcessError(f"the processes did not connect: {_first_line(error)}") from None


def _reach(coordinator: str, timeout: int) -> None:
    """Wait for process 0 to be there: JAX itself would end this process with a stack trace."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise ProcessError(f"--coordinator: got {coordinator!r}, need HOST:PORT of process 0")
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ProcessError(
                    f"--coordinator {coordinator}: cannot be reached within {timeout} s "
                    f"({error.strerror or error}); is process 0 running there?"
                ) from None
            time.sleep(0.2)


def is_first() -> bool:
    """Return whether this process writes the run directory: it is number 0, or the only one."""
    return jax.process_index() == 0


def broadcast_str(text: str) -> str:
    """Return the text of process 0."""
    if jax.process_count() == 1:
        return text
    content = np.frombuffer(text.encode(), np.uint8)
    size = int(broadcast_one_to_all(np.int32(content.size)))
    mine = content if is_first() else np.zeros(size, np.uint8)
    return bytes(broadcast_one_to_all(mine)).decode()


def sync(pace: int, signals: list[int], *, failed: bool) -> tuple[int, list[int], list[int]]:
    """Agree on the pace of process 0, the signals that any process was sent, and who has failed.

    Returns:
        the pace, the signals, and the indices of the processes that have failed.
    """
    if jax.process_count() == 1:
        return pace, list(signals), [0] if failed else []
    mine = np.array([pace, signals[0] if signals else 0, failed], np.int32)
    everybody = process_allgather(mine)
    noted = [int(signum) for signum in everybody[:, 1] if signum]
    return int(everybody[0, 0]), noted, np.flatnonzero(everybody[:, 2]).tolist()


def failed_elsewhere(failed: Sequence[int], what: str) -> ProcessError:
    """Return the error of a process that stops because another one could not do something."""
    return ProcessError(
        f"process {jax.process_index()}: stopped because process {failed[0]} could not {what}; "
        "its own output says why"
    )


@contextmanager
def barrier(what: str) -> Iterator[None]:
    """Wait behind the block until all processes are there; where one failed in it, all stop.

    Raises:
        ProcessError: another process failed.
    """
    if jax.process_count() == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        process_allgather(np.array(True))
        error.add_note(AGREED)
        raise
    failed = np.flatnonzero(process_allgather(np.array(False)))
    if failed.size:
        raise failed_elsewhere(failed.tolist(), what)


def check_alike(name: str, value: str) -> None:
    """Raise unless all processes have the same `value`.

    Raises:
        RunError: this one has another than process 0.
    """
    if broadcast_str(value) != value:
        raise RunError(
            f"process {jax.process_index()}: its {name} differs from that of process 0; give all "
            "processes the same config, data, CONVAX_LOWERING and native kernels"
        )


class ReadOnlyRun(Run):
    """The run directory, for a process that is not to write into it."""

    def log(self, record: dict[str, Any]) -> None:
        """Do nothing; process 0 does."""

    def forget_after(self, step: int) -> None:
        """Do nothing; process 0 does."""

    def update_info(self, **changes: Any) -> None:
        """Do nothing; process 0 does."""


class NullSaver:
    """What a process that is not to write saves: nothing."""

    def __init__(self, run: Run, experiment: Any, *, every: float):
        del run, experiment, every

    def save(self, train_state: Any, memory: Any) -> None:
        """Do nothing; process 0 does."""

    def wait(self) -> None:
        """Do nothing; process 0 does."""

    def __enter__(self) -> "NullSaver":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        pass


def give_up(diagnose: Callable[..., Exception], run: Run, *found: Any) -> Exception:
    """Make the error of a step that is not finite; process 0 finds and records its cause."""
    if is_first():
        return diagnose(run, *found)
    return ProcessError(f"process {jax.process_index()}: a step is not finite; see process 0")


@contextmanager
def detect_peer_loss(run: Path) -> Iterator[None]:
    """Say clearly in the block that another process is gone.

    What convax itself says, and what all processes know of, may have such words in a path.

    Raises:
        LostProcessError: it is.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        known = isinstance(error, (ConvaxError, LayerError)) or _known_to_all(error)
        if jax.process_count() == 1 or known or not _BROKEN.search(str(error)):
            raise
        last = checkpoint.named(run / "checkpoints", "last")
        saved = f"the last checkpoint is {last}" if last else "nothing had been saved yet"
        raise LostProcessError(
            f"process {jax.process_index()} of {jax.process_count()}: lost another process "
            f"({_first_line(error).rpartition(': ')[2]}); {saved}; start all processes again with: "
            f"convax train --resume {shlex.quote(str(run))}"
        ) from None


def must_abort(error: BaseException) -> bool:
    """Return whether other processes wait for this one, which stops for a reason of its own."""
    known = isinstance(error, ConvaxError) and error.in_all_processes
    return jax.distributed.is_initialized() and not (known or _known_to_all(error))


def _known_to_all(error: BaseException) -> bool:
    return AGREED in getattr(error, "__notes__", ())


# What collectives say whose other end is gone.
_BROKEN = re.compile(r"gloo|nccl|socket closed|connection|unavailable|heartbeat|peer", re.I)


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")
