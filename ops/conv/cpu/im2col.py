"""Convolution on CPU as a matrix product: space-to-depth, and im2col a few examples at a time.

Where windows do not overlap, as of 1x1 or where an image is cut into tiles, space-to-depth makes x
a matrix of one row for each position m = (n, i) and one column for each element e = (u, c) of its
window, and

    y[m, o] = sum_e x[m, e] k[e, o],    gx[m, e] = sum_o g[m, o] k[e, o],
    gk[e, o] = sum_m x[m, e] g[m, o]

Where windows overlap, im2col writes the elements of all of them down, the patches. For the whole
batch they would fill many times the memory of x, so it is a few examples, or in the kernel gradient
a few rows of one, at a time. It pays in the kernel gradient, tap by tap, and forward where there
are few positions and many channels, or a window larger than the image.

The sum over m runs down the columns of both matrices; of a single tap it is faster if the matrix
with more columns comes second.
"""

from functools import partial
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from ...common.dtypes import accum_dtype
from ...common.jax_compat import match_varying_axes
from ..geometry import Geometry, Parts, split_evenly, window_slices
from .microbatch import map_microbatches

_POSITIONS = 512  # whose patches are written down at once; four times as many forward


def space_to_depth_fits(geometry: Geometry) -> bool:
    """Return whether no element of x lies in two windows, and no window in the padding."""
    apart = all(w == 1 or d == 1 for w, d in zip(geometry.window, geometry.dilation, strict=True))
    no_overlap = all(w <= s for w, s in zip(geometry.window, geometry.stride, strict=True))
    unpadded = all(low <= 0 and high <= 0 for low, high in geometry.padding)
    return geometry.groups == 1 and apart and no_overlap and unpadded


def space_to_depth_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute y = dT/dg as a matrix product of the tiles with k.

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    return matmul(_space_to_depth(x, geometry), k.reshape(-1, k.shape[-1]))


def space_to_depth_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gx = dT/dx: zero wherever the stride passed over x.

    Args:
        g: gradient of the output, ``(N, *output, Co)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `g`.
        geometry: of the convolution.

    Returns:
        ``(N, *size, Ci)``, dtype of `g`; added up in float32 at least.
    """
    N, Ci = g.shape[0], k.shape[-2]
    rank = len(geometry.window)
    gx = matmul(g, k.reshape(-1, k.shape[-1]), 1).reshape(*g.shape[:-1], *geometry.window, Ci)
    order = [axis for n in range(1, rank + 1) for axis in (n, rank + n)]
    gx = gx.transpose(0, *order, 2 * rank + 1)
    zero, pads, shape, crop = jnp.zeros((), gx.dtype), [], [N], []
    for i, w, o, s, _, (low, _) in geometry.axes:
        pads += [(0, 0, 0), (0, s - w, 0)]
        shape.append(o * s)
        crop.append((-low, i + low - o * s, 0))
    gx = lax.pad(gx, zero, ((0, 0, 0), *pads, (0, 0, 0))).reshape(*shape, Ci)
    return lax.pad(gx, zero, ((0, 0, 0), *crop, (0, 0, 0)))


def _space_to_depth(x, geometry: Geometry) -> jax.Array:
    """Return the windows, ``(N, *output, elements of the window)``."""
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


def im2col_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute y = dT/dg as a matrix product of the patches with k.

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    x = _padded(x, geometry)

    def convolve(x):
        patches = lax.optimization_barrier(jnp.concatenate(_patch_slices(x, geometry), axis=-1))
        return matmul(patches, k.reshape(-1, k.shape[-1]))

    return map_microbatches(convolve, x, 4 * _POSITIONS // prod(geometry.output))


def im2col_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gk = dT/dk as a sum over blocks of patches, times g.

    Args:
        x: input, ``(N, *size, Ci)``.
        g: gradient of the output, ``(N, *output, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(*window, Ci // groups, Co)``, dtype of `x`; added up in float32 at least.
    """
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
        patches = lax.optimization_barrier(jnp.stack(_patch_slices(part_of_x, within)))
        return gk + _sum_over_positions(patches, part_of_g, gk.dtype)

    zeros = match_varying_axes(jnp.zeros((taps, Ci, Co), accum_dtype(x.dtype)), x)
    gk = lax.fori_loop(0, examples.number * rows.number, add_block, zeros)
    return gk.reshape(*geometry.window, Ci, Co).astype(x.dtype)


def _blocks(N: int, geometry: Geometry) -> tuple[Parts, Parts]:
    """Return how to cut the examples, or the rows of each, into blocks of about `_POSITIONS`."""
    rows, *others = geometry.output
    if rows * prod(others) <= _POSITIONS:
        return split_evenly(N, _POSITIONS // (rows * prod(others))), Parts(1, rows)
    return Parts(N, 1), split_evenly(rows, _POSITIONS // prod(others))


def _padded(x, geometry: Geometry, examples: int = 0, rows: int = 0) -> jax.Array:
    """Return x with its padding, and so many more examples and rows of zeros."""
    pads = [(0, examples, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0)]
    pads[1] = (pads[1][0], pads[1][1] + rows, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _patch_slices(x, geometry: Geometry) -> list[jax.Array]:
    """Return each tap of all windows in row-major order, ``(N, *output, Ci)``."""
    return [x[:, *tap] for tap in product(*window_slices(geometry))]


def matmul(a: jax.Array, k: jax.Array, contract: int = 0) -> jax.Array:
    """Multiply `a` by the matrix `k`, or by its transpose.

    Args:
        a: ``(..., E)``.
        k: ``(E, O)``, or ``(O, E)`` for ``contract=1``.
        contract: the axis of `k` that is summed over.

    Returns:
        ``(..., O)``, dtype of `a`; types below float32 are added up in float32.
    """
    dimensions = (((a.ndim - 1,), (contract,)), ((), ()))
    return lax.dot_general(a, k, dimensions, preferred_element_type=accum_dtype(a.dtype)).astype(
        a.dtype
    )


def _sum_over_positions(patches, g, dtype):
    """Sum patches[u, m, c] g[m, o] over the positions m: ``(taps, Ci, Co)``."""
    positions = tuple(range(g.ndim - 1))
    of_patches = tuple(1 + axis for axis in positions)
    dot = partial(lax.dot_general, preferred_element_type=dtype)
    if len(patches) == 1 and g.shape[-1] < patches.shape[-1]:
        return jnp.moveaxis(dot(g, patches, ((positions, of_patches), ((), ()))), 0, -1)
    return dot(patches, g, ((of_patches, positions), ((), ())))
