"""Windows of pools: where they lie, and the ways to reach their elements.

`window_slices`     few elements: the arrays of every window's first, second ... element
`extract_windows`   any number: one array with each window's elements along an axis of their own
`reduce_window`     XLA's own reduction, for windows that are large and overlap, and off the CPU
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..common.checks import check_image_rank
from ..common.dtypes import check_floating
from ..common.implementation import uses_jaxpr
from ..common.padding import Padding, per_axis, resolve_windows
from ..common.sparse_linear import linear_map, table, transpose


class Axis(NamedTuple):
    """How the windows lie along one axis of the array."""

    at: int
    size: int
    window: int
    stride: int
    padding: tuple[int, int]
    output: int
    dilation: int = 1
    beyond: int = 0  # of the padding behind the input, what only ceil mode adds

    @property
    def tiles(self) -> bool:
        """Return whether the windows lie side by side, starting with the first element."""
        return self.window == self.stride and self.padding == (0, 0) and self.dilation == 1

    @property
    def positions(self) -> np.ndarray:
        """Return where the elements of each window are, ``(output, window)``; some are padding."""
        first = self.stride * np.arange(self.output) - self.padding[0]
        return first[:, None] + self.dilation * np.arange(self.window)

    @property
    def inside(self) -> np.ndarray:
        """Return which of `positions` are no padding."""
        return (self.positions >= 0) & (self.positions < self.size)


def tile_axis(at: int, size: int, tiles: int) -> Axis:
    """Cut an axis into equal tiles."""
    window = size // tiles
    return Axis(at, size, window, window, (0, 0), tiles)


def is_whole(axes: Sequence[Axis]) -> bool:
    """Return whether one window is the whole input."""
    return all(axis.tiles and axis.output == 1 and axis.window == axis.size for axis in axes)


# ------------------------------------------------------------------------------------- checks


def resolve_pool(
    name, x, window, stride, padding, dilation: int | Sequence[int] = 1, ceil_mode: bool = False
) -> tuple[jax.Array, tuple[Axis, ...]]:
    """Return the input of function `name` as an array, and its windows; raise unless they fit."""
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    return x, resolve_axes(name, x.shape, window, stride, padding, dilation, ceil_mode)


def resolve_axes(
    name: str,
    shape: Sequence[int],
    window: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Axis, ...]:
    """Check the hyper-parameters of function `name` and write them out per axis."""
    size = spatial_shape(name, shape)
    axes = window_axes(name, size, window, stride, padding, dilation, ceil_mode)
    if any(map(_is_lost, axes)):
        padding = tuple((low, high - axis.beyond) for axis in axes for low, high in [axis.padding])
        dilation = tuple(axis.dilation for axis in axes)
        dilated = f" and dilation {dilation}" if max(dilation) > 1 else ""
        raise ValueError(
            f"{name}: a window can lie wholly in the padding: got padding {padding} with window "
            f"{tuple(axis.window for axis in axes)}{dilated}, need every side smaller than the "
            f"window; write padding='SAME'"
        )
    return axes


def window_axes(
    name: str,
    size: Sequence[int],
    window: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Axis, ...]:
    """Write the windows of function `name` out per axis; they may lie wholly in the padding."""
    window = per_axis(name, "window", window, len(size))
    stride = window if stride is None else stride
    windows = resolve_windows(
        name,
        size,
        window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    parts = enumerate(zip(size, window, *windows, strict=True), start=1)
    return tuple(_axis(at, *part) for at, part in parts)


def _axis(at, size, window, stride, padding, dilation, output):
    """Return an axis whose padding reaches to the end of its last window at least."""
    low, high = padding
    end = stride * (output - 1) + dilation * (window - 1) + 1
    beyond = max(end - low - size - high, 0)
    return Axis(at, size, window, stride, (low, high + beyond), output, dilation, beyond)


def _is_lost(axis):
    """Return whether a window may have no element of the input."""
    if axis.dilation == 1:
        return max(axis.padding[0], axis.padding[1] - axis.beyond) >= axis.window
    return not np.all(np.any(axis.inside, axis=1))  # those of a dilated one may lie around it


def as_images(name, x) -> jax.Array:
    """Return the input of function `name` as an array; raise unless it is (N, *spatial, C)."""
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    spatial_shape(name, x.shape)
    return x


def spatial_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of the spatial axes, none of which is zero."""
    shape = tuple(shape)
    check_image_rank(name, shape)
    if 0 in shape[1:-1]:
        raise ValueError(
            f"{name}: no elements: got x {shape}, need at least one element along each spatial "
            f"axis; feed larger inputs, or pool less before"
        )
    return shape[1:-1]


# ----------------------------------------------------------------------------------- elements


def window_slices(x: jax.Array, axes: Sequence[Axis], fill: float) -> list[jax.Array]:
    """Return every tap of the windows along `axes`, in row-major order, each of the output's size.

    For all windows i at once, x[s i + d u - low] is every s-th element of a slice. So x is cut into
    s phases, in which the taps are plain slices; their transposes are then joined once, where
    k strided slices would be k scatters.
    """
    if not axes:
        return [x]
    axis, *rest = axes
    i, size, k, s, (low, _), o, d, _ = axis
    blocks = o - 1 + -(-(d * (k - 1) + 1) // s)
    x = _padded(x, i, low, blocks * s - size - low, fill)
    x = x.reshape(*x.shape[:i], blocks, s, *x.shape[i + 1 :])
    phases = [phase.squeeze(i + 1) for phase in jnp.split(x, s, i + 1)]
    taps = [divmod(d * u, s) for u in range(k)]
    along = [lax.slice_in_dim(phases[r], m, m + o, axis=i) for m, r in taps]
    return [tap for a in along for tap in window_slices(a, rest, fill)]


def _padded(x: jax.Array, axis: int, low: int, high: int, fill: float) -> jax.Array:
    """Pad x by `low` and `high` elements along an axis; a negative number crops."""
    if not uses_jaxpr():
        pads = [(0, 0, 0)] * x.ndim
        pads[axis] = (low, high, 0)
        return lax.pad(x, jnp.array(fill, x.dtype), pads)
    # Converters know of no padding where the size of the batch is not known.
    x = lax.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)
    one = jnp.full_like(lax.slice_in_dim(x, 0, 1, axis=axis), fill)
    return jnp.concatenate([*[one] * max(low, 0), x, *[one] * max(high, 0)], axis)


def extract_windows(x: jax.Array, axis: Axis) -> jax.Array:
    """Return the elements of each window along `axis` on a new axis behind it; padding is zeros."""
    i, k, o = axis.at, axis.window, axis.output
    if axis.tiles:  # only to leave a rest out
        side_by_side = lax.slice_in_dim(x, 0, o * k, axis=i)
    else:
        side_by_side = linear_map(x, _positions(axis), i)
    return side_by_side.reshape(*x.shape[:i], o, k, *x.shape[i + 1 :])


def add_windows(x: jax.Array, axis: Axis) -> jax.Array:
    """Add the elements of windows up to the axis they are of: `extract_windows`, transposed."""
    i = axis.at
    x = x.reshape(*x.shape[:i], axis.output * axis.window, *x.shape[i + 2 :])
    return linear_map(x, transpose(_positions(axis)), i)


@lru_cache(maxsize=256)
def _positions(axis):
    positions = axis.positions.ravel()
    return table(axis.size, ([(i, 1)] if 0 <= i < axis.size else [] for i in positions))


def windowed_sum(x: jax.Array, axis: Axis) -> jax.Array:
    """Sum over the windows along one axis, none dilated, quick on CPU in both directions."""
    if axis.tiles:
        return jnp.sum(extract_windows(x, axis), axis=axis.at + 1)
    if axis.window <= 8:
        return linear_map(x, _sums(axis), axis.at)
    return reduce_window(x, (axis,), 0, lax.add)


@lru_cache(maxsize=256)
def _sums(axis):
    starts = axis.stride * np.arange(axis.output) - axis.padding[0]
    rows = ([(i, 1) for i in range(a, a + axis.window) if 0 <= i < axis.size] for a in starts)
    return table(axis.size, rows)


def reduce_window(x, axes: Sequence[Axis], initial, function):
    """Apply `lax.reduce_window` along the axes to an array, or to several at once."""
    arrays = jax.tree.leaves(x)
    ones = [1] * arrays[0].ndim
    window, stride, dilation, padding = ones, list(ones), list(ones), [(0, 0) for _ in ones]
    for axis in axes:
        window[axis.at], stride[axis.at] = axis.window, axis.stride
        dilation[axis.at], padding[axis.at] = axis.dilation, axis.padding
    start = jax.tree.map(lambda first, a: np.array(first, a.dtype), initial, x)
    return lax.reduce_window(x, start, function, window, stride, padding, window_dilation=dilation)


def along(axis: Axis, rank: int, values: np.ndarray) -> jax.Array:
    """Reshape a vector so that it broadcasts along `axis`."""
    shape = [1] * rank
    shape[axis.at] = -1
    return jnp.asarray(values.reshape(shape))
