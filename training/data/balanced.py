"""Which examples a batch has where each class is to come as often as another."""

import weakref
from collections import deque
from functools import lru_cache

import numpy as np

# Streams of random numbers of a seed: those of epochs count from 0, and no run comes this far.
_ORDERS, _BLOCKS = 2**62, 2**63
_MOST_EPOCHS = 2**32  # of a class, between the streams of two classes


def balanced_indices(step: int, *, batch_size: int, seed: int, classes: np.ndarray) -> np.ndarray:
    """Return the indices of the batch at `step`, of each class as many: see `batch_indices`.

    The stream that batches are cut from is made of blocks, each of one example of every class that
    has some, in an order of its own. A class gives its examples in the order of a permutation, and
    then of the next: a rare class begins anew before a common one has come to its end. So each of
    its examples comes as often as another, as far as possible; it is a function of seed and step.

    Args:
        step: counts from 0.
        batch_size: examples in a batch.
        seed: chooses the permutations, ``0 <= seed < 2**64``.
        classes: the class of each example, ``(size,)`` integers. Of an array that nobody can write
            to, what is found is kept with it; another is hashed at each call.

    Returns:
        ``(batch_size,)`` int64.

    Example:
        >>> rare = np.array([0] * 9 + [1])
        >>> rare[balanced_indices(7, batch_size=4, seed=0, classes=rare)].sum()
        np.int64(2)
    """
    members = _members_of(classes)
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    blocks, places = np.divmod(position, len(members))
    return np.array(
        [
            _example(members, seed, int(_order(seed, _BLOCKS + block, len(members))[place]), block)
            for block, place in zip(blocks.tolist(), places.tolist(), strict=True)
        ]
    )


def _example(members: tuple[np.ndarray, ...], seed: int, k: int, number: int) -> int:
    """Return the index of that example of class k that is the `number`-th of it to be drawn."""
    epoch, place = divmod(number, len(members[k]))
    order = _order(seed, _ORDERS + k * _MOST_EPOCHS + epoch, len(members[k]))
    return int(members[k][order[place]])


# Of the arrays that were asked for last: they are no keys, having no hash.
_KEPT: deque[tuple[weakref.ref[np.ndarray], tuple[np.ndarray, ...]]] = deque(maxlen=4)


def _members_of(classes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the indices of the examples of each class that has some."""
    if classes.flags.writeable:
        return _members(classes.tobytes(), classes.dtype.str)
    for array, members in tuple(_KEPT):
        if array() is classes:
            return members
    members = _members(classes.tobytes(), classes.dtype.str)
    _KEPT.append((weakref.ref(classes), members))
    return members


@lru_cache(maxsize=4)
def _members(content: bytes, dtype: str) -> tuple[np.ndarray, ...]:
    classes = np.frombuffer(content, dtype)
    return tuple(np.flatnonzero(classes == k) for k in np.unique(classes))


@lru_cache(maxsize=4096)  # of each class the permutation it is in, and the next; and some blocks
def _order(seed: int, stream: int, size: int) -> np.ndarray:
    """Return ``0 .. size - 1`` in an order that depends on nothing but the arguments."""
    bits = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(size)
    return np.argsort(bits, kind="stable")
