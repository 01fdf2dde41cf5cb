"""Pooling over windows, for one to three spatial axes, channels last.

A window is reached through its taps: tap u of k along one axis is the array of every window's u-th
element. Pooling is then arithmetic on k arrays of the output's size, which differentiates into the
same. XLA's own `reduce_window` does the same forward, but its gradient of a maximum
(`select_and_scatter`) is ten to thirty times slower on CPU; `benchmarks/` can measure it again.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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
    axes = _axes("max_pool", x, window, stride, padding)
    return _max_pool(jnp.asarray(x), axes)


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
    axes = _axes("avg_pool", x, window, stride, padding)
    return _avg_pool(jnp.asarray(x), axes, count_include_pad)


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
    axes = _pool_axes("pool_output_shape", input_shape, window, stride, padding)
    return (input_shape[0], *(axis.output for axis in axes), input_shape[-1])


class _Axis(NamedTuple):
    """How the windows lie along one axis of the array."""

    index: int
    size: int
    window: int
    stride: int
    padding: tuple[int, int]
    output: int

    @property
    def tiles(self) -> bool:
        return self.window <= self.stride and self.padding[0] == 0


@partial(jax.jit, static_argnums=1)
def _max_pool(x, axes):
    if all(axis.tiles for axis in axes):
        return _max_along(x, axes)
    # Windows that overlap are cheaper one axis at a time. The last axis first keeps ties in
    # row-major order: the first row that has the maximum wins, and in it the first column.
    for axis in reversed(axes):
        x = _max_along(x, (axis,))
    return x


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_along(x, axes):
    return reduce(jnp.maximum, _taps(x, axes, -jnp.inf))


@_max_along.defjvp
def _max_along_jvp(axes, primals, tangents):
    """The tangent of a maximum is the tangent of its winner, which is linear in the tangent."""
    (x,), (dx,) = primals, tangents
    # Without the barrier XLA recomputes the winner wherever it is used, that is in each tap.
    y, winner = lax.optimization_barrier(_first_max(x, axes))
    zero = jnp.zeros((), dx.dtype)
    return y, sum(jnp.where(winner == n, tap, zero) for n, tap in enumerate(_taps(dx, axes, 0)))


def _first_max(x, axes):
    """Maximum and number of the tap that holds it: the first, or the last NaN if there is one."""
    taps = _taps(x, axes, -jnp.inf)
    dtype = jnp.uint8 if len(taps) <= 256 else jnp.int32
    best, winner = taps[0], jnp.broadcast_to(_first_inside(x.ndim, axes, dtype), taps[0].shape)
    for n, tap in enumerate(taps[1:], start=1):
        wins = (tap > best) | jnp.isnan(tap)
        best = jnp.where(wins, tap, best)
        winner = jnp.where(wins, jnp.array(n, dtype), winner)
    return best, winner


def _first_inside(rank, axes, dtype):
    """Each window's first tap that is not padding: it wins where every element is -inf."""
    first = np.zeros((1,) * rank, int)
    for axis in axes:
        inside = np.maximum(axis.padding[0] - axis.stride * np.arange(axis.output), 0)
        shape = [1] * rank
        shape[axis.index] = axis.output
        first = first * axis.window + inside.reshape(shape)
    return jnp.asarray(first.astype(dtype))


@partial(jax.jit, static_argnums=(1, 2))
def _avg_pool(x, axes, count_include_pad):
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis in reversed(axes):
        total = sum(_taps(y, (axis,), 0))
        if count_include_pad:
            y = total / axis.window
        else:
            y = total / _counts(y.ndim, axis)
    return y.astype(x.dtype)


def _taps(x, axes, fill):
    """Every tap of the windows along `axes`, in row-major order, each of the output's size.

    Along an axis, x[s i + u - p] for all i is a contiguous slice of every s-th element: x is cut
    into s phases once, and its gradient is put together from them once, which is far cheaper
    than k strided slices, whose transposes are k scatters.
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
    along = (lax.slice_in_dim(phases[u % s], u // s, u // s + o, axis=i) for u in range(k))
    return [tap for a in along for tap in _taps(a, rest, fill)]


def _counts(rank, axis):
    """How many taps of each window along `axis` lie inside the input."""
    start = axis.stride * np.arange(axis.output) - axis.padding[0]
    inside = np.minimum(start + axis.window, axis.size) - np.maximum(start, 0)
    shape = [1] * rank
    shape[axis.index] = axis.output
    return jnp.asarray(inside.reshape(shape).astype(np.float32))


def _axes(name, x, window, stride, padding):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}: x is not floating point: got {x.dtype}, need a float dtype; write "
            f"x.astype(jnp.float32)"
        )
    return _pool_axes(name, x.shape, window, stride, padding)


def _pool_axes(name, shape, window, stride, padding) -> tuple[_Axis, ...]:
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
