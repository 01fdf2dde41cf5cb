"""How well each class of several is found."""

import numpy as np

from ..per_class import PerClass, precision_recall_f1

THRESHOLD = 0.5  # of a probability: an image is said to be of a class from there on


def per_class(probabilities: np.ndarray, labels: np.ndarray) -> PerClass:
    r"""Return average precision, and precision, recall and F1 at `THRESHOLD`, of each class.

    .. math:: \mathrm{AP} = \sum_n (R_n - R_{n-1}) P_n

    over the thresholds n, from the highest down: a precision P for each gain in recall R.

    Args:
        probabilities: ``(N, K)``.
        labels: ``(N, K)``, 0 or 1.

    Example:
        >>> found = per_class(np.array([[0.9], [0.8], [0.3]]), np.array([[1], [0], [1]]))
        >>> {name: column.round(4).tolist() for name, column in found.figures.items()}
        {'average_precision': [0.8333], 'precision': [0.5], 'recall': [0.5], 'f1': [0.5]}
    """
    from sklearn.metrics import average_precision_score

    K = labels.shape[1]
    true, said = labels > 0, probabilities >= THRESHOLD
    average = np.full(K, np.nan)
    for k in np.flatnonzero(true.any(axis=0)):
        average[k] = average_precision_score(labels[:, k], probabilities[:, k])
    right, support, predicted = (x.sum(axis=0) for x in (true & said, true, said))
    figures = precision_recall_f1(right, support, predicted)
    return PerClass({"average_precision": average} | figures, support, predicted, "images")
