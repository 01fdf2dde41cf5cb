"""Data of one's own: what a function that was registered returns, checked and split."""

from typing import Any

import numpy as np

from ..common.text import plain_line
from ..plugins.tables import SOURCES
from .dataset import SPLITS, Dataset, Split, split
from .errors import DataError
from .tree import leaves


def load_registered(
    source: str,
    *,
    validation: int | float = 0,
    test: int | float = 0,
    stratify: bool = True,
    seed: int,
    **keys: Any,
) -> Dataset:
    """Read a dataset by the function that was registered for its source, and split it.

    Args:
        source: the name under which it was registered.
        validation, test, stratify, seed: see `training.data.dataset.split`.
        keys: the keywords of the function.

    Raises:
        DataError: the function returns something else than a dataset of images and labels that fit
            each other; or as `split`.
    """
    dataset = SOURCES[source].read(**keys)
    where = f"data: {source!r}"
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"{where}: returned {type(dataset).__name__}, need training.data.Dataset; make one by "
            "training.data.unsplit(images, labels, classes), say"
        )
    for name in SPLITS:
        _check(f"{where}: {name}", getattr(dataset, name), len(dataset.classes))
    if not dataset.train.count:
        raise DataError(f"{where}: no image for training")
    return split(dataset, validation=validation, test=test, seed=seed, stratify=stratify)


def _check(where: str, part: Split, classes: int) -> None:
    shape, dtype = part.images.shape, np.dtype(part.images.dtype)
    if len(shape) != 4 or dtype != np.uint8:
        raise DataError(f"{where}: images are {dtype} {shape}, need uint8 (N, H, W, C)")
    for path, leaf in leaves(part.labels):
        if len(leaf) != len(part.images):
            raise DataError(
                f"{where}: {len(part.images)} images and {len(leaf)} labels {plain_line(path)}"
            )
    labels = part.labels
    of_classes = isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu"
    if of_classes and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"{where}: labels are {labels.min()} to {labels.max()} where there are {classes} "
            "classes; number the classes from 0"
        )
