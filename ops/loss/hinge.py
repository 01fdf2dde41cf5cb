"""Losses that want the right class ahead by a margin, and then no more."""

import jax
import jax.numpy as jnp

from ..activation import relu
from ..common.dtypes import accum_dtype
from .reduction import (
    Reduction,
    check_indices,
    check_margin,
    check_number,
    full_weights,
    nan_if_unknown,
    one_hot_mask,
    reduce,
    zero_masked,
)


def multiclass_hinge_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    power: int = 1,
    margin: float | jax.Array = 1.0,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the hinge loss of one support vector machine per class, each against all the rest.

    .. math:: \ell = \sum_k \max(0,\, m - \delta_k z_k)^p, \qquad
        \delta_k = +1 \text{ for the label's class, else } -1

    .. math:: \frac{\partial \ell}{\partial z_k} = -p\, \delta_k \max(0,\, m - \delta_k z_k)^{p-1}
        \text{ where } \delta_k z_k < m, \text{ else } 0

    Args:
        logits: z, ``(N, ..., K)``, floating point.
        labels: class indices, ``(N, ...)``, of an integer dtype.
        power: p, 1 for the L1 loss, 2 for the L2 (squared hinge) loss.
        margin: m, zero or more.
        weights: non-negative or truth values, of the shape of the leading axes of the labels: per
            example ``(N,)``, or finer. Zero takes an example out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not match, `power`, `margin` or `reduction` out of range.
        TypeError: labels that are not class indices: one-hot vectors, perhaps.

    Example:
        >>> multiclass_hinge_loss(jnp.array([[3.0, -0.5, -2.0]]), jnp.array([0]))  # 0 + 0.5 + 0
        Array(0.5, dtype=float32)

    Note:
        At the hinge, a margin reached exactly, the derivative is 0. A class index outside
        0 ... K - 1 gives NaN, unless its weight is zero. `multi_margin_loss` compares the classes
        with each other instead; that is the one PyTorch has.

    References:
        Gu et al., Recent Advances in Convolutional Neural Networks, arXiv:1512.07108, 3.4.1.
    """
    z, hit, weights = _prepare("multiclass_hinge_loss", logits, labels, power, margin, weights)
    each = relu(jnp.asarray(margin, z.dtype) - jnp.where(hit, z, -z)) ** int(power)
    loss = nan_if_unknown(jnp.sum(each, axis=-1), hit)
    return reduce("multiclass_hinge_loss", loss, weights, reduction)


def multi_margin_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    power: int = 1,
    margin: float | jax.Array = 1.0,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the multi-class hinge loss: the right class ahead of each other class by a margin.

    .. math:: \ell = \frac{1}{K} \sum_{k \ne y} h_k^p, \qquad h_k = \max(0,\, m - z_y + z_k)

    .. math:: \frac{\partial \ell}{\partial z_k} = \frac{p}{K}\, h_k^{p-1} \; [h_k > 0] \quad
        (k \ne y), \qquad
        \frac{\partial \ell}{\partial z_y} = -\sum_{k \ne y} \frac{\partial \ell}{\partial z_k}

    Args:
        logits: z, ``(N, ..., K)``, floating point.
        labels: y, class indices, ``(N, ...)``, of an integer dtype.
        power: p, 1 or 2.
        margin: m, zero or more.
        weights: as in `multiclass_hinge_loss`.
        reduction: as in `multiclass_hinge_loss`.

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not match, `power`, `margin` or `reduction` out of range.
        TypeError: labels that are not class indices: one-hot vectors, perhaps.

    Example:
        >>> z = jnp.array([[1.0, 0.5, 0.25, -3.0]])
        >>> multi_margin_loss(z, jnp.array([0]))  # (0.5 + 0.25) / 4
        Array(0.1875, dtype=float32)

    Note:
        PyTorch's `multi_margin_loss`, the division by K and the derivative 0 at the hinge
        included; but its mean with class weights divides by N, and ours by the sum of the weights.
        A class index outside 0 ... K - 1 gives NaN, unless its weight is zero.

    References:
        Weston & Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999.
        (Crammer & Singer, JMLR 2, 2001, take the maximum over the classes, not their sum.)
    """
    z, hit, weights = _prepare("multi_margin_loss", logits, labels, power, margin, weights)
    right = jnp.sum(jnp.where(hit, z, 0), axis=-1, keepdims=True)
    margin = jnp.asarray(margin, z.dtype)
    each = jnp.where(hit, 0, relu(margin - right + z) ** int(power))
    loss = nan_if_unknown(jnp.sum(each, axis=-1) / z.shape[-1], hit)
    return reduce("multi_margin_loss", loss, weights, reduction)


def _prepare(name, logits, labels, power, margin, weights):
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    check_indices(name, logits, labels)
    check_number(name, "power", power, lambda p: p in (1, 2), "1 or 2", 2)
    check_margin(name, margin)
    dtype = accum_dtype(logits.dtype)
    weights = full_weights(name, weights, labels.shape, dtype)
    hit = one_hot_mask(zero_masked(labels, weights), logits.shape[-1])
    return zero_masked(logits.astype(dtype), weights), hit, weights
