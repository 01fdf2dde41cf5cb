"""The losses of an embedding: of vectors ``(N, D)`` and classes ``(N,)``.

Those that compare the images of a batch are of the batch as a whole, and take ``weights`` ``(N,)``,
0 for examples that are not there. The others are of each image.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from .... import ops
from ....model import Layer, LayerInfo
from ..spec import LossSpec


def all_pairs(
    embeddings: Array,
    labels: Array,
    *,
    loss: Callable[..., Array] = ops.contrastive_loss,
    weights: Array | None = None,
    **keywords: Any,
) -> Array:
    """Return a loss of all pairs of a batch, half the weight on those of one class.

    Among ten classes one pair in ten is of one class; unweighted, the others would drown them.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        loss: ``loss(a, b, same, weights=, reduction=, **keywords)``.
        weights: ``(N,)``, 0 for examples that are not there.
        keywords: of the loss.

    Returns:
        A scalar: the mean of pairs of one class and the mean of the others, added and halved.
    """
    N = len(labels)
    first, second = np.triu_indices(N, 1)
    there = jnp.ones(N, bool) if weights is None else weights.astype(bool)
    there, same = there[first] & there[second], labels[first] == labels[second]
    each = loss(
        embeddings[first], embeddings[second], same, weights=there, reduction="none", **keywords
    )

    def mean(chosen: Array) -> Array:
        count = jnp.maximum((chosen & there).sum(dtype=jnp.int32), 1).astype(each.dtype)
        return jnp.where(chosen, each, 0).sum() / count

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


def class_directions(loss: Callable[..., Array], *, num_classes: int, **keywords: Any) -> Layer:
    """Make a `Layer` of a loss that compares vectors with a learned direction for each class.

    Args:
        loss: ``loss(embeddings, kernel, labels, reduction="none", **keywords) -> (N,)``.
        num_classes: K.
        keywords: of the loss.

    Returns:
        A layer from ``(embeddings, labels)``, ``(N, D)`` and ``(N,)``, to losses ``(N,)``, with the
        parameter ``kernel``, ``(D, K)``.
    """

    def init(key: Array, in_shape: tuple[int, ...]) -> Any:
        shape = (in_shape[-1], num_classes)
        return in_shape[:1], {"kernel": ops.xavier_normal(key, shape)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        embeddings, labels = x
        each = loss(embeddings, params["kernel"], labels, reduction="none", **keywords)
        return each, state

    return Layer(init, apply, LayerInfo("loss"))


LOSSES = {
    "arcface": LossSpec(
        partial(class_directions, ops.arcface_loss), ops.arcface_loss, owns_params=True
    ),
    "cosface": LossSpec(
        partial(class_directions, ops.cosface_loss), ops.cosface_loss, owns_params=True
    ),
    "contrastive": LossSpec(all_pairs, ops.contrastive_loss, ("margin",), compares=True),
    "cosine_embedding": LossSpec(
        partial(all_pairs, loss=ops.cosine_embedding_loss),
        ops.cosine_embedding_loss,
        compares=True,
    ),
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
