"""Labeled images in memory: how they are split, and cut into batches.

Everything random here is a permutation that is a pure function of a seed and a stream number
(`_permutation`), so that no generator has to be carried along or saved.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..common.text import plain_line
from .balanced import balanced_indices
from .each_file import Unreadable
from .errors import DataError
from .labels import classes_of_each, is_class_each
from .placement import Placement
from .stratify import dealt, dealt_in_groups, draw_of_classes, draw_of_sets
from .streaming import Deferred, Streamed
from .tree import Tree, leaves, map_leaves, rows

SPLITS = ("train", "validation", "test")


class ImageNote(NamedTuple):
    """What of an image the host alone needs: plain values, in pixels of the upright image file.

    Attributes:
        file: its name.
        id: as its data set has it.
        size: ``(h, w)``.
        scale: ``(sy, sx)``, what its labels' coordinates were multiplied by.
        areas: of each object, in the order of its labels.
        masks: of each object, run-length encoded as COCO does it: ``{"size", "counts"}``; none
            where the labels have none.
        category_ids: of each class, as its data set has them.
    """

    file: str
    id: int | str
    size: tuple[int, int]
    scale: tuple[float, float]
    areas: tuple[float, ...] = ()
    masks: tuple[dict[str, Any], ...] = ()
    category_ids: tuple[int, ...] = ()

    @property
    def placement(self) -> Placement:
        """Return where the image lies in what its labels are in the pixels of."""
        (h, w), (sy, sx) = self.size, self.scale
        return Placement(self.size, (round(sy * h), round(sx * w)))


class Split(NamedTuple):
    """Images with their labels; there may be none."""

    images: np.ndarray | Streamed  # (N, H, W, C), of the dtype of a `pixels.PixelFormat`
    labels: Tree  # an index into the classes: (N,) int32, or for each pixel (N, H, W) uint8; or a
    # pytree of arrays (N, ...) of other numbers
    notes: tuple[ImageNote, ...] = ()  # one for each image, or none at all

    @property
    def count(self) -> int:  # type: ignore[override] -- tuple has a method of that name
        """Return how many examples there are."""
        return len(self.images)


class Dataset(NamedTuple):
    """Three splits of the same kind of images, and the name of each class."""

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what was passed over or guessed, a line each, for people
    unreadable: tuple[Unreadable, ...] = ()  # files left out: ``data.unreadable = "skip"``
    groups: np.ndarray | None = None  # (N,) of training images: those of one stay together


def unsplit(images: np.ndarray | Streamed, labels: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    """Make a dataset of which nothing is set aside yet; see `split`.

    Args:
        images: ``(N, H, W, C)``, uint8.
        labels: ``(N,)``, integers.
        classes: the name of each class.
    """
    return undivided(Split(images, labels.astype(np.int32)), classes)


def undivided(everything: Split, classes: tuple[str, ...]) -> Dataset:
    """Return a dataset of which nothing is set aside yet, of labels of any kind."""
    nothing = _take(everything, slice(0))
    return Dataset(everything, nothing, nothing, classes)


def split(
    dataset: Dataset,
    *,
    validation: int | float,
    test: int | float,
    seed: int,
    stratify: bool = True,
    fold: str | None = None,
) -> Dataset:
    """Set aside a random part of the training images for validation, and one for testing.

    The training images are permuted by a pure function of the seed; of each class the first
    become the test part, the next the validation part, as many as its share of the images: see
    `training.data.stratify`. So the test part stays the same whatever is asked for validation.

    Args:
        dataset: what to split; only its training part is touched.
        validation: how much, an int as a count, a float in [0, 1) as a share of the training
            images (rounded).
        test: likewise.
        seed: chooses the permutation, ``0 <= seed < 2**64``.
        stratify: False takes the first images of the permutation, whatever their classes; so do
            labels that say of no classes (`training.data.labels`). An image of several classes,
            as one with objects of them, is decided by the rarest.
        fold: "2/5" has for validation, in place of what is asked, the second of five parts into
            which all but the test part is dealt out: with "1/5" to "5/5" each image is validated
            once.

    Images of one of `Dataset.groups` are all in one part; the sizes of parts are about as asked.

    Raises:
        DataError: more is asked than there is, or the dataset has that part already; or groups are
            so large that a part is empty.

    Example:
        >>> images, labels = np.zeros((10, 8, 8, 1), np.uint8), np.arange(10)
        >>> digits = split(unsplit(images, labels, tuple("0123456789")),
        ...                validation=2, test=0.3, seed=0)
        >>> [len(part.labels) for part in digits[:3]]
        [5, 2, 3]
    """
    total = dataset.train.count
    number, folds = (0, 0) if fold is None else parse_fold(fold)
    tested = _count("test", test, dataset)
    if folds:
        held = _fold_size(dataset, total - tested, folds)
    else:
        held = _count("validation", validation, dataset)
    if tested + held == 0:
        return dataset
    if tested + held >= total:
        raise DataError(
            f"data.validation, data.test: {held} and {tested} images are requested of {total}, "
            "which leaves none to train on; ask for fewer"
        )
    order = _permutation(seed, _SPLIT_STREAM, total)
    for_test, rest = _draw(dataset, order, tested, stratify)
    if folds:
        part = _dealt(dataset, rest, folds, stratify)
        if dataset.groups is not None and len(np.unique(part)) < folds:
            groups = len(np.unique(dataset.groups[rest]))
            raise DataError(
                f"data.fold: {groups:,} groups, each of which is in one part, cannot fill {folds} "
                "parts; ask for fewer folds"
            )
        for_validation, for_train = rest[part == number - 1], rest[part != number - 1]
    else:
        for_validation, for_train = _draw(dataset, rest, held, stratify)
    if dataset.groups is not None:
        _check_parts(dataset.groups, (for_test, tested), (for_validation, held), (for_train, 1))
    return dataset._replace(
        train=_take(dataset.train, for_train),
        validation=_take(dataset.train, for_validation) if held else dataset.validation,
        test=_take(dataset.train, for_test) if tested else dataset.test,
        groups=None,
    )


def batch_indices(
    step: int, *, size: int, batch_size: int, seed: int, classes: np.ndarray | None = None
) -> np.ndarray:
    """Return the indices of the batch at `step`: a pure function of the seed and the step.

    Lay the permutations of the training set, a new one for each epoch, end to end: the batch at
    step t is positions ``t * batch_size`` to ``(t + 1) * batch_size`` of that stream. So every
    example comes once in each epoch, none is dropped, a batch may reach into the next epoch, and
    its size never changes.

    Args:
        step: counts from 0.
        size: number of training examples.
        batch_size: examples in a batch; may exceed `size`.
        seed: chooses the permutations, ``0 <= seed < 2**64``.
        classes: of each example, ``(size,)`` integers, where a batch is to have as many of each
            class: see `balanced_indices`.

    Returns:
        ``(batch_size,)`` int64, each in ``0 .. size - 1``.

    Raises:
        ValueError: a negative step, or a size below 1.

    Example:
        >>> batches = [batch_indices(t, size=6, batch_size=4, seed=0) for t in range(3)]
        >>> np.sort(np.concatenate(batches)).tolist()
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]

    Note:
        Epoch e's permutation sorts `size` numbers of the Philox generator with the key
        (seed, e). It is made of the generator's raw output, which NumPy promises never to change,
        rather than of ``Generator.permutation``, which it does not.
    """
    if step < 0 or size < 1 or batch_size < 1:
        raise ValueError(
            f"batch_indices: nothing to draw: got step {step}, size {size}, batch_size "
            f"{batch_size}, need step >= 0 and the others >= 1; an empty dataset has no batches"
        )
    if classes is not None:
        return balanced_indices(int(step), batch_size=batch_size, seed=seed, classes=classes)
    start = int(step) * batch_size
    stop = start + batch_size
    epochs = range(start // size, (stop - 1) // size + 1)
    return np.concatenate(
        [_permutation(seed, e, size)[max(start - e * size, 0) : stop - e * size] for e in epochs]
    )


def eval_batches(
    split: Split, batch_size: int, order: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, Tree, np.ndarray]]:
    """Yield every example once, in batches of one shape.

    Args:
        split: the examples.
        batch_size: examples in a batch.
        order: their numbers, each once; as they are stored if left out.

    Yields:
        images ``(batch_size, H, W, C)`` uint8, labels ``(batch_size,)`` int32 (or masks, or a
        pytree) and
        weights ``(batch_size,)`` float32: 1 for an example, 0 for the padding of the last batch.

    Raises:
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(
            f"eval_batches: empty batches: got batch_size {batch_size}, need at least 1; "
            "write how many examples to evaluate at once"
        )
    for start in range(0, split.count, batch_size):
        batch = slice(start, start + batch_size)
        chosen = _take(split, batch if order is None else order[batch])
        weights = _padded(np.ones(chosen.count, np.float32), batch_size)
        labels = map_leaves(lambda leaf: _padded(np.asarray(leaf), batch_size), chosen.labels)
        yield _padded(np.asarray(chosen.images), batch_size), labels, weights


def spread(size: int, batch_size: int) -> np.ndarray:
    """Return an order in which each batch has examples from all over a split that may be sorted.

    Example:
        >>> spread(8, 3)
        array([1, 3, 6, 2, 5, 7, 0, 4])
    """
    full, rest = divmod(size, batch_size)
    last = np.arange(rest) * size // max(rest, 1)
    others = np.delete(np.arange(size), last)
    return np.concatenate([*(others[n::full] for n in range(full)), last])


def fingerprint(dataset: Dataset) -> str:
    """Compute the SHA-256 of images, labels, notes, class names and splits.

    Of `Deferred` arrays it is what they are made of: of `Streamed` images their files' names and
    lengths.

    Example:
        >>> zeros = unsplit(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2), ("cat", "dog"))
        >>> fingerprint(zeros)[:8], fingerprint(zeros._replace(classes=("cat", "cow")))[:8]
        ('869dc5f6', 'ae469393')
    """
    digest = hashlib.sha256(json.dumps(dataset.classes).encode())
    for name in SPLITS:
        images, labels, notes = getattr(dataset, name)
        shapes = " ".join(f"{path}{leaf.shape}" for path, leaf in leaves(labels))
        digest.update(f"{name} {images.shape} {shapes}".encode())
        digest.update(_content(images, images.dtype.newbyteorder("<")))
        for _, leaf in leaves(labels):
            digest.update(_content(leaf, "<f4" if leaf.dtype.kind == "f" else "<i4"))
        if notes:
            digest.update(json.dumps(notes).encode())
    return digest.hexdigest()


def _content(array: np.ndarray | Deferred, kind: Any) -> bytes | memoryview:
    """Return the bytes of an array as numbers of a kind, or what identifies it."""
    if isinstance(array, Deferred):
        return array.identity()
    return np.ascontiguousarray(array, kind).reshape(-1).data


# Epoch e is stream e of a seed; no run reaches the last stream.
_SPLIT_STREAM = 2**64 - 1


@lru_cache(maxsize=4)
def _permutation(seed: int, stream: int, size: int) -> np.ndarray:
    """Return ``0 .. size - 1`` in an order that depends on nothing but the arguments."""
    if not 0 <= seed < 2**64:
        raise ValueError(
            f"seed: out of range: got {seed}, need 0 <= seed < 2**64; write another number"
        )
    bits = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(size)
    order = np.argsort(bits, kind="stable")
    order.setflags(write=False)  # it is cached: nobody may change it
    return order


def _count(part: str, share: int | float, dataset: Dataset) -> int:
    """Return how many images are asked for a part."""
    total, own = dataset.train.count, getattr(dataset, part).count
    if share < 0 or (isinstance(share, float) and not share < 1):
        raise DataError(
            f"data.{part}: got {share}, need a count (an integer) or a share of the training "
            f"images (0.0 to below 1.0); e.g. {part} = 0.1"
        )
    count = round(share * total) if isinstance(share, float) else share
    if share and own:
        raise DataError(
            f"data.{part}: the data has a {part} part of its own ({own} images) and {share} more "
            f"is asked; write {part} = 0"
        )
    if share and not count:
        raise DataError(
            f"data.{part}: {share} of {total} images is none; write a count, e.g. {part} = 1"
        )
    return count


def _draw(
    dataset: Dataset, order: np.ndarray, count: int, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Divide indices of training images, in their order, into `count` and the others."""
    labels, drawn = rows(dataset.train.labels, order), np.arange(len(order)) < count
    if dataset.groups is not None and count:
        counts = np.array([count, len(order) - count])
        drawn = _dealt_in_groups(dataset, order, counts, stratify) == 0
    elif stratify and count:
        if is_class_each(labels):
            drawn = draw_of_classes(labels, count)
        elif (classes := classes_of_each(labels, len(dataset.classes))) is not None:
            drawn = draw_of_sets(classes, count)
    return order[drawn], order[~drawn]


def _dealt(dataset: Dataset, order: np.ndarray, parts: int, stratify: bool) -> np.ndarray:
    """Return of each index of training images, in their order, in which equal part it is."""
    if dataset.groups is not None:
        counts = np.diff(np.arange(parts + 1) * len(order) // parts)
        return _dealt_in_groups(dataset, order, counts, stratify)
    labels: Any = rows(dataset.train.labels, order)
    if not stratify or is_class_each(labels):
        return dealt(labels if stratify else np.zeros(len(order)), parts)
    part, left = np.zeros(len(order), np.int64), np.arange(len(order))
    for n in range(parts - 1, 0, -1):
        drawn, _ = _draw(dataset, order[left], len(left) // (n + 1), stratify)
        chosen = np.isin(order[left], drawn)
        part[left[chosen]] = n
        left = left[~chosen]
    return part


def _dealt_in_groups(
    dataset: Dataset, order: np.ndarray, counts: np.ndarray, stratify: bool
) -> np.ndarray:
    assert dataset.groups is not None
    labels = rows(dataset.train.labels, order)
    classes = classes_of_each(labels, len(dataset.classes)) if stratify else None
    none = np.zeros((len(order), 0), bool)
    return dealt_in_groups(dataset.groups[order], none if classes is None else classes, counts)


def _check_parts(groups: np.ndarray, *parts: tuple[np.ndarray, int]) -> None:
    """Raise where groups are so large that a part that is asked for has none."""
    if any(asked and not len(chosen) for chosen, asked in parts):
        raise DataError(
            f"data.group_column: {len(np.unique(groups)):,} groups, each of which is in one part, "
            "leave a part of the data empty; ask for other shares, or have more groups"
        )


def _fold_size(dataset: Dataset, count: int, folds: int) -> int:
    """Return how many of so many images the smallest fold has."""
    if dataset.validation.count:
        raise DataError(
            f"data.fold: the data has a validation part of its own ({dataset.validation.count} "
            "images), which folds would stand in place of; leave fold out, or that part"
        )
    if count < folds:
        raise DataError(
            f"data.fold: {count} images cannot be dealt out to {folds} parts; ask for fewer"
        )
    return count // folds


def parse_fold(fold: str) -> tuple[int, int]:
    """Return the number of a fold, from 1, and how many there are.

    Raises:
        DataError: it is no such text.

    Example:
        >>> parse_fold("2/5")
        (2, 5)
    """
    number, _, folds = fold.partition("/")
    if not (number.isdecimal() and folds.isdecimal() and 1 <= int(number) <= int(folds) >= 2):
        raise DataError(
            f'data.fold: got {plain_line(repr(fold), 40)}, need one such as "2/5", the second of 5'
        )
    return int(number), int(folds)


def _take(split: Split, indices: np.ndarray | slice) -> Split:
    notes = split.notes
    if notes:
        chosen = np.arange(len(notes))[indices]
        notes = tuple(notes[i] for i in chosen)
    return Split(split.images[indices], rows(split.labels, indices), notes)


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    """Append zeros to `array` up to `length`."""
    missing = length - len(array)
    if not missing:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
