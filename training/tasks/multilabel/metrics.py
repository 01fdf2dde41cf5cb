"""How well each class of several is found."""

from typing import NamedTuple

import numpy as np

THRESHOLD = 0.5  # of a probability: an image is said to be of a class from there on


class PerClass(NamedTuple):
    """Of each class ``(K,)``; NaN where a figure has no meaning."""

    average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    images: np.ndarray  # how many are of it


def per_class(probabilities: np.ndarray, labels: np.ndarray) -> PerClass:
    r"""Return average precision, and precision, recall and F1 at `THRESHOLD`, of each class.

    .. math:: \mathrm{AP} = \sum_n (R_n - R_{n-1}) P_n

    over the thresholds n, from the highest down: a precision P for each gain in recall R.

    Args:
        probabilities: ``(N, K)``.
        labels: ``(N, K)``, 0 or 1.

    Example:
        >>> found = per_class(np.array([[0.9], [0.8], [0.3]]), np.array([[1], [0], [1]]))
        >>> found.average_precision.round(4).tolist()  # (1 + 2 / 3) / 2
        [0.8333]
        >>> found.precision.tolist(), found.recall.tolist(), found.f1.tolist()
        ([0.5], [0.5], [0.5])
    """
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    K = labels.shape[1]
    there = labels.any(axis=0)
    average = np.full(K, np.nan)
    for k in np.flatnonzero(there):
        average[k] = average_precision_score(labels[:, k], probabilities[:, k])
    said = probabilities >= THRESHOLD
    columns = [
        precision_recall_fscore_support(
            labels[:, k],
            said[:, k],
            average="binary",
            zero_division=np.nan,  # pyright: ignore[reportArgumentType] -- its stub knows words
        )[:3]
        for k in range(K)
    ]
    precision, recall, f1 = np.array(columns, float).T
    return PerClass(average, precision, recall, f1, labels.sum(axis=0, dtype=np.int64))
