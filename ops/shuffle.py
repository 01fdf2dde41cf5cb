"""Elements moved between channels and space, or among channels; none is changed."""

import jax
import jax.numpy as jnp

from .common.checks import check_image_rank
from .common.dtypes import check_floating
from .common.padding import is_int


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    r"""Spread channels over space: each group of r^d channels becomes a block of r^d places.

    .. math:: y_{n,\,ri+a,\,rj+b,\,c} = x_{n,\,i,\,j,\,c r^2 + a r + b}, \qquad 0 \le a, b < r

    and likewise for d = 1 or 3 spatial axes. Behind a convolution it is an upsampling that is
    learned. The gradient is moved back: `pixel_unshuffle` is the inverse and the transpose.

    Args:
        x: input, ``(N, *spatial, C r^d)`` with d spatial axes, one to three, floating point.
        factor: r.

    Returns:
        ``(N, *(r * spatial), C)``, dtype of `x`.

    Raises:
        ValueError: wrong rank or factor, or the channels are no multiple of r^d.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None]
        >>> pixel_shuffle(x, 2).ravel()
        Array([1., 2., 3., 4.], dtype=float32)

    References:
        Shi et al., Real-time single image and video super-resolution, arXiv:1609.05158.
    """
    x = _image("pixel_shuffle", x)
    N, *size, channels = x.shape
    d, r = len(size), _positive("pixel_shuffle", "factor", factor)
    if channels % r**d:
        raise ValueError(
            f"pixel_shuffle: channels do not match: got x {x.shape} with factor={r}, need a "
            f"multiple of {r**d} channels; give the layer before {r**d} times as many features"
        )
    # (N, H, W, C, a, b) -> (N, H, a, W, b, C)
    x = x.reshape(N, *size, channels // r**d, *(r,) * d)
    order = [axis for k in range(d) for axis in (1 + k, 2 + d + k)]
    x = x.transpose(0, *order, 1 + d)
    return x.reshape(N, *(r * n for n in size), channels // r**d)


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    r"""Gather blocks of r^d places into channels: the inverse of `pixel_shuffle`.

    .. math:: y_{n,\,i,\,j,\,c r^2 + a r + b} = x_{n,\,ri+a,\,rj+b,\,c}, \qquad 0 \le a, b < r

    Args:
        x: input, ``(N, *spatial, C)`` with d spatial axes, one to three, floating point.
        factor: r.

    Returns:
        ``(N, *(spatial / r), C r^d)``, dtype of `x`.

    Raises:
        ValueError: wrong rank or factor, or a spatial axis is no multiple of r.
        TypeError: `x` is not floating point.

    Example:
        >>> pixel_unshuffle(jnp.arange(1.0, 5.0).reshape(1, 4, 1), 2)[0]
        Array([[1., 2.],
               [3., 4.]], dtype=float32)

    References:
        Shi et al., arXiv:1609.05158.
    """
    x = _image("pixel_unshuffle", x)
    N, *size, C = x.shape
    d, r = len(size), _positive("pixel_unshuffle", "factor", factor)
    if any(n % r for n in size):
        raise ValueError(
            f"pixel_unshuffle: sizes do not match: got x {x.shape} with factor={r}, need spatial "
            f"axes that are multiples of {r}; pad or resize before"
        )
    # (N, H, a, W, b, C) -> (N, H, W, C, a, b)
    x = x.reshape(N, *(part for n in size for part in (n // r, r)), C)
    x = x.transpose(0, *range(1, 2 * d, 2), 1 + 2 * d, *range(2, 2 * d + 1, 2))
    return x.reshape(N, *(n // r for n in size), C * r**d)


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    r"""Deal the channels of each group to all groups, for grouped convolutions to mix them.

    .. math:: y_{\ldots,\, kG+g} = x_{\ldots,\, gC/G+k}, \qquad 0 \le g < G, \quad 0 \le k < C/G

    The inverse and the transpose are a shuffle by C / G groups.

    Args:
        x: input, ``(..., C)``, floating point.
        groups: G, a divisor of C.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: `groups` does not divide C.
        TypeError: `x` is not floating point.

    Example:
        >>> channel_shuffle(jnp.arange(6.0), 2)
        Array([0., 3., 1., 4., 2., 5.], dtype=float32)

    References:
        Zhang et al., ShuffleNet, arXiv:1707.01083.
    """
    x = jnp.asarray(x)
    check_floating("channel_shuffle", "x", x)
    groups = _positive("channel_shuffle", "groups", groups)
    if x.ndim == 0 or x.shape[-1] % groups:
        raise ValueError(
            f"channel_shuffle: bad groups: got groups={groups} with x {x.shape}, need a divisor of "
            f"x.shape[-1]; write the groups of the convolution before"
        )
    dealt = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return dealt.swapaxes(-1, -2).reshape(x.shape)


def _image(name, x):
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    check_image_rank(name, x.shape)
    return x


def _positive(name, what, value):
    if not is_int(value) or value < 1:
        raise ValueError(
            f"{name}: bad {what}: got {value!r}, need a positive int; write {what}=2, for example"
        )
    return int(value)
