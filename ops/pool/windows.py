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
from ..common.sparse_linear import linear_map, table


class Axis(NamedTuple):
    """How the windows lie along one axis of the array."""

    at: int
    size: int
    window: int
    stride: int
    padding: tuple[int, int]
    output: int

    @property
    def tiles(self) -> bool:
        """Return whether the windows lie side by side, starting with the first element."""
        return self.window == self.stride and self.padding == (0, 0)


def tile_axis(at: int, size: int, tiles: int) -> Axis:
    """Cut an axis into equal tiles."""
    window = size // tiles
    return Axis(at, size, window, window, (0, 0), tiles)


def is_whole(axes: Sequence[Axis]) -> bool:
    """Return whether one window is the whole input."""
    return all(axis.tiles and axis.output == 1 and axis.window == axis.size for axis in axes)


# ------------------------------------------------------------------------------------- checks


def resolve_pool(name, x, window, stride, padding) -> tuple[jax.Array, tuple[Axis, ...]]:
    """Return the input of function `name` as an array, and its windows; raise unless they fit."""
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    return x, resolve_axes(name, x.shape, window, stride, padding)


def resolve_axes(
    name: str,
    shape: Sequence[int],
    window: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
) -> tuple[Axis, ...]:
    """Check the hyper-parameters of function `name` and write them out per axis."""
    size = spatial_shape(name, shape)
    window = per_axis(name, "window", window, len(size))
    stride = window if stride is None else stride
    windows = resolve_windows(name, size, window, stride=stride, padding=padding, dilation=1)
    if any(max(pads) >= k for pads, k in zip(windows.padding, window, strict=True)):
        raise ValueError(
            f"{name}: a window can lie wholly in the padding: got padding {windows.padding} with "
            f"window {window}, need every side smaller than the window; write padding='SAME'"
        )
    return tuple(
        Axis(i, *axis)
        for i, axis in enumerate(
            zip(size, window, windows.stride, windows.padding, windows.output, strict=True), start=1
        )
    )


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

    For all windows i at once, x[s i + u - low] is every s-th element of a slice. So x is cut into
    s phases, in which the taps are plain slices; their transposes are then joined once, where
    k strided slices would be k scatters.
    """
    if not axes:
        return [x]
    axis, *rest = axes
    i, size, k, s, (low, _), o = axis
    blocks = o - 1 + -(-k // s)
    x = _padded(x, i, low, blocks * s - size - low, fill)
    x = x.reshape(*x.shape[:i], blocks, s, *x.shape[i + 1 :])
    phases = [phase.squeeze(i + 1) for phase in jnp.split(x, s, i + 1)]
    along = [lax.slice_in_dim(phases[u % s], u // s, u // s + o, axis=i) for u in range(k)]
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


@lru_cache(maxsize=256)
def _positions(axis):
    positions = axis.stride * np.arange(axis.output)[:, None] + np.arange(axis.window)
    positions = (positions - axis.padding[0]).ravel()
    return table(axis.size, ([(i, 1)] if 0 <= i < axis.size else [] for i in positions))


def windowed_sum(x: jax.Array, axis: Axis) -> jax.Array:
    """Sum over the windows along one axis, quick on CPU in both directions."""
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


def reduce_window(x, axes: Sequence[Axis], initial: float, function) -> jax.Array:
    """Apply `lax.reduce_window` along the axes."""
    window, stride, padding = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    for axis in axes:
        window[axis.at], stride[axis.at] = axis.window, axis.stride
        padding[axis.at] = axis.padding
    start = np.array(initial, x.dtype)
    return lax.reduce_window(x, start, function, window, stride, padding)


def along(axis: Axis, rank: int, values: np.ndarray) -> jax.Array:
    """Reshape a vector so that it broadcasts along `axis`."""
    shape = [1] * rank
    shape[axis.at] = -1
    return jnp.asarray(values.reshape(shape))
