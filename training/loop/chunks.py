"""Steps in chunks: the device takes several in one call, and the host looks in between.

A call has a price, and so has the memory that it allocates: on CPU a step of LeNet-5 takes 18.8 ms
of the processor alone and 17.3 ms among sixteen; a VGG-like one takes 30,000 page faults alone and
7,600 among four (batch 64, jax 0.12, `python benchmarks/allocator.py`; `benchmarks/steps.py` has
more networks). How many steps a chunk has changes no bit of the result (`step.train_step`),
so it may depend on the clock: a chunk ends where the loop has something to do, and otherwise after
about `SECONDS`, so that Ctrl-C acts soon.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..config.schema import Config
from ..config_data import sampling_of
from ..data import Split, read_batches
from ..data.tree import Tree, map_leaves

SECONDS = 0.5  # what a chunk of several steps takes at most, about
BYTES = 8 * 2**20  # and how many its images take


class BatchChunk(NamedTuple):
    """The batches of the next steps."""

    images: np.ndarray  # (K, N, H, W, C), uint8, of which the first `steps` are batches
    labels: Tree  # (K, N), int32, or (K, N, H, W), uint8, or a pytree; likewise
    steps: np.int32
    stop: int  # the step that the run is at behind it
    reported: bool  # whether a report ends here
    evaluated: bool  # whether an evaluation is due here


class ChunkSizer:
    """How many steps the device takes in `SECONDS`, by the clock; at first, one."""

    def __init__(self):
        self.steps = 1

    def update(self, count: int, seconds: float) -> None:
        """Take in the time of a chunk; one unusual time may at most double the next one."""
        self.steps = max(1, min(2 * self.steps, int(count * SECONDS / seconds)))


def chunks(
    split: Split,
    config: Config,
    sizer: ChunkSizer,
    *,
    start: int,
    total: int,
    every: float,
    rows: slice = slice(None),
) -> Generator[BatchChunk, None, None]:
    """Yield the batches of the steps from `start` to `total`, cut into chunks.

    Each is gathered when it is asked for, as long as `sizer` says at that time.

    Args:
        split: the training images.
        config: the experiment.
        sizer: says how many steps to take.
        start: counts from 0; where a run is resumed, more.
        total: the number of steps of the whole run.
        every: the steps between evaluations, not rounded.
        rows: the part of each batch to gather; all of it by default.
    """
    batch_size, room = config.training.batch_size, most_steps(split, config)
    # Where a small update is to stop the run, every step is looked at.
    most = room if config.early_stopping.min_update is None else 1
    position, size = start, len(range(batch_size)[rows])
    sampling = sampling_of(config, split)
    batches = read_batches(split, **sampling, start=start, stop=total, rows=rows)
    with closing(batches):
        for stop, evaluated in windows(start, total, every=every, most=config.training.log_every):
            while position < stop:
                count = min(most, sizer.steps, stop - position)
                images = np.zeros((room, size, *split.images.shape[1:]), split.images.dtype)
                labels = map_leaves(partial(_room, room, size), split.labels)
                for i in range(count):
                    images[i], batch = next(batches)
                    map_leaves(partial(_write, i), labels, batch)
                position += count
                last = position == stop
                yield BatchChunk(
                    images, labels, np.int32(count), position, last, last and evaluated
                )


def _room(steps: int, size: int, leaf: np.ndarray) -> np.ndarray:
    return np.zeros((steps, size, *leaf.shape[1:]), leaf.dtype)


def _write(step: int, room: np.ndarray, batch: np.ndarray) -> None:
    room[step] = batch


class ChunkLoader:
    """`chunks`, one after the other; can start again at another step."""

    def __init__(self, split: Split, config: Config, sizer: ChunkSizer, **more: Any):
        self._chunks_from = partial(chunks, split, config, sizer, **more)
        self._chunks: Generator[BatchChunk, None, None] | None = None

    def start(self, step: int) -> BatchChunk | None:
        """Return the first chunk behind a step; None at the end."""
        self.close()
        self._chunks = self._chunks_from(start=step)
        return self.next()

    def next(self) -> BatchChunk | None:
        """Return the next one."""
        return None if self._chunks is None else next(self._chunks, None)

    def close(self) -> None:
        """Stop the threads that read ahead."""
        if self._chunks is not None:
            self._chunks.close()


def most_steps(split: Split, config: Config) -> int:
    """Return the most steps in a chunk: K, for which the program is compiled; 2 or more.

    A report ends a chunk, and the batches have to be held twice: here and on the device. From an
    array of one batch XLA takes it without an index, and fuses and rounds otherwise than from any
    longer one; so that neither `log_every` nor `BYTES` shows in the result, K is never 1.

    Example:
        >>> from convax.training.config.schema import load_config
        >>> digits = Split(np.zeros((9, 8, 8, 1), np.uint8), np.zeros(9, np.int32))
        >>> most_steps(digits, load_config("lenet5-digits", ["training.log_every=20"]))
        20
        >>> photographs = Split(np.zeros((9, 224, 224, 3), np.uint8), np.zeros(9, np.int32))
        >>> most_steps(photographs, load_config("lenet5-digits", ["training.batch_size=16"]))
        3
    """
    batch = math.prod(split.images.shape[1:]) * config.training.batch_size
    return max(2, min(config.training.log_every, BYTES // batch))


def windows(start: int, total: int, *, every: float, most: int) -> Iterator[tuple[int, bool]]:
    """Yield where a report ends: the step, and whether an evaluation is due there.

    That is after `most` steps, at each evaluation and at the end; where a run goes on in the
    middle, at the same steps.

    Example:
        >>> list(windows(0, 12, every=4.5, most=3))
        [(3, False), (5, True), (8, False), (9, True), (12, True)]
        >>> list(windows(6, 12, every=4.5, most=3))
        [(8, False), (9, True), (12, True)]
    """
    begun = 0
    for step in range(1, total + 1):
        due = step // every > (step - 1) // every or step == total
        if due or step - begun == most:
            if step > start:
                yield step, due
            begun = step
