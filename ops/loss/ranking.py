"""The loss of an order: of two scores, one should be ahead of the other."""

import jax
import jax.numpy as jnp

from ..activation import relu
from ..common.dtypes import accum_dtype, check_floating, check_same_dtype
from .reduction import Reduction, check_margin, check_same_shape, full_weights, reduce, zero_masked


def margin_ranking_loss(
    a: jax.Array,
    b: jax.Array,
    a_first: jax.Array,
    *,
    margin: float | jax.Array = 0.0,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the margin ranking loss: of two scores the right one is ahead, by a margin.

    .. math:: \ell = \max(0,\, m - y (a - b)), \qquad y = +1 \text{ where a should be ahead, else }
        -1

    .. math:: \frac{\partial \ell}{\partial a} = -\frac{\partial \ell}{\partial b} = -y
        \text{ where } \ell > 0, \text{ else } 0

    Args:
        a: scores, of any shape, floating point.
        b: the others of the pairs, the same shape and dtype.
        a_first: whether a should be ahead, the same shape, boolean.
        margin: m, zero or more.
        weights: non-negative or truth values, of the shape of the leading axes: ``(N,)`` for one
            per pair, or finer. Zero takes a pair out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or the shape of `a` for "none"; float32, or float64 for float64 scores.

    Raises:
        ValueError: shapes that do not match, a negative margin, or an unknown `reduction`.
        TypeError: `a` and `b` are not of one float dtype, or `a_first` is not boolean.

    Example:
        >>> a, b = jnp.array([3.0, 3.0]), jnp.array([2.5, 2.5])
        >>> margin_ranking_loss(a, b, jnp.array([True, False]), margin=1.0, reduction="none")
        Array([0.5, 1.5], dtype=float32)

    Note:
        PyTorch's `margin_ranking_loss`, whose target is y. At the hinge, a margin reached exactly,
        the derivative is 0; in PyTorch it is -y.

    References:
        Herbrich, Graepel & Obermayer, Large Margin Rank Boundaries for Ordinal Regression, 2000.
    """
    name = "margin_ranking_loss"
    a, b, first = jnp.asarray(a), jnp.asarray(b), jnp.asarray(a_first)
    check_floating(name, "a", a)
    check_same_dtype(name, "a", a, "b", b)
    check_same_shape(name, "a", a, "b", b)
    if first.dtype != jnp.bool_:
        raise TypeError(
            f"{name}: a_first is not boolean: got {first.dtype} {first.shape}, need truth values "
            f"{a.shape}; write a_first > 0 for targets of 1 and -1"
        )
    check_same_shape(name, "a", a, "a_first", first)
    check_margin(name, margin)
    dtype = accum_dtype(a.dtype)
    weights = full_weights(name, weights, a.shape, dtype)
    a, b = (zero_masked(score.astype(dtype), weights) for score in (a, b))
    loss = relu(jnp.asarray(margin, dtype) - jnp.where(first, a - b, b - a))
    return reduce(name, loss, weights, reduction)
