"""Data that a program has at hand: arrays, or a dataset that it made; checked, and split."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..common.text import plain_line
from .dataset import SPLITS, Dataset, Split, split, undivided
from .errors import DataError
from .labels import IGNORED
from .pixels import FormatError, check_values, pixel_format
from .tree import leaves

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, Sequence[str]]


def load_memory(
    given: Dataset | Arrays,
    *,
    validation: int | float = 0,
    test: int | float = 0,
    stratify: bool = True,
    fold: str | None = None,
    value_range: Sequence[float] | None = None,
    seed: int,
) -> Dataset:
    """Make a dataset of what is in memory, and split it.

    Args:
        given: a dataset; or images ``(N, H, W)`` or ``(N, H, W, C)``, uint8, uint16 or float32, and
            labels, integers from 0, of each image ``(N,)`` or of each pixel ``(N, H, W)``, and the
            names of the classes, which are "0", "1", ... if left out.
        validation, test, stratify, fold, seed: see `training.data.dataset.split`.
        value_range: the values of images that are 0 and 1, see `pixel_format`.

    Raises:
        DataError: images and labels do not fit each other; or as `split`.

    Example:
        >>> images = np.zeros((10, 8, 8), np.uint8)
        >>> made = load_memory((images, np.arange(10) % 2), validation=2, test=0.3, seed=0)
        >>> made.classes, [part.count for part in made[:3]]
        (('0', '1'), [5, 2, 3])
    """
    dataset = given if isinstance(given, Dataset) else _of_arrays(given)
    check_dataset("data", dataset, value_range)
    return split(dataset, validation=validation, test=test, seed=seed, stratify=stratify, fold=fold)


def _of_arrays(given: Any) -> Dataset:
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise DataError(
            f"data: got {type(given).__name__}; need (images, labels), (images, labels, classes), "
            "or a training.data.Dataset"
        )
    images, labels = (np.asarray(array) for array in given[:2])
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"data: labels are {labels.dtype} {labels.shape}, need integers, the numbers of "
            "classes from 0; of other labels make a training.data.Dataset"
        )
    images = images[..., None] if images.ndim == 3 else images
    if labels.ndim not in (1, 3):
        raise DataError(
            f"data: labels are {labels.dtype} {labels.shape}, need one of each image, (N,), or of "
            "each pixel, (N, H, W)"
        )
    known = _counting(labels)
    count = int(known.max()) + 1 if known.size else 0
    classes = tuple(given[2]) if len(given) == 3 else tuple(map(str, range(count)))
    if isinstance(given[-1], str) or not all(isinstance(name, str) for name in classes):
        raise DataError("data: the names of the classes should be a list of texts")
    if len(set(classes)) < len(classes):
        raise DataError("data: two classes have one name; write distinct names")
    _check_range("data", known, len(classes))  # before they are made bytes
    return undivided(
        Split(images, labels.astype(np.uint8 if labels.ndim == 3 else np.int32)), classes
    )


def check_dataset(where: str, dataset: Dataset, value_range: Sequence[float] | None = None) -> None:
    """Raise a DataError, which begins with `where`, unless images and labels fit each other."""
    for name in SPLITS:
        _check(f"{where}: {name}", getattr(dataset, name), len(dataset.classes), value_range)
    if not dataset.train.count:
        raise DataError(f"{where}: no image for training")
    splits = {name: getattr(dataset, name) for name in SPLITS if getattr(dataset, name).count}
    dtypes = {name: np.dtype(part.images.dtype).name for name, part in splits.items()}
    if len(set(dtypes.values())) > 1:
        each = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise DataError(f"{where}: images of several dtypes: {each}; store all in one")


def _check(where: str, part: Split, classes: int, value_range: Sequence[float] | None) -> None:
    shape, dtype, labels = part.images.shape, np.dtype(part.images.dtype), part.labels
    if len(shape) != 4 or dtype not in (np.uint8, np.uint16, np.float32):
        remedy = "; multiply by 255 and round" if dtype.kind == "f" and len(shape) == 4 else ""
        raise DataError(
            f"{where}: images are {dtype} {shape}, need uint8, uint16 or float32 (N, H, W, C)"
            f"{remedy}"
        )
    try:
        pixels = pixel_format(shape[-1], dtype.name, value_range)  # type: ignore[arg-type] -- one of the three
        if isinstance(part.images, np.ndarray):
            check_values(part.images, pixels)
    except FormatError as error:
        raise DataError(f"{where}: images: {error}") from None
    for path, leaf in leaves(labels):
        if len(leaf) != len(part.images):
            what = f"labels {plain_line(path)}".rstrip()
            raise DataError(f"{where}: {len(part.images)} images and {len(leaf)} {what}")
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or not labels.size:
        return
    if labels.ndim == 3 and labels.shape != shape[:3]:
        raise DataError(f"{where}: images are {shape} and masks {labels.shape}, need {shape[:3]}")
    if labels.ndim in (1, 3):
        _check_range(where, _counting(labels), classes)


def _counting(labels: np.ndarray) -> np.ndarray:
    """Return the labels of images, or those of the pixels that count."""
    return labels[labels != IGNORED] if labels.ndim == 3 else labels


def _check_range(where: str, labels: np.ndarray, classes: int) -> None:
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"{where}: labels are {labels.min()} to {labels.max()} where there are {classes} "
            "classes; number the classes from 0"
        )
