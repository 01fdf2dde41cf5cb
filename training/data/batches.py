"""The batches of a run, in order: gathered from memory, or decoded ahead from files."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from .dataset import Split, batch_indices
from .errors import DataError
from .streaming import Deferred, Streamed
from .tree import Tree, map_leaves
from .tree import rows as take


def read_batches(
    split: Split,
    *,
    seed: int,
    batch_size: int,
    start: int,
    stop: int,
    rows: slice = slice(None),
) -> Generator[tuple[np.ndarray, Tree], None, None]:
    """Yield the batches of the steps from `start` to `stop`, see `batch_indices`.

    Of images in memory each is gathered when it is asked for. Streamed ones are decoded ahead, in
    worker processes, by Grain, and so are labels that are `Deferred`; what a batch holds does not
    depend on how many these are.

    Args:
        split: the examples.
        seed, batch_size: see `batch_indices`.
        start, stop: steps.
        rows: the part of each batch to read; all of it by default.

    Raises:
        DataError: an image cannot be read, or Grain is not installed.
    """
    size = split.count

    def indices(step: int) -> np.ndarray:
        return batch_indices(step, size=size, batch_size=batch_size, seed=seed)[rows]

    if not isinstance(split.images, Streamed):
        for step in range(start, stop):
            batch = indices(step)
            yield split.images[batch], take(split.labels, batch)
        return

    deferred: list[Deferred] = [split.images]
    map_leaves(lambda leaf: deferred.append(leaf) if _is_deferred(leaf) else None, split.labels)
    decoder = _Decoder(deferred, seed, batch_size, rows)
    steps = iter(_prefetched(decoder, start, stop, split.images.num_workers))
    try:
        for step, made in zip(range(start, stop), steps, strict=True):
            if isinstance(made, str):
                raise DataError(made)
            yield made[0], _filled(split.labels, indices(step), made[1:])
    finally:
        steps.close()


def _is_deferred(leaf: Any) -> bool:
    return isinstance(leaf, Deferred)


def _filled(labels: Tree, batch: np.ndarray, made: Sequence[np.ndarray]) -> Tree:
    """Return the labels of a batch, of which those that are deferred have been made, in order."""
    ready = iter(made)
    return map_leaves(lambda leaf: next(ready) if _is_deferred(leaf) else leaf[batch], labels)


class _Decoder:
    """What is deferred of a batch, by its step: what a worker process makes; it can be pickled."""

    def __init__(self, deferred: Sequence[Deferred], seed: int, batch_size: int, rows: slice):
        self._deferred, self._seed, self._batch_size, self._rows = deferred, seed, batch_size, rows

    def __call__(self, step: int) -> list[np.ndarray] | str:
        size = len(self._deferred[0])
        batch = batch_indices(step, size=size, batch_size=self._batch_size, seed=self._seed)
        try:
            return [array.read(batch[self._rows]) for array in self._deferred]
        except DataError as error:
            return str(error)  # an exception would come out of Grain as another


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
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    return steps.to_iter_dataset(one_by_one).mp_prefetch(processes, worker_init_fn=_leave_signals)


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
