"""Retrieval and verification with embeddings, exactly; by scikit-learn, on the host."""

from typing import NamedTuple

import numpy as np

PAIRED = 2000  # examples whose pairs are looked at


class Verification(NamedTuple):
    """Two images are said to be of one class where their distance is below a threshold.

    Attributes:
        false_positives: the share of pairs of two classes below each threshold, rising.
        true_positives: the share of pairs of one class below it.
        auc: the area below the one over the other: how often a pair of one class is closer than a
            pair of two; a tie is half.
        eer: the error rate at the threshold where both kinds of error are equally common.
        accuracy: at the threshold where it is highest, both kinds of pairs weighing the same.
        threshold: that one.
    """

    false_positives: np.ndarray
    true_positives: np.ndarray
    auc: float
    eer: float
    accuracy: float
    threshold: float


def recalls(embeddings: np.ndarray, labels: np.ndarray, ks: tuple[int, ...]) -> list[float]:
    """Compute how often one of the k nearest other examples is of the same class, for each k.

    Every example that has another of its class asks, all others answer.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        ks: how many neighbors.

    Example:
        >>> x = np.array([[0.0], [0.1], [0.2], [5.0]])
        >>> recalls(x, np.array([0, 1, 0, 1]), (1, 2))  # 0.1 is nearest to both 0 and 0.2
        [0.0, 0.75]
    """
    asking = np.bincount(labels)[labels] > 1
    if not asking.any():
        return [0.0 for _ in ks]
    near = neighbors(embeddings, max(ks))[asking]
    found = labels[near] == labels[asking][:, None]
    return [float(found[:, :k].any(axis=1).mean()) for k in ks]


def neighbors(embeddings: np.ndarray, most: int) -> np.ndarray:
    """Find the nearest other examples of each, nearest first.

    Args:
        embeddings: ``(N, D)``, N at least 2.
        most: how many, at least 1.

    Returns:
        ``(N, most)`` indices, or ``(N, N - 1)`` where there are no more.

    Example:
        >>> neighbors(np.array([[0.0], [1.0], [3.0]]), 2).tolist()
        [[1, 2], [0, 2], [1, 0]]
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(most, len(embeddings) - 1), algorithm="brute")
    return search.fit(embeddings.astype(np.float64)).kneighbors(return_distance=False)


def verification(embeddings: np.ndarray, labels: np.ndarray) -> Verification:
    """Verify all pairs of `PAIRED` examples, spread evenly over those given (or all, if fewer).

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.

    Example:
        >>> x = np.array([[0.0], [1.0], [5.0], [6.0]])
        >>> found = verification(x, np.array([0, 0, 1, 1]))
        >>> found.auc, found.eer, found.accuracy
        (1.0, 0.0, 1.0)
    """
    from sklearn.metrics import auc, roc_curve

    N = len(labels)
    chosen = np.unique(np.linspace(0, N - 1, min(N, PAIRED)).round().astype(np.int64))
    x, y = embeddings[chosen].astype(np.float64), labels[chosen]
    first, second = np.triu_indices(len(x), 1)
    squared = np.square(x).sum(axis=1)
    D = squared[:, None] + squared[None, :] - 2 * x @ x.T
    distances = np.sqrt(np.maximum(D[first, second], 0))
    same = y[first] == y[second]
    if same.all() or not same.any():
        nothing = np.array([0.0, 1.0])
        return Verification(nothing, nothing, 0.5, 0.5, 0.5, 0.0)
    false, true, thresholds = roc_curve(same, -distances, drop_intermediate=False)
    missed = 1 - true
    at = int(np.argmin(np.abs(missed - false)))
    balanced = (true + 1 - false) / 2
    best = int(balanced.argmax())
    threshold = 0.0 if best == 0 else float(-thresholds[best])
    eer = float((missed[at] + false[at]) / 2)
    return Verification(false, true, float(auc(false, true)), eer, float(balanced[best]), threshold)


def nearest(place: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> list[tuple[int, float]]:
    """List each class of a gallery with the distance of its nearest example, nearest first.

    Example:
        >>> nearest(np.zeros(1), np.array([[3.0], [2.0], [1.0]]), np.array([0, 0, 1]))
        [(1, 1.0), (0, 2.0)]
    """
    distances = np.linalg.norm(gallery.astype(np.float64) - place, axis=1)
    found = [(int(k), float(distances[labels == k].min())) for k in np.unique(labels)]
    return sorted(found, key=lambda pair: pair[1])


def principal_plane(embeddings: np.ndarray) -> tuple[np.ndarray, float]:
    """Project embeddings onto the two directions in which they differ most.

    Args:
        embeddings: ``(N, D)``.

    Returns:
        ``(N, 2)``, each example's place in that plane, and the share of the variance it shows.
    """
    from sklearn.decomposition import PCA

    x = embeddings.astype(np.float64)
    plane = np.zeros((len(x), 2))
    if (x == x[0]).all():
        return plane, 1.0
    pca = PCA(n_components=min(2, *x.shape), svd_solver="full")
    points = pca.fit_transform(x)
    plane[:, : points.shape[1]] = points
    return plane, float(pca.explained_variance_ratio_.sum())
