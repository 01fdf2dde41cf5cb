"""Pooling over windows, for one to three spatial axes, channels last.

A small window is reached through its taps: tap u of k along an axis is the array of every window's
u-th element, so that pooling is arithmetic on k arrays of the output's size, and so is its
derivative. XLA's own gradient of a maximum over windows (`select_and_scatter`) is ten to thirty
times slower on CPU.
"""

from collections.abc import Sequence
from functools import partial, reduce
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .dtype import check_floating, wide
from .window import Padding, per_axis, resolve_windows


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    r"""Maximum over each window, channels last.

    .. math:: y_{n,i,j,c} = \max_{u,v} x_{n,\,si+u-p,\,sj+v-p,\,c}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window. Padding never wins.

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
        window with a NaN gives NaN, and its gradient goes to the last NaN, also as in PyTorch.
    """
    x, axes = _checked("max_pool", x, window, stride, padding)
    return _max_pool(x, axes)


def avg_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    r"""Mean over each window, channels last.

    .. math:: y_{n,i,j,c} = \frac{1}{K_{ij}} \sum_{u,v} x_{n,\,si+u-p,\,sj+v-p,\,c}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window.
        count_include_pad: whether K counts the zeros of the padding, so that it is the window's
            size everywhere; else K counts the window's elements inside `x`.

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
    x, axes = _checked("avg_pool", x, window, stride, padding)
    return _avg_pool(x, axes, count_include_pad)


def pool_output_shape(
    input_shape: Sequence[int],
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> tuple[int, ...]:
    """Shape of a pooled array, from the shape of its input.

    Example:
        >>> pool_output_shape((8, 28, 28, 6), 3, stride=2, padding=1)
        (8, 14, 14, 6)
    """
    axes = _axes("pool_output_shape", input_shape, window, stride, padding)
    return (input_shape[0], *(axis.output for axis in axes), input_shape[-1])


class _Axis(NamedTuple):
    """How the windows lie along one axis of the array."""

    at: int
    size: int
    window: int
    stride: int
    padding: tuple[int, int]
    output: int

    @property
    def tiles(self) -> bool:
        """Whether the windows lie side by side, starting with the first element."""
        return self.window == self.stride and self.padding == (0, 0)


# ------------------------------------------------------------------------------------ maximum


@partial(jax.jit, static_argnums=1)
def _max_pool(x, axes):
    if all(axis.tiles for axis in axes) and prod(axis.window for axis in axes) <= 16:
        return _max_of_taps(x, axes)
    # Windows that overlap are cheaper one axis at a time. The last axis first keeps ties in
    # row-major order: the first row that has the maximum wins, and in it the first column.
    for axis in reversed(axes):
        x = _max_of_taps(x, (axis,)) if axis.window <= 8 else _max_of_window(x, axis)
    return x


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_taps(x, axes):
    return reduce(jnp.maximum, _taps(x, axes, -jnp.inf))


@_max_of_taps.defjvp
def _max_of_taps_jvp(axes, primals, tangents):
    """The tangent of a maximum is the tangent of its winner, and so linear in the tangents."""
    (x,), (dx,) = primals, tangents
    # Without the barrier XLA works the winner out anew wherever it is used, that is in each tap.
    y, winner = lax.optimization_barrier(_first_max(x, axes))
    zero = jnp.zeros((), dx.dtype)
    return y, sum(jnp.where(winner == n, tap, zero) for n, tap in enumerate(_taps(dx, axes, 0)))


def _first_max(x, axes):
    """The maximum, and the number of the tap that has it: the first, or the last that is NaN."""
    best, *taps = _taps(x, axes, -jnp.inf)
    winner = jnp.broadcast_to(_first_inside(x.ndim, axes), best.shape)
    for n, tap in enumerate(taps, start=1):
        wins = (tap > best) | jnp.isnan(tap)
        best = jnp.where(wins, tap, best)
        winner = jnp.where(wins, jnp.uint8(n), winner)
    return best, winner


def _first_inside(rank, axes):
    """The first tap that is not padding: it wins a window whose every element is -inf."""
    if len(axes) > 1:  # windows that tile, which have no padding
        return jnp.uint8(0)
    (axis,) = axes
    first = np.maximum(axis.padding[0] - axis.stride * np.arange(axis.output), 0)
    return _along(axis, rank, first.astype(np.uint8))


def _taps(x, axes, fill):
    """Every tap of the windows along `axes`, in row-major order, each of the output's size.

    For all windows i at once, x[s i + u - low] is every s-th element of a slice. So x is cut into
    s phases, in which the taps are plain slices; their transposes are then joined once, where
    k strided slices would be k scatters.
    """
    if not axes:
        return [x]
    axis, *rest = axes
    i, size, k, s, (low, _), o = axis
    blocks = o - 1 + -(-k // s)
    pads = [(0, 0, 0)] * x.ndim
    pads[i] = (low, blocks * s - size - low, 0)  # a negative number crops
    x = lax.pad(x, jnp.array(fill, x.dtype), pads)
    x = x.reshape(*x.shape[:i], blocks, s, *x.shape[i + 1 :])
    phases = [phase.squeeze(i + 1) for phase in jnp.split(x, s, i + 1)]
    along = [lax.slice_in_dim(phases[u % s], u // s, u // s + o, axis=i) for u in range(k)]
    return [tap for a in along for tap in _taps(a, rest, fill)]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_window(x, axis):
    """Maximum along one axis, in a program that does not grow with the window."""
    return _reduce_windows(x, axis, np.array(-np.inf, x.dtype), lax.max)


@_max_of_window.defjvp
def _max_of_window_jvp(axis, primals, tangents):
    (x,), (dx,) = primals, tangents
    position = lax.broadcasted_iota(np.int32, x.shape, axis.at)
    padding = np.array(-np.inf, x.dtype), np.int32(axis.size)  # so late a position never wins
    _, winner = _reduce_windows((lax.stop_gradient(x), position), axis, padding, _earlier_max)
    return _max_of_window(x, axis), jnp.take_along_axis(dx, winner, axis.at)


def _earlier_max(left, right):
    (a, i), (b, j) = left, right
    first = jnp.isnan(a) | (a > b) | ((a == b) & (i < j))
    first = jnp.where(jnp.isnan(b), jnp.isnan(a) & (i > j), first)  # the last NaN, as _first_max
    return jnp.where(first, a, b), jnp.where(first, i, j)


# --------------------------------------------------------------------------------------- mean


@partial(jax.jit, static_argnums=(1, 2))
def _avg_pool(x, axes, count_include_pad):
    y = x.astype(wide(x.dtype))
    if all(axis.tiles for axis in axes):
        y = _mean_of_tiles(y, axes)
    else:
        for axis in reversed(axes):
            total = _reduce_windows(y, axis, np.zeros((), y.dtype), lax.add)
            count = axis.window if count_include_pad else _count_inside(axis, y.ndim, y.dtype)
            y = total / count
    return y.astype(x.dtype)


def _mean_of_tiles(x, axes):
    for axis in reversed(axes):
        i, k, o = axis.at, axis.window, axis.output
        x = lax.slice_in_dim(x, 0, o * k, axis=i)
        x = x.reshape(*x.shape[:i], o, k, *x.shape[i + 1 :])
    return jnp.mean(x, axis=tuple(2 * axis.at for axis in axes))


def _count_inside(axis, rank, dtype):
    """How many elements of each window lie inside the input."""
    start = axis.stride * np.arange(axis.output) - axis.padding[0]
    count = np.minimum(start + axis.window, axis.size) - np.maximum(start, 0)
    return _along(axis, rank, count.astype(dtype))


# ------------------------------------------------------------------------------------- shared


def _reduce_windows(x, axis, initial, function):
    rank = jax.tree.leaves(x)[0].ndim
    window, stride, padding = [1] * rank, [1] * rank, [(0, 0)] * rank
    window[axis.at], stride[axis.at] = axis.window, axis.stride
    padding[axis.at] = axis.padding
    return lax.reduce_window(x, initial, function, window, stride, padding)


def _along(axis, rank, values):
    """Shape a vector so that it broadcasts along `axis`."""
    shape = [1] * rank
    shape[axis.at] = -1
    return jnp.asarray(values.reshape(shape))


def _checked(name, x, window, stride, padding):
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    return x, _axes(name, x.shape, window, stride, padding)


def _axes(name, shape, window, stride, padding) -> tuple[_Axis, ...]:
    shape = tuple(shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"{name}: wrong rank: got x {shape}, need (N, *spatial, C) with one to three spatial "
            f"axes; write x[None] if the batch axis is missing"
        )
    size = shape[1:-1]
    window = per_axis(name, "window", window, len(size))
    stride = window if stride is None else stride
    windows = resolve_windows(name, size, window, stride=stride, padding=padding, dilation=1)
    if any(max(pads) >= k for pads, k in zip(windows.padding, window, strict=True)):
        raise ValueError(
            f"{name}: a window can lie wholly in the padding: got padding {windows.padding} with "
            f"window {window}, need every side smaller than the window; write padding='SAME'"
        )
    return tuple(
        _Axis(i, *axis)
        for i, axis in enumerate(
            zip(size, window, windows.stride, windows.padding, windows.output, strict=True), start=1
        )
    )
