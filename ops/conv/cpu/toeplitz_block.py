"""Convolutions of few channels on CPU: several neighbours in a row at once, as a matrix product.

A matrix product with fewer columns than a processor's vectors have lanes leaves most of them idle.
T neighbours along the last spatial axis, where output t of block b is output T b + t, look at one
stretch of (T - 1) s + K columns of x. So with the taps u of the other axes, w a column of the
stretch and c a channel,

    y[n, i, b, t, o]    = sum_{u,w,c}  x[n, s i + d u - p, s T b + w - p, c]  B[u, w, c, t, o]
    B[u, w, c, t, o]    = k[u, w - s t, c, o]  for 0 <= w - s t < K, else 0

is a product with a matrix of T times as many columns, at the price of multiplying zeros.

As the zeros of B are multiplied too, an infinity or NaN in x spreads over T outputs.
"""

from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from ..geometry import Geometry, tap_slices
from .im2col import times
from .microbatch import in_lots

T = 4
_PLACES = 4096  # of the output, whose stretches are written down at once


def band_fits(geometry: Geometry) -> bool:
    """Whether the convolution is one that `band_conv` can do."""
    return geometry.groups == 1 and geometry.dilation[-1] == 1


def band_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg."""
    band, Co = _banded(k, geometry), k.shape[-1]

    def some(x):
        stretches = lax.optimization_barrier(_stretches(x, geometry))
        y = times(stretches, band)
        return y.reshape(*y.shape[:-2], y.shape[-2] * T, Co)[..., : geometry.output[-1], :]

    return in_lots(some, x, _PLACES // prod(geometry.output))


def _width(geometry: Geometry) -> int:
    """The columns of a stretch: as many as the stride passes over where that is more than K."""
    s = geometry.stride[-1]
    return (T - 1) * s + max(geometry.window[-1], s)


def _banded(k, geometry: Geometry) -> jax.Array:
    """B, ``(elements of a stretch, T Co)``."""
    *window, K, Ci, Co = k.shape
    s, width = geometry.stride[-1], _width(geometry)
    others = ((0, 0),) * len(window)
    moved = [jnp.pad(k, (*others, (s * t, width - K - s * t), (0, 0), (0, 0))) for t in range(T)]
    return jnp.stack(moved, -2).reshape(prod(window) * width * Ci, T * Co)


def _stretches(x, geometry: Geometry) -> jax.Array:
    """Of every block of outputs, ``(N, *output[:-1], blocks, elements of a stretch)``."""
    N, C, s = x.shape[0], x.shape[-1], geometry.stride[-1]
    blocks = -(-geometry.output[-1] // T)
    own, beyond = T * s, _width(geometry) - T * s  # columns of a block, and of those behind it
    more = -(-beyond // own)
    low, size = geometry.padding[-1][0], geometry.size[-1]
    columns = (low, (blocks + more) * own - size - low, 0)  # a negative number crops
    others = ((low, high, 0) for low, high in geometry.padding[:-1])
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *others, columns, (0, 0, 0)))
    parts = []
    for tap in product(*tap_slices(geometry)[:-1]):
        row = x[:, *tap].reshape(N, *geometry.output[:-1], blocks + more, own * C)
        parts.append(row[..., :blocks, :])
        for n in range(more):
            columns = min(own, beyond - n * own)
            parts.append(row[..., n + 1 : n + 1 + blocks, : columns * C])
    return jnp.concatenate(parts, axis=-1)
