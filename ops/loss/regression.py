"""Losses of numbers against numbers."""

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ..common.dtypes import accum_dtype, check_floating
from .reduction import (
    Reduction,
    check_number,
    check_same_shape,
    full_weights,
    is_zero,
    reduce,
    zero_masked,
)


def mse_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the mean squared error.

    .. math:: \frac{1}{n} \sum_i (p_i - t_i)^2, \qquad
        \frac{\partial}{\partial p_i} = \frac{2}{n} (p_i - t_i)

    Args:
        prediction: p, any shape, floating point.
        target: t, the same shape, floating point.
        weights: non-negative or truth values, of the shape of the leading axes of `prediction`:
            ``(N,)`` for one per example, or finer. Zero takes an element out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of the elements' weights), "sum" or
            "none".

    Returns:
        A scalar, or the shape of `prediction` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match (nothing is broadcast), or an unknown `reduction`.
        TypeError: an operand is not floating point.

    Example:
        >>> mse_loss(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]))
        Array(2.5, dtype=float32)

    Note:
        The target is converted to the dtype of the prediction, or float32 if that is wider. A mean
        over an empty batch is NaN.
    """
    error, weights = _error("mse_loss", prediction, target, weights)
    return reduce("mse_loss", jnp.square(error), weights, reduction)


def l1_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the mean absolute error.

    .. math:: \frac{1}{n} \sum_i |p_i - t_i|, \qquad
        \frac{\partial}{\partial p_i} = \frac{1}{n} \operatorname{sign}(p_i - t_i)

    Args:
        prediction: p, any shape, floating point.
        target: t, the same shape, floating point.
        weights: as in `mse_loss`.
        reduction: as in `mse_loss`.

    Returns:
        A scalar, or the shape of `prediction` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, or an unknown `reduction`.
        TypeError: an operand is not floating point.

    Example:
        >>> l1_loss(jnp.array([1.0, -2.0]), jnp.zeros(2))
        Array(1.5, dtype=float32)

    Note:
        At an error of 0 the derivative is 0, as in PyTorch.
    """
    error, weights = _error("l1_loss", prediction, target, weights)
    return reduce("l1_loss", _absolute(error), weights, reduction)


def huber_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    delta: float | jax.Array = 1.0,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute Huber's loss: half the square of a small error, linear in a large one.

    .. math:: \ell = \begin{cases} \tfrac12 e^2 & |e| \le \delta \\
        \delta (|e| - \tfrac12 \delta) & \text{else} \end{cases}, \qquad e = p - t, \qquad
        \frac{\partial \ell}{\partial p} = \min(\max(e, -\delta), \delta)

    Args:
        prediction: p, any shape, floating point.
        target: t, the same shape, floating point.
        delta: where the parabola goes over into the line; positive.
        weights: as in `mse_loss`.
        reduction: as in `mse_loss`.

    Returns:
        A scalar, or the shape of `prediction` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, `delta` or `reduction` out of range.
        TypeError: an operand is not floating point.

    Example:
        >>> huber_loss(jnp.array([0.5, -3.0]), jnp.zeros(2), reduction="none")
        Array([0.125, 2.5  ], dtype=float32)

    Note:
        The same as PyTorch's `huber_loss`; its `smooth_l1_loss` is this over `delta`. The first
        derivative has no jump; the second jumps at an error of exactly delta, where it is 1/2.

    References:
        Huber, Robust Estimation of a Location Parameter, 1964. Girshick, arXiv:1504.08083.
    """
    check_number("huber_loss", "delta", delta, lambda d: d > 0, "delta > 0", 1.0)
    error, weights = _error("huber_loss", prediction, target, weights)
    return reduce("huber_loss", _huber(jnp.asarray(delta, error.dtype), error), weights, reduction)


def smooth_l1_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    beta: float | jax.Array = 1.0,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the smooth L1 loss: the absolute error, a parabola near 0.

    .. math:: \ell = \begin{cases} \dfrac{e^2}{2 \beta} & |e| \le \beta \\
        |e| - \tfrac12 \beta & \text{else} \end{cases}, \qquad e = p - t, \qquad
        \frac{\partial \ell}{\partial p} = \min(\max(e / \beta, -1), 1)

    Args:
        prediction: p, any shape, floating point.
        target: t, the same shape, floating point.
        beta: where the parabola goes over into the line; 0 for the L1 loss.
        weights: as in `mse_loss`.
        reduction: as in `mse_loss`.

    Returns:
        A scalar, or the shape of `prediction` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, `beta` or `reduction` out of range.
        TypeError: an operand is not floating point.

    Example:
        >>> smooth_l1_loss(jnp.array([0.5, -3.0]), jnp.zeros(2), beta=2.0, reduction="none")
        Array([0.0625, 2.    ], dtype=float32)

    Note:
        `huber_loss` with delta = beta, over beta; the same as PyTorch's `smooth_l1_loss`. With
        beta = 0 the derivative is the sign of the error, 0 at 0; a beta that is traced is positive.

    References:
        Girshick, Fast R-CNN, arXiv:1504.08083.
    """
    check_number("smooth_l1_loss", "beta", beta, lambda b: b >= 0, "beta >= 0", 1.0)
    error, weights = _error("smooth_l1_loss", prediction, target, weights)
    if is_zero(beta):
        loss = _absolute(error)
    else:
        beta = jnp.asarray(beta, error.dtype)
        loss = _huber(beta, error) / beta
    return reduce("smooth_l1_loss", loss, weights, reduction)


def _absolute(error):
    """Return absolute values, whose slope at 0 is 0, where that of `abs` is 1."""
    return error * jnp.sign(error)


@jax.custom_jvp
def _huber(delta, e):
    c = jnp.clip(e, -delta, delta)
    return c * (e - c / 2)


def _huber_jvp(primals, tangents):
    """Write the derivative out.

    By the product rule that of an infinite error would be infinity times zero.
    """
    (delta, e), (d_delta, de) = primals, tangents
    slope = jnp.zeros_like(e)
    if not isinstance(de, SymbolicZero):
        slope += jnp.clip(e, -delta, delta) * de
    if not isinstance(d_delta, SymbolicZero):
        slope += jax.nn.relu(jnp.abs(e) - delta) * d_delta
    return _huber(delta, e), slope


_huber.defjvp(_huber_jvp, symbolic_zeros=True)


def _error(name, prediction, target, weights):
    """Return p - t, zero where the weight is, and the weights."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    check_floating(name, "prediction", prediction)
    check_floating(name, "target", target)
    check_same_shape(name, "prediction", prediction, "target", target)
    dtype = accum_dtype(prediction.dtype)
    weights = full_weights(name, weights, prediction.shape, dtype)
    p, t = (zero_masked(a.astype(dtype), weights) for a in (prediction, target))
    return p - t, weights
