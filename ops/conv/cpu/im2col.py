"""Convolutions on CPU that are matrix products: windows side by side, and the kernel gradient.

Where windows do not overlap, as of 1x1 or where an image is cut into patches, x is a matrix of one
row for each place m = (n, i) and one column for each element e = (u, c) of its window, and

    y[m, o] = sum_e x[m, e] k[e, o],    gx[m, e] = sum_o g[m, o] k[e, o],
    gk[e, o] = sum_m x[m, e] g[m, o]

Where they overlap the elements of all windows, the patches, have to be written down. For the whole
batch they would fill many times the memory of x, so it is a few examples, or in the kernel gradient
a few rows of one, at a time. It pays in the kernel gradient, tap by tap, and forward where there
are few places and many channels, or a window larger than the image.

The sum over m runs down the columns of both matrices; of a single tap it is faster if the matrix
with more columns comes second.
"""

from functools import partial
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from ...common.dtypes import wide
from ...common.jax_compat import match_varying_axes
from ..geometry import Geometry, Parts, equal_parts, tap_slices
from .microbatch import in_lots

_PLACES = 512  # whose patches are written down at once; four times as many forward


def tiles_fit(geometry: Geometry) -> bool:
    """Whether no element of x lies in two windows, and no window in the padding."""
    apart = all(w == 1 or d == 1 for w, d in zip(geometry.window, geometry.dilation, strict=True))
    no_overlap = all(w <= s for w, s in zip(geometry.window, geometry.stride, strict=True))
    unpadded = all(low <= 0 and high <= 0 for low, high in geometry.padding)
    return geometry.groups == 1 and apart and no_overlap and unpadded


def tiles_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg."""
    return times(_tiles(x, geometry), k.reshape(-1, k.shape[-1]))


def tiles_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx: zeros wherever the stride passed over x."""
    N, Ci = g.shape[0], k.shape[-2]
    rank = len(geometry.window)
    gx = times(g, k.reshape(-1, k.shape[-1]), 1).reshape(*g.shape[:-1], *geometry.window, Ci)
    order = [axis for n in range(1, rank + 1) for axis in (n, rank + n)]
    gx = gx.transpose(0, *order, 2 * rank + 1)
    zero, pads, shape, place = jnp.zeros((), gx.dtype), [], [N], []
    for i, w, o, s, _, (low, _) in geometry.axes:
        pads += [(0, 0, 0), (0, s - w, 0)]
        shape.append(o * s)
        place.append((-low, i + low - o * s, 0))
    gx = lax.pad(gx, zero, ((0, 0, 0), *pads, (0, 0, 0))).reshape(*shape, Ci)
    return lax.pad(gx, zero, ((0, 0, 0), *place, (0, 0, 0)))


def _tiles(x, geometry: Geometry) -> jax.Array:
    """The windows, ``(N, *output, elements of the window)``."""
    rank, (N, *_, C) = len(geometry.window), x.shape
    pads, shape, inside = [], [N], [slice(None)]
    for i, w, o, s, _, (low, _) in geometry.axes:
        pads.append((low, o * s - i - low, 0))  # a negative number crops
        shape += [o, s]
        inside += [slice(None), slice(w)]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    x = x.reshape(*shape, C)[tuple(inside)]
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return x.transpose(order).reshape(N, *geometry.output, prod(geometry.window) * C)


def patches_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg."""
    x = _padded(x, geometry)

    def some(x):
        patches = lax.optimization_barrier(jnp.concatenate(_slices(x, geometry), axis=-1))
        return times(patches, k.reshape(-1, k.shape[-1]))

    return in_lots(some, x, 4 * _PLACES // prod(geometry.output))


def patches_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk."""
    Ci, Co, taps = x.shape[-1], g.shape[-1], prod(geometry.window)
    examples, rows = _blocks(x.shape[0], geometry)
    s, d, w = geometry.stride[0], geometry.dilation[0], geometry.window[0]
    # What fills up the last block is zeros, and adds nothing.
    more_rows = rows.number * rows.size - geometry.output[0]
    more = examples.number * examples.size - x.shape[0]
    x = _padded(x, geometry, more, s * more_rows)
    g = jnp.pad(g, ((0, more), (0, more_rows), *((0, 0),) * (g.ndim - 2)))
    of_x = (examples.size, s * (rows.size - 1) + d * (w - 1) + 1, *x.shape[2:])
    of_g = (examples.size, rows.size, *g.shape[2:])
    within = geometry._replace(output=(rows.size, *geometry.output[1:]))

    def add_block(n, gk):
        example, row = examples.size * (n // rows.number), rows.size * (n % rows.number)
        inner = (0,) * (g.ndim - 2)
        part_of_x = lax.dynamic_slice(x, (example, s * row, *inner), of_x)
        part_of_g = lax.dynamic_slice(g, (example, row, *inner), of_g)
        patches = lax.optimization_barrier(jnp.stack(_slices(part_of_x, within)))
        return gk + _summed(patches, part_of_g, gk.dtype)

    zeros = match_varying_axes(jnp.zeros((taps, Ci, Co), wide(x.dtype)), x)
    gk = lax.fori_loop(0, examples.number * rows.number, add_block, zeros)
    return gk.reshape(*geometry.window, Ci, Co).astype(x.dtype)


def _blocks(N: int, geometry: Geometry) -> tuple[Parts, Parts]:
    """How to cut the examples, or the rows of each, into blocks of about `_PLACES`."""
    rows, *others = geometry.output
    if rows * prod(others) <= _PLACES:
        return equal_parts(N, _PLACES // (rows * prod(others))), Parts(1, rows)
    return Parts(N, 1), equal_parts(rows, _PLACES // prod(others))


def _padded(x, geometry: Geometry, examples: int = 0, rows: int = 0) -> jax.Array:
    """x with its padding, and so many examples and rows of zeros behind it."""
    pads = [(0, examples, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0)]
    pads[1] = (pads[1][0], pads[1][1] + rows, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _slices(x, geometry: Geometry) -> list[jax.Array]:
    """The element of every window at each tap in row-major order, ``(N, *output, Ci)``."""
    return [x[:, *tap] for tap in product(*tap_slices(geometry))]


def times(a: jax.Array, k: jax.Array, contract: int = 0) -> jax.Array:
    """a times the matrix k, or k.T; types below float32 are added up in float32."""
    dimensions = (((a.ndim - 1,), (contract,)), ((), ()))
    return lax.dot_general(a, k, dimensions, preferred_element_type=wide(a.dtype)).astype(a.dtype)


def _summed(patches, g, dtype):
    """sum over places m of patches[u, m, c] g[m, o], ``(taps, Ci, Co)``."""
    places = tuple(range(g.ndim - 1))
    of_patches = tuple(1 + axis for axis in places)
    dot = partial(lax.dot_general, preferred_element_type=dtype)
    if len(patches) == 1 and g.shape[-1] < patches.shape[-1]:
        return jnp.moveaxis(dot(g, patches, ((places, of_patches), ((), ()))), 0, -1)
    return dot(patches, g, ((of_patches, places), ((), ())))
