"""Pooling to a size of output that does not depend on the input's: global, adaptive, pyramid."""

from collections.abc import Sequence
from functools import lru_cache, partial
from math import prod

import jax
import jax.numpy as jnp

from ..common.dtypes import accum_dtype
from ..common.padding import is_int, per_axis
from ..common.sparse_linear import linear_map, table
from .pool import mean_of_tiles, windowed_max
from .windows import as_images, tile_axis


def global_max_pool(x: jax.Array, *, keepdims: bool = False) -> jax.Array:
    r"""Take the maximum over all positions, channels last.

    .. math:: y_{n,c} = \max_{i,j} x_{n,i,j,c}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        keepdims: whether to keep the spatial axes, with size 1.

    Returns:
        ``(N, C)``, or ``(N, 1, ..., C)``; dtype of `x`.

    Raises:
        ValueError: wrong rank, or nothing to take the maximum of.
        TypeError: `x` is not floating point.

    Example:
        >>> global_max_pool(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[6., 7.]], dtype=float32)

    Note:
        Ties and NaN as in `max_pool`.
    """
    x = as_images("global_max_pool", x)
    return _with_axes(_global_max(x), x.ndim, keepdims)


def global_avg_pool(x: jax.Array, *, keepdims: bool = False) -> jax.Array:
    r"""Take the mean over all positions, channels last.

    .. math:: y_{n,c} = \frac{1}{HW} \sum_{i,j} x_{n,i,j,c}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        keepdims: whether to keep the spatial axes, with size 1.

    Returns:
        ``(N, C)``, or ``(N, 1, ..., C)``; dtype of `x`, added up in float32 at least.

    Raises:
        ValueError: wrong rank, or nothing to take the mean of.
        TypeError: `x` is not floating point.

    Example:
        >>> global_avg_pool(jnp.arange(8.0).reshape(1, 2, 2, 2))
        Array([[3., 4.]], dtype=float32)

    References:
        Lin, Chen & Yan, Network in network, arXiv:1312.4400.
    """
    x = as_images("global_avg_pool", x)
    return _with_axes(_global_mean(x), x.ndim, keepdims)


def adaptive_max_pool(x: jax.Array, output_size: int | Sequence[int]) -> jax.Array:
    r"""Take the maximum over as many bins as wanted, channels last.

    Along an axis of I elements, bin i of O reaches

    .. math:: \text{from } \lfloor i\, I / O \rfloor
        \text{ up to, but without, } \lceil (i + 1)\, I / O \rceil

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        output_size: bins per spatial axis, or one int for all; they may be more than the elements.

    Returns:
        ``(N, *output_size, C)``, dtype of `x`.

    Raises:
        ValueError: wrong rank or output size, or nothing to take the maximum of.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([1.0, 9.0, 2.0, 8.0, 3.0]).reshape(1, 5, 1)
        >>> adaptive_max_pool(x, 2)[0, :, 0]  # of elements 0 to 2, and 2 to 4
        Array([9., 8.], dtype=float32)

    Note:
        The bins are PyTorch's; unless O divides I, neighbors overlap. Ties and NaN as in
        `max_pool`.
    """
    x = as_images("adaptive_max_pool", x)
    size = per_axis("adaptive_max_pool", "output_size", output_size, x.ndim - 2)
    return _adaptive_max(x, size)


def adaptive_avg_pool(x: jax.Array, output_size: int | Sequence[int]) -> jax.Array:
    r"""Take the mean over as many bins as wanted, channels last; bins as in `adaptive_max_pool`.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        output_size: bins per spatial axis, or one int for all; they may be more than the elements.

    Returns:
        ``(N, *output_size, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank or output size, or nothing to take the mean of.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([1.0, 9.0, 2.0, 8.0, 5.0]).reshape(1, 5, 1)
        >>> adaptive_avg_pool(x, 2)[0, :, 0]  # of elements 0 to 2, and 2 to 4
        Array([4., 5.], dtype=float32)
    """
    x = as_images("adaptive_avg_pool", x)
    size = per_axis("adaptive_avg_pool", "output_size", output_size, x.ndim - 2)
    return _adaptive_mean(x, size)


def spatial_pyramid_pool(x: jax.Array, levels: Sequence[int] = (4, 2, 1)) -> jax.Array:
    r"""Take maxima over ever coarser grids of bins: one vector for images of any size.

    Level l, an int, has l bins along each axis, those of `adaptive_max_pool`.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        levels: bins along each axis, level by level.

    Returns:
        ``(N, C * sum(l**rank for l in levels))``, dtype of `x`: the levels in the order given, in
        each its bins in row-major order, in each its channels.

    Raises:
        ValueError: wrong rank or levels, or nothing to take the maximum of.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> spatial_pyramid_pool(x, (2, 1))
        Array([[ 5.,  7., 13., 15., 15.]], dtype=float32)

    Note:
        The paper's windows have size ceil(I / l) and stride floor(I / l), which for some sizes miss
        the last elements; these bins never do, and are the same wherever l divides I.

    References:
        He, Zhang, Ren & Sun, Spatial pyramid pooling, arXiv:1406.4729.
    """
    x = as_images("spatial_pyramid_pool", x)
    if (
        not isinstance(levels, Sequence)
        or not levels
        or not all(is_int(level) and level >= 1 for level in levels)
    ):
        raise ValueError(
            f"spatial_pyramid_pool: bad levels: got {levels!r}, need one or more positive ints, "
            f"the bins along each axis; write levels=(4, 2, 1), for example"
        )
    bins = [_adaptive_max(x, (int(level),) * (x.ndim - 2)) for level in levels]
    return jnp.concatenate([y.reshape(y.shape[0], prod(y.shape[1:])) for y in bins], axis=1)


# ------------------------------------------------------------------------------------- shared


@jax.jit
def _global_max(x):
    size = prod(x.shape[1:-1])
    x = x.reshape(x.shape[0], size, x.shape[-1])  # one axis, whose order is row-major
    return windowed_max(x, (tile_axis(1, size, 1),)).squeeze(1)


@jax.jit
def _global_mean(x):
    spatial = tuple(range(1, x.ndim - 1))
    return jnp.mean(x.astype(accum_dtype(x.dtype)), axis=spatial).astype(x.dtype)


def _with_axes(y, rank, keepdims):
    return jnp.expand_dims(y, tuple(range(1, rank - 1))) if keepdims else y


@partial(jax.jit, static_argnums=1)
def _adaptive_max(x, size):
    """Write the bins side by side: they are tiles then, of which `windowed_max` knows the rest."""
    y, axes = x.astype(accum_dtype(x.dtype)), []
    for at, o in enumerate(size, start=1):
        if y.shape[at] % o:
            y = linear_map(y, _side_by_side(y.shape[at], o), at)
        axes.append(tile_axis(at, y.shape[at], o))
    return windowed_max(y, tuple(axes)).astype(x.dtype)


@partial(jax.jit, static_argnums=1)
def _adaptive_mean(x, size):
    y = x.astype(accum_dtype(x.dtype))
    for at, o in reversed(list(enumerate(size, start=1))):
        if y.shape[at] % o:
            y = linear_map(y, _means(y.shape[at], o), at)
        else:
            y = mean_of_tiles(y, (tile_axis(at, y.shape[at], o),))
    return y.astype(x.dtype)


def _bins(size, output):
    return [range(i * size // output, -(-(i + 1) * size // output)) for i in range(output)]


@lru_cache(maxsize=256)
def _side_by_side(size, output):
    """Make the table of one bin after the other; a short bin repeats its last element.

    A repetition is never the first maximum, and of a NaN it passes the gradient on to the same.
    """
    bins = _bins(size, output)
    longest = max(map(len, bins))
    return table(size, ([(min(b[0] + t, b[-1]), 1)] for b in bins for t in range(longest)))


@lru_cache(maxsize=256)
def _means(size, output):
    return table(size, ([(i, 1 / len(b)) for i in b] for b in _bins(size, output)))
