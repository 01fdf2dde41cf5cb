"""Triplet losses that look for the triplets of a batch themselves."""

import jax
import jax.numpy as jnp

from ..activation import relu
from ..common.dtypes import accum_dtype
from .reduction import (
    Reduction,
    check_embeddings,
    check_margin,
    example_weights,
    full_dot,
    reduce,
    safe_sqrt,
    squared_distance,
    zero_masked,
)


def batch_hard_triplet_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float | jax.Array = 1.0,
    squared: bool = False,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the triplet loss of each anchor with its farthest positive and nearest negative.

    .. math:: \ell_a = \max\Bigl(0,\; m + \max_{p \ne a,\; y_p = y_a} D_{ap}
        - \min_{n:\; y_n \ne y_a} D_{an}\Bigr), \qquad D_{ij} = \lVert x_i - x_j \rVert_2

    The gradient is `triplet_loss`'s at the triplet that was found.

    Args:
        embeddings: x, ``(N, D)``, floating point.
        labels: y, ``(N,)``, integers: equal for the examples of a class.
        margin: m, zero or more.
        squared: measure, and give the margin, in squared distances.
        weights: non-negative or truth values, ``(N,)``: those of the anchors. Zero takes an
            example out of all roles, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of the weights of the anchors that have a
            triplet), "sum" or "none".

    Returns:
        A scalar, or ``(N,)`` for "none", zero for anchors without a positive or a negative, whose
        weight is zero; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, a negative margin, or an unknown `reduction`.
        TypeError: `embeddings` are not floating point, or `labels` not integers.

    Example:
        >>> x = jnp.array([[0.0], [1.0], [3.0], [3.5]])
        >>> batch_hard_triplet_loss(x, jnp.array([0, 0, 0, 1]), reduction="none")
        Array([0.5, 0.5, 3.5, 0. ], dtype=float32)

    Note:
        Of several equally far or near, the first counts. At a distance of 0 the derivative of the
        distance, and at the hinge that of the loss, is 0. A batch without a single triplet has a
        mean of 0: it has nothing to teach. Distances are exact, but the relative error of their
        derivatives is about eps times the spread of the batch over the distance: it grows where
        classes are far apart and narrow. PyTorch has no such loss.

    References:
        Hermans et al., In Defense of the Triplet Loss, arXiv:1703.07737, equation 5.
    """
    name = "batch_hard_triplet_loss"
    D, positive, negative, w = _distances(name, embeddings, labels, margin, squared, weights)
    farthest = _pick(D, jnp.where(positive, D, -jnp.inf))
    nearest = _pick(D, jnp.where(negative, -D, -jnp.inf))
    there = jnp.any(positive, axis=1) & jnp.any(negative, axis=1)
    weights = jnp.where(there, w, 0)
    loss = relu(jnp.asarray(margin, D.dtype) + farthest - nearest)
    return reduce(name, loss, weights, reduction, empty_value=0)


def semi_hard_triplet_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float | jax.Array = 1.0,
    squared: bool = False,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the triplet loss of each pair with the nearest negative beyond the positive.

    .. math:: \ell_{ap} = \max(0,\; m + D_{ap} - D_{a n}), \qquad
        n = \operatorname*{arg\,min}_{n:\; y_n \ne y_a,\; D_{an} > D_{ap}} D_{an}, \qquad
        D_{ij} = \lVert x_i - x_j \rVert_2

    over all ordered pairs a != p of a class; where no negative is farther than the positive, n is
    the farthest one. The gradient is `triplet_loss`'s at the triplet that was found.

    Args:
        embeddings: x, ``(N, D)``, floating point; FaceNet's have length 1.
        labels: y, ``(N,)``, integers: equal for the examples of a class.
        margin: m, zero or more.
        squared: measure, and give the margin, in squared distances, as FaceNet does (m = 0.2).
        weights: non-negative or truth values, ``(N,)``; a pair weighs the product of its two.
            Zero takes an example out of all roles, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of the weights of the pairs), "sum" or
            "none".

    Returns:
        A scalar, or ``(N, N)`` for "none", anchors by positives, zero for what is no pair of a
        class or has no negative; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, a negative margin, or an unknown `reduction`.
        TypeError: `embeddings` are not floating point, or `labels` not integers.

    Example:
        >>> x = jnp.array([[0.0], [1.0], [0.5], [1.5]])
        >>> loss = semi_hard_triplet_loss(x, jnp.array([0, 0, 1, 1]), reduction="none")
        >>> loss[0, 1]  # 1 + 1 - 1.5: the negative at 0.5 is nearer than the positive at 1
        Array(0.5, dtype=float32)

    Note:
        Of several equally near, the first counts. At a distance of 0 the derivative of the
        distance, and at the hinge that of the loss, is 0. A batch without a single triplet has a
        mean of 0. The derivatives are as exact as `batch_hard_triplet_loss`'s. All triplets are
        compared, in N^3 time but, compiled, N^2 memory. PyTorch has no such loss.

    References:
        Schroff et al., FaceNet, arXiv:1503.03832, section 3.2.
    """
    name = "semi_hard_triplet_loss"
    D, positive, negative, w = _distances(name, embeddings, labels, margin, squared, weights)
    across, other = D[:, None, :], negative[:, None, :]  # anchor, positive, negative
    beyond = other & (across > D[:, :, None])
    # Scores in two floors: below are the negatives within, the farthest best.
    score = jnp.where(
        beyond, -across, jnp.where(jnp.any(beyond, -1, keepdims=True), -jnp.inf, across)
    )
    chosen = _pick(across, jnp.where(other, score, -jnp.inf))
    there = positive & jnp.any(negative, axis=1, keepdims=True)
    weights = jnp.where(there, w[:, None] * w[None, :], 0)
    loss = relu(jnp.asarray(margin, D.dtype) + D - chosen)
    return reduce(name, loss, weights, reduction, empty_value=0)


def _distances(name, embeddings, labels, margin, squared, weights):
    """Return (N, N) distances, who is whose positive and negative, and the (N,) weights."""
    x, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    check_embeddings(name, x, labels)
    check_margin(name, margin)
    dtype = accum_dtype(x.dtype)
    w = example_weights(name, weights, labels, dtype)
    distance = _pairwise(zero_masked(x.astype(dtype), w))
    D = distance if squared else safe_sqrt(distance)
    both = (w[:, None] != 0) & (w[None, :] != 0)
    same = labels[:, None] == labels[None, :]
    return D, both & same & ~jnp.eye(labels.shape[0], dtype=bool), both & ~same, w


@jax.custom_jvp
def _pairwise(x):
    r"""Compute d_ij = |x_i - x_j|^2, (N, N)."""
    return squared_distance(x[:, None, :], x[None, :, :])


@_pairwise.defjvp
def _pairwise_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    centered = x - jnp.mean(x, axis=0, keepdims=True)  # only differences matter
    products = full_dot(centered, dx.T)
    own = jnp.diagonal(products)
    return _pairwise(x), 2 * (own[:, None] + own[None, :] - products - products.T)


def _pick(values, score):
    """Pick the values with the best score along the last axis, the first of several."""
    N = score.shape[-1]
    if N == 0:
        return jnp.zeros(score.shape[:-1], values.dtype)
    best = jnp.argmax(score, axis=-1, keepdims=True).astype(jnp.int32)
    here = best == jnp.arange(N, dtype=jnp.int32).reshape((1,) * (score.ndim - 1) + (N,))
    return jnp.sum(jnp.where(here, values, 0), axis=-1)
