"""Kernels normalized where they are used, for each output channel: weight standardization."""

from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from .common.checks import as_scalar
from .common.dtypes import accum_dtype, check_floating


def standardize_weights(kernel: jax.Array, *, eps: float = 1e-5) -> jax.Array:
    r"""Bring the weights of each output channel to mean 0 and variance 1.

    .. math:: \hat w_{i,o} = r_o (w_{i,o} - m_o), \qquad m_o = \frac{1}{I} \sum_i w_{i,o}, \qquad
        r_o = \Bigl( \frac{1}{I} \sum_i (w_{i,o} - m_o)^2 + \epsilon \Bigr)^{-1/2}

    .. math:: \bar w_{i,o} = r_o \Bigl( g_{i,o} - \frac{1}{I} \sum_j g_{j,o} - \hat w_{i,o}\,
        \frac{1}{I} \sum_j g_{j,o}\, \hat w_{j,o} \Bigr), \qquad g = \bar{\hat w}

    with i over the window and the input channels of a group, I of them.

    Args:
        kernel: w, ``(*window, Ci // G, Co)``, floating point; or any array with the outputs last.
        eps: added to the variance.

    Returns:
        Shape and dtype of `kernel`.

    Raises:
        ValueError: an output has fewer than 2 weights, or `eps` is not positive.
        TypeError: `kernel` is not floating point.

    Example:
        >>> print(standardize_weights(jnp.array([[1.0, 10.0], [3.0, 30.0]])).round(3))
        [[-1. -1.]
         [ 1.  1.]]

    Note:
        Optimization is of the weights as they are: the gradient reaches them through this, without
        what would move their mean or their length. The variance is biased, as in the paper and in
        timm's `StdConv2d`; the paper's code adds 1e-5 to the unbiased deviation.

    References:
        Qiao et al., arXiv:1903.10520.
    """
    name, w = "standardize_weights", jnp.asarray(kernel)
    check_floating(name, "kernel", w)
    count = prod(w.shape[:-1])
    if w.ndim < 2 or count < 2:
        raise ValueError(
            f"{name}: nothing to standardize: got kernel {w.shape}, need 2 weights at least for "
            f"each output; write a larger window, or leave it out"
        )
    need, remedy = "a positive number", "write eps=1e-5"
    eps = as_scalar(name, "eps", eps, lambda eps: eps > 0, need, remedy, dtype=None)
    axes = tuple(range(w.ndim - 1))
    wide = w.astype(accum_dtype(w.dtype))
    centered = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(centered * centered, axes, keepdims=True)
    return (centered * lax.rsqrt(variance + eps)).astype(w.dtype)
