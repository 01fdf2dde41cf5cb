"""How good embeddings are, exactly: what lies nearest, and whether two are of one class."""

from typing import NamedTuple

import numpy as np

CHUNK = 1000  # queries at once
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
    """How often one of the k nearest other examples is of an example's class, for each k.

    Every example that has another of its class asks, all others answer.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        ks: how many neighbours.

    Example:
        >>> x = np.array([[0.0], [0.1], [0.2], [5.0]])
        >>> recalls(x, np.array([0, 1, 0, 1]), (1, 2))  # 0.1 is nearest to both 0 and 0.2
        [0.0, 0.75]
    """
    asking = np.bincount(labels)[labels] > 1
    if not asking.any():
        return [0.0 for _ in ks]
    near = neighbours(embeddings, max(ks))[asking]
    found = labels[near] == labels[asking][:, None]
    return [float(found[:, :k].any(axis=1).mean()) for k in ks]


def neighbours(embeddings: np.ndarray, most: int) -> np.ndarray:
    """The nearest other examples of each, nearest first.

    Returns:
        ``(N, most)`` indices, or ``(N, N - 1)`` where there are no more.

    Example:
        >>> neighbours(np.array([[0.0], [1.0], [3.0]]), 2).tolist()
        [[1, 2], [0, 2], [1, 0]]
    """
    x = embeddings.astype(np.float64)
    N, most = len(x), min(most, len(x) - 1)
    squared = np.square(x).sum(axis=1)
    found = np.empty((N, most), np.int64)
    for start in range(0, N, CHUNK):
        rows = np.arange(start, min(start + CHUNK, N))
        D = squared[None, :] - 2 * x[rows] @ x.T  # less the square of the row, the same for all
        D[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(D, most - 1, axis=1)[:, :most]
        order = np.argsort(np.take_along_axis(D, near, axis=1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(near, order, axis=1)
    return found


def verification(embeddings: np.ndarray, labels: np.ndarray) -> Verification:
    """All pairs of `PAIRED` examples, spread evenly over those given (or of all, if fewer).

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.

    Example:
        >>> x = np.array([[0.0], [1.0], [5.0], [6.0]])
        >>> found = verification(x, np.array([0, 0, 1, 1]))
        >>> found.auc, found.eer, found.accuracy
        (1.0, 0.0, 1.0)
    """
    N = len(labels)
    chosen = np.unique(np.linspace(0, N - 1, min(N, PAIRED)).round().astype(np.int64))
    x, y = embeddings[chosen].astype(np.float64), labels[chosen]
    first, second = np.triu_indices(len(x), 1)
    squared = np.square(x).sum(axis=1)
    D = squared[:, None] + squared[None, :] - 2 * x @ x.T
    distances = np.sqrt(np.maximum(D[first, second], 0))
    same = y[first] == y[second]
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        nothing = np.array([0.0, 1.0])
        return Verification(nothing, nothing, 0.5, 0.5, 0.5, 0.0)
    order = np.argsort(distances, kind="stable")
    ends = np.flatnonzero(np.diff(distances[order], append=np.inf))  # ties move together
    true = np.concatenate([[0], np.cumsum(same[order])[ends]]) / positives
    false = np.concatenate([[0], np.cumsum(~same[order])[ends]]) / negatives
    auc = float(np.trapezoid(true, false))
    missed = 1 - true
    at = int(np.argmin(np.abs(missed - false)))
    balanced = (true + 1 - false) / 2
    best = int(balanced.argmax())
    threshold = 0.0 if best == 0 else float(distances[order][ends[best - 1]])
    eer = float((missed[at] + false[at]) / 2)
    return Verification(false, true, auc, eer, float(balanced[best]), threshold)


def nearest(place: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> list[tuple[int, float]]:
    """Each class of a gallery with the distance of its nearest example, nearest first.

    Example:
        >>> nearest(np.zeros(1), np.array([[3.0], [2.0], [1.0]]), np.array([0, 0, 1]))
        [(1, 1.0), (0, 2.0)]
    """
    distances = np.linalg.norm(gallery.astype(np.float64) - place, axis=1)
    found = [(int(k), float(distances[labels == k].min())) for k in np.unique(labels)]
    return sorted(found, key=lambda pair: pair[1])


def principal_plane(embeddings: np.ndarray) -> tuple[np.ndarray, float]:
    """The two directions in which embeddings differ most.

    Returns:
        ``(N, 2)``, each example's place in that plane, and the share of the variance it shows.
    """
    x = embeddings.astype(np.float64)
    x = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x)
    plane = vectors[:, ::-1][:, :2]
    if plane.shape[1] < 2:
        plane = np.concatenate([plane, np.zeros_like(plane)], axis=1)
    total = float(values.sum())
    return x @ plane, float(values[::-1][:2].sum() / total) if total > 0 else 1.0
