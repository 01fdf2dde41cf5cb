"""Losses of log-probabilities: what a `log_softmax`, or a model of them, gives."""

from math import prod
from typing import Literal

import jax
import jax.numpy as jnp

from ..common.dtypes import accum_dtype
from .reduction import (
    Reduction,
    check_indices,
    check_targets,
    full_weights,
    nan_if_unknown,
    one_hot_mask,
    reduce,
    zero_masked,
)


def nll_loss(
    log_probabilities: jax.Array,
    labels: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the negative log-likelihood of the labels.

    .. math:: \ell = -x_y, \qquad \frac{\partial \ell}{\partial x_k} = -[k = y]

    Args:
        log_probabilities: x, ``(N, ..., K)``, floating point; that they are such is not checked.
        labels: y, class indices, ``(N, ...)``, of an integer dtype.
        weights: non-negative or truth values, of the shape of the leading axes of the labels: per
            example ``(N,)``, or finer. Zero takes an example out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, or an unknown `reduction`.
        TypeError: labels that are not class indices: one-hot vectors, perhaps.

    Example:
        >>> nll_loss(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([0])).round(4)
        Array(1.3863, dtype=float32)

    Note:
        For logits there is `softmax_cross_entropy`; of log-probabilities it is this loss, as their
        log-softmax is themselves. PyTorch's `nll_loss`, whose ``weight`` of each class is
        ``weights=weight[labels]`` here, and whose `ignore_index` a weight of 0.
        A class index outside 0 ... K - 1 gives NaN, unless its weight is zero.
    """
    x, labels = jnp.asarray(log_probabilities), jnp.asarray(labels)
    name = "nll_loss"
    check_indices(name, x, labels)
    dtype = accum_dtype(x.dtype)
    weights = full_weights(name, weights, labels.shape, dtype)
    x, labels = zero_masked(x.astype(dtype), weights), zero_masked(labels, weights)
    hit = one_hot_mask(labels, x.shape[-1])
    loss = nan_if_unknown(-jnp.sum(jnp.where(hit, x, 0), axis=-1), hit)
    return reduce(name, loss, weights, reduction)


def kl_div_loss(
    log_probabilities: jax.Array,
    target: jax.Array,
    *,
    log_target: bool = False,
    weights: jax.Array | None = None,
    reduction: Reduction | Literal["batchmean"] = "mean",
) -> jax.Array:
    r"""Compute the terms of the Kullback-Leibler divergence of log-probabilities from a target.

    .. math:: \ell = t (\log t - x), \qquad \frac{\partial \ell}{\partial x} = -t, \qquad
        \frac{\partial \ell}{\partial t} = 1 + \log t - x

    With `log_target`, of u = log t,

    .. math:: \ell = e^u (u - x), \qquad \frac{\partial \ell}{\partial x} = -e^u, \qquad
        \frac{\partial \ell}{\partial u} = e^u (1 + u - x)

    Args:
        log_probabilities: x, ``(N, ...)``, floating point; that they are such is not checked.
        target: t, the same shape, floating point, non-negative; or u.
        log_target: whether the target is u.
        weights: non-negative or truth values, of the shape of the leading axes: ``(N,)`` for one
            per example, or finer. Zero takes an element out, whatever it holds.
        reduction: "mean" over all elements (the weighted sum over the sum of their weights),
            "batchmean" (that over the examples: the divergence), "sum" or "none".

    Returns:
        A scalar, or the shape of `log_probabilities` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, no axis, or an unknown `reduction`.
        TypeError: an operand is not floating point: class indices, perhaps.

    Example:
        >>> x, t = jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[1.0, 0.0]])
        >>> print(kl_div_loss(x, t, reduction="batchmean"))
        0.6931472

    Note:
        PyTorch's `kl_div`, with its reductions; "mean", the divergence over the number of classes,
        is there for its sake (it warns that its own will become "batchmean"). 0 log 0 = 0: a target
        of 0 adds nothing, neither to the value nor to the derivatives, also where the other has no
        probability. `kl_divergence` takes logits, one number for each example.
    """
    x, t = jnp.asarray(log_probabilities), jnp.asarray(target)
    name = "kl_div_loss"
    check_targets(name, "log_probabilities", x, "target", t)
    if x.ndim == 0:
        raise ValueError(f"{name}: no axis of the batch: got {x.shape}, need (N, ...); add an axis")
    dtype = accum_dtype(x.dtype)
    weights = full_weights(name, weights, x.shape, dtype)
    x, t = (zero_masked(a.astype(dtype), weights) for a in (x, t))
    there = t != (-jnp.inf if log_target else 0)
    x = jnp.where(there, x, 0)
    t = jnp.where(there, t, 0 if log_target else 1)
    each = jnp.exp(t) * (t - x) if log_target else t * (jnp.log(t) - x)
    each = jnp.where(there, each, 0)
    if reduction == "batchmean":
        return prod(x.shape[1:]) * reduce(name, each, weights, "mean")
    return reduce(name, each, weights, reduction)
