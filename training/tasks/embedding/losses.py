"""The losses of an embedding: of vectors ``(N, D)`` and classes ``(N,)``, the batch as a whole.

Each takes ``weights`` ``(N,)``, 0 for examples that are not there.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from .... import ops
from ..spec import LossSpec


def contrastive_pairs(
    embeddings: Array,
    labels: Array,
    *,
    weights: Array | None = None,
    **keywords: Any,
) -> Array:
    """Return `ops.contrastive_loss` of all pairs of a batch, half the weight on those of one class.

    Among ten classes one pair in ten is of one class; unweighted, the others would drown them.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        weights: ``(N,)``, 0 for examples that are not there.
        keywords: of `ops.contrastive_loss`.

    Returns:
        A scalar: the mean of pairs of one class and the mean of the others, added and halved.
    """
    N = len(labels)
    first, second = np.triu_indices(N, 1)
    there = jnp.ones(N, bool) if weights is None else weights.astype(bool)
    there, same = there[first] & there[second], labels[first] == labels[second]
    loss = ops.contrastive_loss(
        embeddings[first], embeddings[second], same, weights=there, reduction="none", **keywords
    )

    def mean(chosen: Array) -> Array:
        count = jnp.maximum((chosen & there).sum(dtype=jnp.int32), 1).astype(loss.dtype)
        return jnp.where(chosen, loss, 0).sum() / count

    return (mean(same) + mean(~same)) / 2


def all_triplets(
    embeddings: Array,
    labels: Array,
    *,
    weights: Array | None = None,
    **keywords: Any,
) -> Array:
    """Return the mean of `ops.triplet_loss` over all triplets of a batch.

    There are N (N - 1) (N - 2) / 2 candidates: for batches of tens, not of hundreds.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        weights: ``(N,)``, 0 for examples that are not there.
        keywords: of `ops.triplet_loss`.

    Returns:
        A scalar; 0 where there is no triplet.
    """
    N = len(labels)
    anchor, positive, negative = (
        axis.ravel() for axis in np.meshgrid(*(np.arange(N),) * 3, indexing="ij")
    )
    apart = (anchor != positive) & (anchor != negative) & (positive != negative)
    anchor, positive, negative = anchor[apart], positive[apart], negative[apart]
    there = jnp.ones(N, bool) if weights is None else weights.astype(bool)
    is_triplet = (labels[anchor] == labels[positive]) & (labels[anchor] != labels[negative])
    is_triplet &= there[anchor] & there[positive] & there[negative]
    loss = ops.triplet_loss(
        embeddings[anchor],
        embeddings[positive],
        embeddings[negative],
        weights=is_triplet,
        reduction="sum",
        **keywords,
    )
    return loss / jnp.maximum(is_triplet.sum(dtype=jnp.int32), 1).astype(loss.dtype)


LOSSES = {
    "contrastive": LossSpec(contrastive_pairs, ops.contrastive_loss, ("margin",), compares=True),
    "triplet": LossSpec(all_triplets, ops.triplet_loss, compares=True),
    "triplet_batch_hard": LossSpec(
        ops.batch_hard_triplet_loss, ops.batch_hard_triplet_loss, compares=True
    ),
    "triplet_semi_hard": LossSpec(
        ops.semi_hard_triplet_loss, ops.semi_hard_triplet_loss, compares=True
    ),
    "histogram": LossSpec(ops.histogram_loss, ops.histogram_loss, (), compares=True),
    "lda": LossSpec(ops.lda_loss, ops.lda_loss, (), compares=True),
}
