"""Windows laid out as columns of a matrix, and added back up: im2col and col2im."""

from collections.abc import Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from .common.dtypes import accum_dtype
from .common.padding import Padding, per_axis
from .pool.windows import Axis, add_windows, as_images, extract_windows, window_axes


def unfold(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    r"""Lay the elements of each window side by side as the channels of one place (im2col).

    .. math:: y_{n,\,i,j,\,(u K_W + v) C + c} = x_{n,\,si+du-p,\,sj+dv-p,\,c}

    Taps in row-major order, and for each tap all channels: the order of a kernel
    ``(*window, C, Co)``, so that ``unfold(x, window) @ kernel.reshape(-1, Co)`` is a convolution.
    The gradient is `fold`.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all; K = prod(window).
        stride, padding, dilation: as for `conv`; no padding by default.

    Returns:
        ``(N, *spatial_out, K C)``, dtype of `x`; padding is zeros.

    Raises:
        ValueError: wrong rank, window, stride, padding or dilation, or no whole window fits.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])[None]
        >>> unfold(x, 2)[0]
        Array([[ 1., 10.,  2., 20.],
               [ 2., 20.,  3., 30.]], dtype=float32)

    Note:
        PyTorch's columns are ``(N, C K, L)``: all places on one axis, the last, and channel c of
        tap k at c K + k, where here it is at k C + c. So theirs are ours as
        ``y.reshape(N, L, K, C).transpose(0, 3, 2, 1).reshape(N, C * K, L)``.

    References:
        Chellapilla, Puri & Simard, High performance convolutional neural networks for document
        processing, IWFHR 2006.
    """
    x = as_images("unfold", x)
    axes = window_axes("unfold", x.shape[1:-1], window, stride, padding, dilation)
    return _unfold(x, axes)


def fold(
    x: jax.Array,
    size: int | Sequence[int],
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    r"""Add columns up to the image whose windows they are: the transpose of `unfold` (col2im).

    .. math:: y_{n,j,c} = \sum_{i,u\,:\; si+du-p = j} x_{n,\,i,\,u C + c}

    With u the number of the tap in row-major order. What falls on the padding is left out. Where
    windows overlap it is no inverse of `unfold`: each element comes back as often as windows have
    it, which is ``fold(unfold(ones))``.

    Args:
        x: columns as from `unfold`, ``(N, *spatial_out, K C)``, floating point.
        size: of the image's spatial axes, or one int for all.
        window, stride, padding, dilation: as for `unfold`, of the image.

    Returns:
        ``(N, *size, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, size, window, stride, padding or dilation; the places
            are not those of such an image's windows, or the channels are no multiple of K.
        TypeError: `x` is not floating point.

    Example:
        >>> fold(jnp.array([[1.0, 10.0], [2.0, 20.0]])[None], 3, 2).ravel()
        Array([ 1., 12., 20.], dtype=float32)

    Note:
        The order of the columns is that of `unfold`, not PyTorch's.

    References:
        Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.
    """
    x = as_images("fold", x)
    size = per_axis("fold", "size", size, x.ndim - 2)
    axes = window_axes("fold", size, window, stride, padding, dilation)
    places, taps = tuple(axis.output for axis in axes), prod(axis.window for axis in axes)
    if x.shape[1:-1] != places:
        raise ValueError(
            f"fold: places do not match: got x {x.shape}, need {places} places, the windows of an "
            f"image of {size}; write the size, stride, padding and dilation of unfold"
        )
    if x.shape[-1] % taps:
        raise ValueError(
            f"fold: channels do not match: got x {x.shape} with {taps} taps in a window, need a "
            f"multiple of {taps} channels; write the window of unfold"
        )
    return _fold(x, axes)


@partial(jax.jit, static_argnums=1)
def _unfold(x, axes: tuple[Axis, ...]):
    y = x.astype(accum_dtype(x.dtype))  # for the gradient's sums
    for axis in reversed(axes):
        y = extract_windows(y, axis)
    # (N, Ho, KH, Wo, KW, C) -> (N, Ho, Wo, KH, KW, C)
    y = jnp.moveaxis(y, range(2, y.ndim - 1, 2), range(1 + len(axes), y.ndim - 1))
    return y.reshape(*y.shape[: 1 + len(axes)], -1).astype(x.dtype)


@partial(jax.jit, static_argnums=1)
def _fold(x, axes: tuple[Axis, ...]):
    window = [axis.window for axis in axes]
    y = x.astype(accum_dtype(x.dtype))
    y = y.reshape(*x.shape[:-1], *window, x.shape[-1] // prod(window))
    # (N, Ho, Wo, KH, KW, C) -> (N, Ho, KH, Wo, KW, C)
    y = jnp.moveaxis(y, range(1 + len(axes), y.ndim - 1), range(2, y.ndim - 1, 2))
    for axis in axes:
        y = add_windows(y, axis)
    return y.astype(x.dtype)
