"""The batches of a run, in order: gathered from memory, or decoded ahead from files."""

import errno
import math
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..common.text import first_line
from .dataset import Split, batch_indices
from .errors import DataError
from .spool import Spool, Stored
from .streaming import Deferred, Streamed
from .tree import Tree, map_leaves
from .tree import rows as take

_BUFFER = 2  # batches that a worker has ready, and that are ready here of each
_AHEAD = 2 * _BUFFER + 3  # of each worker there are at once, those in hands counted in
_FEWER = "lower data.num_workers (in the config.toml of a run)"
_LESS_MEMORY = f"give it more memory, or {_FEWER}"
_SHARED = "they need a little of /dev/shm (of a container: docker run --shm-size=2g)"
_TO_START = {
    **dict.fromkeys((errno.ENOSPC, errno.ENOENT, errno.EACCES, errno.ENOSYS), _SHARED),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), f"allow more open files (ulimit -n), or {_FEWER}"
    ),
    errno.EAGAIN: f"allow more processes (ulimit -u), or {_FEWER}",
    errno.ENOMEM: _LESS_MEMORY,
}


def read_batches(
    split: Split,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    rows: slice = slice(None),
    classes: np.ndarray | None = None,
) -> Generator[tuple[np.ndarray, Tree], None, None]:
    """Yield the batches of the steps from `start` to `stop`, see `batch_indices`.

    Of images in memory each is gathered when it is asked for. Streamed ones are decoded ahead, in
    worker processes, by Grain, and so are labels that are `Deferred`; what a batch holds does not
    depend on how many these are.

    Args:
        split: the examples.
        seed, batch_size, classes: see `batch_indices`.
        start, stop: steps.
        rows: the part of each batch to read; all of it by default.

    Raises:
        DataError: an image cannot be read, a worker process is gone, its batches have no room, or
            Grain is not installed.
    """
    keywords = {"size": split.count, "batch_size": batch_size, "seed": seed, "classes": classes}
    indices = partial(batch_indices, **keywords)
    if not isinstance(split.images, Streamed):
        for step in range(start, stop):
            batch = indices(step)[rows]
            yield split.images[batch], take(split.labels, batch)
        return

    deferred: list[Deferred] = [split.images]
    map_leaves(lambda leaf: deferred.append(leaf) if _is_deferred(leaf) else None, split.labels)
    workers = split.images.num_workers
    most = len(range(batch_size)[rows]) * sum(map(_row_bytes, deferred))
    spool = Spool(most=most, ahead=workers * _AHEAD)
    decoder = _Decoder(deferred, indices, rows, spool)
    with _workers_watched(begun=False):
        steps = iter(_prefetched(decoder, start, stop, workers))
    try:
        for step in range(start, stop):
            with _workers_watched(begun=step > start):  # the first one starts them
                stored = next(steps)
            if isinstance(stored, str):
                raise DataError(stored)
            images, *made = spool.take(Stored(*stored))
            yield images, _filled(split.labels, indices(step)[rows], made)
    finally:
        try:
            steps.close()
        finally:
            spool.clear()


def _row_bytes(array: Deferred) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize


def _is_deferred(leaf: Any) -> bool:
    return isinstance(leaf, Deferred)


def _filled(labels: Tree, batch: np.ndarray, made: Sequence[np.ndarray]) -> Tree:
    """Return the labels of a batch, of which those that are deferred have been made, in order."""
    ready = iter(made)
    return map_leaves(lambda leaf: next(ready) if _is_deferred(leaf) else leaf[batch], labels)


class _Decoder:
    """What is deferred of a batch, by its step: what a worker process makes; it can be pickled."""

    def __init__(
        self,
        deferred: Sequence[Deferred],
        indices: Callable[[int], np.ndarray],
        rows: slice,
        spool: Spool,
    ):
        self._deferred, self._indices, self._rows, self._spool = deferred, indices, rows, spool

    def __call__(self, step: int) -> Stored | str:
        batch = self._indices(step)[self._rows]
        try:
            made = [array.read(batch) for array in self._deferred]
            return self._spool.put(step, made)
        except DataError as error:
            return str(error)  # an exception would come out of Grain as another
        except MemoryError:
            return f"no memory to decode a batch: {_LESS_MEMORY}"
        except OSError as error:
            return f"a batch cannot be decoded: {_reason(error)}"


def _prefetched(decoder: Callable[[int], Any], start: int, stop: int, workers: int) -> Any:
    """Compute `decoder` of each step ahead, in worker processes."""
    try:
        import grain
        from absl import flags
    except ImportError:
        raise DataError(
            'data.stream: needs Grain, for its worker processes; pip install "convax[stream]"'
        ) from None
    if not flags.FLAGS.is_parsed():  # Grain reads flags, which only absl's own programs parse
        flags.FLAGS.mark_as_parsed()
    steps = grain.MapDataset.range(start, stop).map(decoder)
    one_by_one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_BUFFER)
    return steps.to_iter_dataset(one_by_one).mp_prefetch(processes, worker_init_fn=_leave_signals)


@contextmanager
def _workers_watched(*, begun: bool) -> Iterator[None]:
    """Say in one line that a worker process is gone, or that none can be started.

    Args:
        begun: whether they have sent something already.

    Raises:
        DataError: this line.
    """
    try:
        yield
    except RuntimeError as error:
        code = re.search(r"terminated\s+unexpectedly with exit code (-?\d+)", str(error))
        if code is None:  # as Grain puts it; the error is another
            raise
        raise DataError(
            f"a worker process that decodes images {_end(int(code[1]))}: {_LESS_MEMORY}"
        ) from None
    except OSError as error:
        if begun:
            raise DataError(
                f"worker processes that decode images cannot be read from: {_reason(error)}"
            ) from None
        remedy = _TO_START.get(error.errno or 0)
        raise DataError(
            f"worker processes that decode images cannot be started: {_reason(error)}"
            + (f"; {remedy}" if remedy else "")
        ) from None


def _reason(error: OSError) -> str:
    """Say what the system refused, and of which file where that is known."""
    about = f"{error.filename}: " if error.filename is not None else ""
    return about + (error.strerror or first_line(error))


def _end(code: int) -> str:
    """Say how a process has ended."""
    if code == -signal.SIGKILL:
        return "was killed, as the system does where memory runs out"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"has ended with exit code {code}, and its own output says why"


def _leave_signals(worker: int, workers: int) -> None:
    """Ignore signals in a worker that a terminal and a job send to every process.

    What to do about them is the first one's affair. When it is gone, this one goes, too.
    """
    del worker, workers
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_go_with, args=(parent,), name="parent", daemon=True).start()


def _go_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
