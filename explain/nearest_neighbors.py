"""The images that lie nearest to one in an embedding: what the network takes for its like."""

from typing import NamedTuple

import numpy as np


class Neighbors(NamedTuple):
    """Examples of a gallery, nearest first."""

    examples: np.ndarray  # (k,) indices
    distances: np.ndarray  # (k,)


def nearest_neighbors(embedding: np.ndarray, gallery: np.ndarray, k: int) -> Neighbors:
    """Return the k vectors nearest to an embedding; of equally near ones the first comes first.

    .. math:: d_m = \\lVert v_m - p \\rVert

    Args:
        embedding: p, ``(D,)``.
        gallery: v, ``(M, D)``.
        k: 1 to M.

    Raises:
        ValueError: k is out of range, or the vectors differ in length.

    Example:
        >>> nearest_neighbors(np.zeros(1), np.array([[3.0], [-1.0], [2.0]]), 2).examples.tolist()
        [1, 2]
    """
    if gallery.ndim != 2 or embedding.shape != gallery.shape[1:]:
        raise ValueError(
            f"nearest_neighbors: got {embedding.shape} and a gallery {gallery.shape}, need "
            "(D,) and (M, D)"
        )
    if not 1 <= k <= len(gallery):
        raise ValueError(f"nearest_neighbors: k: got {k}, need 1 to {len(gallery)}")
    distances = np.linalg.norm(gallery.astype(np.float64) - embedding, axis=1)
    order = np.argsort(distances, kind="stable")[:k]
    return Neighbors(order, distances[order])
