"""Convolution of few channels on CPU as a product with a blocked Toeplitz matrix.

A matrix product with fewer columns than a processor's vectors have lanes leaves most of them idle.
T neighbors along the last spatial axis, where output t of block b is output T b + t, see one
segment of (T - 1) s + K columns of x. So with the taps u of the other axes, w a column of the
segment and c a channel,

    y[n, i, b, t, o]    = sum_{u,w,c}  x[n, s i + d u - p, s T b + w - p, c]  B[u, w, c, t, o]
    B[u, w, c, t, o]    = k[u, w - s t, c, o]  for 0 <= w - s t < K, else 0

is a product with a matrix of T times as many columns, at the price of multiplying zeros. (T is the
constant `BLOCK`.)

As the zeros of B are multiplied too, an infinity or NaN in x spreads over T outputs.
"""

from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from ..geometry import Geometry, window_slices
from .im2col import matmul
from .microbatch import map_microbatches

BLOCK = 4
_POSITIONS = 4096  # of the output, whose segments are written down at once


def block_toeplitz_fits(geometry: Geometry) -> bool:
    """Return whether `block_toeplitz_conv` can compute the convolution."""
    return geometry.groups == 1 and geometry.dilation[-1] == 1


def block_toeplitz_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute y = dT/dg as a matrix product of segments of rows with B.

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    matrix, Co = _block_toeplitz_matrix(k, geometry), k.shape[-1]

    def convolve(x):
        segments = lax.optimization_barrier(_segments(x, geometry))
        y = matmul(segments, matrix)
        return y.reshape(*y.shape[:-2], y.shape[-2] * BLOCK, Co)[..., : geometry.output[-1], :]

    return map_microbatches(convolve, x, _POSITIONS // prod(geometry.output))


def _width(geometry: Geometry) -> int:
    """Return the columns of a segment, with those that a stride larger than K passes over."""
    s = geometry.stride[-1]
    return (BLOCK - 1) * s + max(geometry.window[-1], s)


def _block_toeplitz_matrix(k, geometry: Geometry) -> jax.Array:
    """Return B, ``(elements of a segment, T Co)``."""
    *window, K, Ci, Co = k.shape
    s, width = geometry.stride[-1], _width(geometry)
    others = ((0, 0),) * len(window)
    shifted = [
        jnp.pad(k, (*others, (s * t, width - K - s * t), (0, 0), (0, 0))) for t in range(BLOCK)
    ]
    return jnp.stack(shifted, -2).reshape(prod(window) * width * Ci, BLOCK * Co)


def _segments(x, geometry: Geometry) -> jax.Array:
    """Return the segments, ``(N, *output[:-1], blocks, elements of a segment)``."""
    N, C, s = x.shape[0], x.shape[-1], geometry.stride[-1]
    blocks = -(-geometry.output[-1] // BLOCK)
    own = BLOCK * s  # columns of a block
    beyond = _width(geometry) - own  # of those after it
    more = -(-beyond // own)
    low, size = geometry.padding[-1][0], geometry.size[-1]
    columns = (low, (blocks + more) * own - size - low, 0)  # a negative number crops
    others = ((low, high, 0) for low, high in geometry.padding[:-1])
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *others, columns, (0, 0, 0)))
    parts = []
    for tap in product(*window_slices(geometry)[:-1]):
        row = x[:, *tap].reshape(N, *geometry.output[:-1], blocks + more, own * C)
        parts.append(row[..., :blocks, :])
        for n in range(more):
            columns = min(own, beyond - n * own)
            parts.append(row[..., n + 1 : n + 1 + blocks, : columns * C])
    return jnp.concatenate(parts, axis=-1)
