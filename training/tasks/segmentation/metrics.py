"""Intersection over union: how much of what is there was found, and how much else."""

from typing import Any

import numpy as np

from ...data import IGNORED


def ious(counts: np.ndarray) -> np.ndarray:
    """The intersection over union of each class; NaN where it is neither there nor found.

    Example:
        >>> ious(np.array([[6, 2], [0, 4]])).round(3)  # 6 of 8 and 4 of 6
        array([0.75 , 0.667])
    """
    right, union = right_and_union(counts)
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def image_ious(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """The mean IoU of each image by itself, over the classes that are there or were found.

    Args:
        truth: ``(N, H, W)``, classes, or `IGNORED`.
        found: the same shape.
        classes: K.

    Returns:
        ``(N,)``; 1 where nothing counts.
    """
    counts = truth != IGNORED
    total, there = np.zeros(len(truth)), np.zeros(len(truth))
    for k in range(classes):
        is_k, as_k = (truth == k) & counts, (found == k) & counts
        union = (is_k | as_k).sum(axis=(1, 2))
        total += (is_k & as_k).sum(axis=(1, 2)) / np.maximum(union, 1)
        there += union > 0
    return np.where(there > 0, total / np.maximum(there, 1), 1.0)


def right_and_union(counts: Any) -> tuple[Any, Any]:
    """Of a confusion matrix: the intersection and the union of each class with what was found."""
    right = counts.diagonal()
    return right, counts.sum(axis=0) + counts.sum(axis=1) - right
