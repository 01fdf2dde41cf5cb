"""Maximum and mean over windows, for one to three spatial axes, channels last.

On CPU a small window is read by slices: slice u of k along an axis is the array of every window's
u-th element, so that pooling is arithmetic on k arrays of the output's size, and so is its
derivative. XLA's own gradient of a maximum over windows (`select_and_scatter`) is ten to thirty
times slower there, that of a sum over windows that overlap (`reduce_window`, dilated) four times.

GPU and TPU, whose own implementations are fast, keep those: `lax.reduce_window` with JAX's
derivative. Only where one window is the whole input is it the same for all.
"""

from collections.abc import Sequence
from functools import partial, reduce
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..common.dtypes import accum_dtype
from ..common.implementation import uses_xla
from ..common.mesh import rows_are_sharded
from ..common.padding import Padding
from .windows import (
    Axis,
    along,
    extract_windows,
    is_whole,
    reduce_window,
    resolve_axes,
    resolve_pool,
    window_slices,
    windowed_sum,
)


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> jax.Array:
    r"""Take the maximum over each window, channels last.

    .. math:: y_{n,i,j,c} = \max_{u,v} x_{n,\,si+du-p,\,sj+dv-p,\,c}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window. Padding never wins.
        dilation: distance of the taps, per spatial axis or one int for all.
        ceil_mode: whether a last window that reaches beyond the padded input counts, if it begins
            inside the input or the padding before it.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`.

    Raises:
        ValueError: wrong rank, window, stride or padding, or no whole window fits.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> max_pool(x, 2)[0, :, :, 0]
        Array([[ 5.,  7.],
               [13., 15.]], dtype=float32)

    Note:
        The gradient goes to the first maximum of a window in row-major order, as in PyTorch. A
        window with a NaN gives NaN, and its gradient goes to the last NaN, also as in PyTorch; on
        GPU and TPU it goes where XLA's `select_and_scatter` puts it, which of a window of -inf may
        be the padding. XLA has no gradient of dilated windows: those are read by slices everywhere.

    References:
        `ceil_mode` is PyTorch's: https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
    """
    x, axes = resolve_pool("max_pool", x, window, stride, padding, dilation, ceil_mode)
    return windowed_max(x, axes)


def avg_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> jax.Array:
    r"""Take the mean over each window, channels last.

    .. math:: y_{n,i,j,c} = \frac{1}{K_{ij}} \sum_{u,v} x_{n,\,si+u-p,\,sj+v-p,\,c}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window.
        count_include_pad: whether K counts the zeros of the padding, so that it is the window's
            size everywhere; else K counts the window's elements inside `x`.
        ceil_mode: as for `max_pool`; K counts nothing beyond the padding, so that it is smaller
            there, as in PyTorch.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, window, stride or padding, or no whole window fits.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> avg_pool(x, 2)[0, :, :, 0]
        Array([[ 2.5,  4.5],
               [10.5, 12.5]], dtype=float32)
    """
    x, axes = resolve_pool("avg_pool", x, window, stride, padding, ceil_mode=ceil_mode)
    return windowed_mean(x, axes, count_include_pad)


def pool_output_shape(
    input_shape: Sequence[int],
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Return the shape of a pooled array, from the shape of its input.

    Example:
        >>> pool_output_shape((8, 28, 28, 6), 3, stride=2, padding=1)
        (8, 14, 14, 6)
    """
    axes = resolve_axes(
        "pool_output_shape", input_shape, window, stride, padding, dilation, ceil_mode
    )
    return (input_shape[0], *(axis.output for axis in axes), input_shape[-1])


# ------------------------------------------------------------------------------------ maximum


@partial(jax.jit, static_argnums=1)
def windowed_max(x: jax.Array, axes: tuple[Axis, ...]) -> jax.Array:
    """Take the maximum over resolved windows; see `max_pool` for where its gradient goes."""
    if rows_are_sharded(x) or any(axis.dilation > 1 for axis in axes):
        return _max_by_slices(x, axes)
    if uses_xla():
        return _reduce_window_max(x, axes)
    if is_whole(axes):
        return _max_by_slices(x, axes)
    on_cpu, native = (partial(f, axes=axes) for f in (_max_by_slices, _reduce_window_max))
    return lax.platform_dependent(x, cpu=on_cpu, default=native)


def _reduce_window_max(x, axes):
    return reduce_window(x, axes, -np.inf, lax.max)


def _max_by_slices(x, axes):
    dtype, tile = x.dtype, all(axis.tiles for axis in axes)
    if tile and prod(axis.window for axis in axes) <= 16:
        return _max_of_slices(x, axes)
    if not tile:  # where windows overlap the gradient is a sum
        x = x.astype(accum_dtype(dtype))
    # Windows that overlap are cheaper one axis at a time. The last axis first keeps ties in
    # row-major order: the first row that has the maximum wins, and in it the first column.
    for axis in reversed(axes):
        x = _max_of_slices(x, (axis,)) if axis.window <= 8 else _max_of_windows(x, axis)
    return x.astype(dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_slices(x, axes):
    if x.dtype != accum_dtype(x.dtype):
        return reduce_window(x, axes, -np.inf, lax.max)
    return reduce(jnp.maximum, window_slices(x, axes, -jnp.inf))


@_max_of_slices.defjvp
def _max_of_slices_jvp(axes, primals, tangents):
    """Return the tangent of the argmax, which is linear in the tangents."""
    (x,), (dx,) = primals, tangents
    # XLA on CPU is slow at comparing and selecting types below float32.
    dtype, x, dx = x.dtype, *(a.astype(accum_dtype(a.dtype)) for a in (x, dx))
    # Without the barrier XLA computes the argmax anew wherever it is used, that is in each slice.
    y, argmax = lax.optimization_barrier(_first_max(x, axes))
    zero = jnp.zeros((), dx.dtype)
    selected = (
        jnp.where(argmax == n, tap, zero) for n, tap in enumerate(window_slices(dx, axes, 0))
    )
    dy = reduce(jnp.add, selected)
    return y.astype(dtype), dy.astype(dtype)


def _first_max(x, axes):
    """Return the maximum, and the slice that has it: the first, or the last that is NaN."""
    best, *others = window_slices(x, axes, -jnp.inf)
    argmax = jnp.broadcast_to(_first_inside(x.ndim, axes), best.shape)
    for n, tap in enumerate(others, start=1):
        wins = (tap > best) | jnp.isnan(tap)
        best = jnp.where(wins, tap, best)
        argmax = jnp.where(wins, jnp.uint8(n), argmax)
    return best, argmax


def _first_inside(rank, axes):
    """Return the first slice that is not padding: it wins a window whose every element is -inf."""
    if len(axes) > 1:  # windows that tile, which have no padding
        return jnp.uint8(0)
    (axis,) = axes
    return along(axis, rank, np.argmax(axis.inside, axis=1).astype(np.uint8))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_windows(x, axis):
    """Take the maximum along one axis, in a program that does not grow with the window."""
    if axis.tiles:
        return jnp.max(extract_windows(x, axis), axis=axis.at + 1)
    return reduce_window(x, (axis,), -np.inf, lax.max)


@_max_of_windows.defjvp
def _max_of_windows_jvp(axis, primals, tangents):
    (x,), (dx,) = primals, tangents
    dtype, x, dx = x.dtype, *(a.astype(accum_dtype(a.dtype)) for a in (x, dx))  # as above
    y, elements, at = _max_of_windows(x, axis), extract_windows(x, axis), axis.at + 1
    tap = np.arange(axis.window, dtype=np.int32)
    tap = tap.reshape([-1 if i == at else 1 for i in range(elements.ndim)])
    # The least of these is the number of the first maximum, or that of the last NaN as -1 - number.
    order = jnp.where(elements == jnp.expand_dims(y, at), tap, axis.window)
    order = jnp.where(jnp.isnan(elements), ~tap, order)
    if any(axis.padding):  # the zeros around x are no candidates
        order = jnp.where(_inside(axis, elements.ndim), order, axis.window)
    least = jnp.min(order, axis=at, keepdims=True)
    argmax = lax.optimization_barrier(jnp.where(least < 0, ~least, least))
    directions = extract_windows(dx, axis)  # whose transpose adds up
    dy = jnp.sum(jnp.where(tap == argmax, directions, 0), axis=at)
    return y.astype(dtype), dy.astype(dtype)


def _inside(axis, rank):
    """Return which elements of `extract_windows` are not padding."""
    inside = axis.inside
    return inside.reshape((1,) * axis.at + inside.shape + (1,) * (rank - axis.at - 2))


# --------------------------------------------------------------------------------------- mean


@partial(jax.jit, static_argnums=(1, 2))
def windowed_mean(x: jax.Array, axes: tuple[Axis, ...], count_include_pad: bool) -> jax.Array:
    """Take the mean over resolved windows."""
    y = x.astype(accum_dtype(x.dtype))
    if uses_xla():
        y = _reduce_window_sum(y, axes)
    elif all(axis.tiles for axis in axes):
        return mean_of_tiles(y, axes).astype(x.dtype)
    else:
        on_cpu, native = (partial(f, axes=axes) for f in (_sum_by_axis, _reduce_window_sum))
        y = lax.platform_dependent(y, cpu=on_cpu, default=native)
    for axis in axes:
        whole = count_include_pad and not axis.beyond
        y = y / (axis.window if whole else _count(axis, y.ndim, y.dtype, count_include_pad))
    return y.astype(x.dtype)


def _reduce_window_sum(x, axes):
    return reduce_window(x, axes, 0, lax.add)


def _sum_by_axis(x, axes):
    """Sum one axis after the other; the last axis first, as its sums are the dearest to spread."""
    for axis in reversed(axes):
        x = windowed_sum(x, axis)
    return x


def mean_of_tiles(x: jax.Array, axes: tuple[Axis, ...]) -> jax.Array:
    """Take the mean over windows side by side."""
    for axis in reversed(axes):
        x = extract_windows(x, axis)
    # Splitting an axis moves those behind it by one.
    return jnp.mean(x, axis=tuple(axis.at + n for n, axis in enumerate(axes, start=1)))


def _count(axis, rank, dtype, count_include_pad):
    """Count the elements of each window inside the input, or inside the padded one."""
    low, high = (axis.padding[0], axis.padding[1] - axis.beyond) if count_include_pad else (0, 0)
    start = axis.stride * np.arange(axis.output) - axis.padding[0]
    count = np.minimum(start + axis.window, axis.size + high) - np.maximum(start, -low)
    return along(axis, rank, count.astype(dtype))
