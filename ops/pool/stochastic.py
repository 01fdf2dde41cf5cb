"""Pooling with chance in it: mixed (maximum or mean) and stochastic (one element by its size)."""

from collections.abc import Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..common.checks import check_key
from ..common.dtypes import accum_dtype
from ..common.padding import Padding
from .pool import windowed_max, windowed_mean
from .windows import Axis, extract_windows, resolve_pool


def mixed_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    train: bool,
    key: jax.Array | None = None,
) -> jax.Array:
    r"""Take the maximum or the mean over each window, as a coin falls, channels last.

    .. math:: y = \lambda \max_{u,v} x_{uv} + (1 - \lambda)\, \frac{1}{K} \sum_{u,v} x_{uv}

    In training lambda is 0 or 1, with probability 1/2 each, drawn once for the whole call; in
    evaluation it is its expectation, 1/2.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window. It never is the maximum; in the
            mean it counts as zeros, as `avg_pool` has it by default.
        train: whether to draw.
        key: random key of this call, not to be used again; evaluation needs none.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`.

    Raises:
        ValueError: wrong rank, window, stride or padding, no whole window fits, or no key.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> mixed_pool(x, 2, train=False)[0, :, :, 0]  # between 5 and 2.5, 7 and 4.5, ...
        Array([[ 3.75,  5.75],
               [11.75, 13.75]], dtype=float32)

    Note:
        The gradient is that of `max_pool` or `avg_pool`, whichever was drawn, or half of each.

    References:
        Yu, Wang, Chen & Wei, Mixed pooling for convolutional neural networks, RSKT 2014.
    """
    x, axes = resolve_pool("mixed_pool", x, window, stride, padding)
    if not train:
        return (windowed_max(x, axes) + windowed_mean(x, axes, True)) / 2
    return _mixed(x, axes, check_key("mixed_pool", key))


def stochastic_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    train: bool,
    key: jax.Array | None = None,
) -> jax.Array:
    r"""Draw one element of each window, in proportion to its size, channels last.

    With a = max(x, 0), elements k of a window and p the probability of each,

    .. math:: p_k = \frac{a_k}{\sum_l a_l}, \qquad
        y = a_K,\ K \sim p \ \text{(training)}, \qquad
        y = \sum_k p_k a_k = \frac{\sum_k a_k^2}{\sum_k a_k} \ \text{(evaluation)}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point; meant to come
            from a ReLU.
        window: taps per spatial axis, or one int for all.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window. Zeros, so it is never drawn.
        train: whether to draw.
        key: random key of this call, not to be used again; evaluation needs none.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, window, stride or padding, no whole window fits, or no key.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([1.0, 3.0, -5.0, 2.0]).reshape(1, 4, 1)
        >>> stochastic_pool(x, 2, train=False)[0, :, 0]  # (1 + 9) / (1 + 3), 4 / 2
        Array([2.5, 2. ], dtype=float32)

    Note:
        Negative elements count as zeros. A window without a positive element gives 0 and passes no
        gradient.

        K is the first element up to which the running sum of a exceeds u times the whole, with u
        uniform in [0, 1). In training the gradient goes to that element, all of it: how p depends
        on x is left out, as in the paper. In evaluation it is (2 a_k - y) / sum a.

        Each window is divided by its largest element, so that no sum or square leaves the range of
        the dtype. A window with a NaN or an infinity in a gives NaN, as the formula does.

    References:
        Zeiler & Fergus, Stochastic pooling, arXiv:1301.3557.
    """
    x, axes = resolve_pool("stochastic_pool", x, window, stride, padding)
    if not train:
        return _expected(x, axes)
    return _drawn(x, axes, check_key("stochastic_pool", key))


@partial(jax.jit, static_argnums=1)
def _mixed(x, axes, key):
    # In float32 whatever JAX's default, for the same key to give the same side of the coin.
    coin = jax.random.uniform(key, (), jnp.float32) < 0.5
    return lax.cond(
        coin, lambda x: windowed_max(x, axes), lambda x: windowed_mean(x, axes, True), x
    )


@partial(jax.jit, static_argnums=1)
def _expected(x, axes):
    """Compute the expectation; neither sum depends on the scale, a constant to the derivative."""
    a, m = _elements(x, axes)
    scale = jnp.where(m > 0, m, 1)
    p = a / scale
    total = jnp.sum(p, axis=-2, keepdims=True)
    y = scale * jnp.sum(p * p, axis=-2, keepdims=True) / jnp.where(m == 0, 1, total)
    return jnp.squeeze(y, -2).astype(x.dtype)


@partial(jax.jit, static_argnums=1)
def _drawn(x, axes, key):
    a, m = _elements(x, axes)
    p = lax.stop_gradient(a) / jnp.where(m > 0, m, 1)
    running = jnp.cumsum(p, axis=-2)
    # In float32 whatever the dtype, for the same key to draw the same elements.
    u = jax.random.uniform(key, m.shape, jnp.float32).astype(p.dtype)
    beyond = (running > u * running[..., -1:, :]) & (p > 0)
    first = jnp.expand_dims(lax.argmax(beyond, beyond.ndim - 2, np.int32), -2)
    drawn = lax.broadcasted_iota(np.int32, a.shape, a.ndim - 2) == first
    y = jnp.sum(jnp.where(drawn, a, 0), axis=-2)
    undefined = jnp.squeeze(jnp.isnan(running[..., -1:, :]), -2)
    return jnp.where(undefined, jnp.nan, y).astype(x.dtype)


def _elements(x, axes: tuple[Axis, ...]):
    """Return max(x, 0) of each window, ``(N, *spatial_out, elements, C)``, and its largest."""
    a = jax.nn.relu(x.astype(accum_dtype(x.dtype)))
    for axis in reversed(axes):
        a = extract_windows(a, axis)
    # (N, Ho, KH, Wo, KW, C) -> (N, Ho, Wo, KH, KW, C): elements in row-major order
    a = jnp.moveaxis(a, range(2, a.ndim - 1, 2), range(1 + len(axes), a.ndim - 1))
    a = a.reshape(*a.shape[: 1 + len(axes)], prod(axis.window for axis in axes), a.shape[-1])
    return a, lax.stop_gradient(jnp.max(a, axis=-2, keepdims=True))
