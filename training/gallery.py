"""Training images of a run, for an embedding to be compared with."""

from pathlib import Path

import numpy as np

from .data import Split
from .experiment import reopen

PER_CLASS = 100  # images


def gallery_images(run: Path, data_path: Path | None = None) -> Split:
    """Return up to `PER_CLASS` training images of each class of a run, and their labels.

    Args:
        run: the run directory.
        data_path: where its data lie by now, if they were moved.

    Raises:
        DataError, RunError: the data is not there, or has changed.
    """
    _, experiment = reopen(run, data_path)
    images, labels, _ = experiment.dataset.train
    each = [np.flatnonzero(labels == k)[:PER_CLASS] for k in range(len(experiment.card.classes))]
    chosen = np.sort(np.concatenate(each))
    return Split(np.asarray(images[chosen]), labels[chosen])
