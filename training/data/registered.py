"""Data of one's own: what a function that was registered returns, checked and split."""

from typing import Any

from ..plugins.tables import SOURCES
from .dataset import Dataset, split
from .errors import DataError
from .memory import check_dataset


def load_registered(
    source: str,
    *,
    validation: int | float = 0,
    test: int | float = 0,
    stratify: bool = True,
    fold: str | None = None,
    seed: int,
    **keys: Any,
) -> Dataset:
    """Read a dataset by the function that was registered for its source, and split it.

    Args:
        source: the name under which it was registered.
        validation, test, stratify, fold, seed: see `training.data.dataset.split`.
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
    check_dataset(where, dataset)
    return split(dataset, validation=validation, test=test, seed=seed, stratify=stratify, fold=fold)
