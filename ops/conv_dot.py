"""Convolutions on CPU that are matrix products: 1x1 windows, and the kernel gradient.

With a window of one element the trilinear form has no taps, and over all places m = (n, i) at once

    y[m, o] = sum_c x[m, c] k[c, o],    gx[m, c] = sum_o g[m, o] k[c, o],
    gk[c, o] = sum_m x[m, c] g[m, o]

With a larger window the last is still such a product for each tap, of g with the elements of x that
the tap meets. Written down for the whole batch these patches would fill many times the memory of x;
a few examples at a time they stay in the cache.

The sum over m runs down the columns of both matrices, and is faster if the matrix with more columns
comes second: hence `_summed`.
"""

from itertools import product
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from .conv_geometry import Geometry
from .dtype import wide

_PLACES = 1024  # whose patches are written down at once


def pointwise_fits(geometry: Geometry) -> bool:
    """Whether the window has one element, which always lies inside x."""
    unpadded = all(low <= 0 and high <= 0 for low, high in geometry.padding)
    return geometry.groups == 1 and prod(geometry.window) == 1 and unpadded


def pointwise_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg."""
    (x,) = _taps(x, geometry)
    return _product(x, k.reshape(k.shape[-2:]), 0)


def pointwise_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx: zeros wherever the stride passed over x."""
    gx = _product(g, k.reshape(k.shape[-2:]), 1)
    pads = [
        (-low, i + low - (o - 1) * s - 1, s - 1)
        for i, o, s, (low, _) in zip(
            geometry.size, geometry.output, geometry.stride, geometry.padding, strict=True
        )
    ]
    return lax.pad(gx, jnp.zeros((), gx.dtype), ((0, 0, 0), *pads, (0, 0, 0)))


def patches_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk."""
    N, Ci, Co, places = x.shape[0], x.shape[-1], g.shape[-1], prod(geometry.output)
    taps = prod(geometry.window)
    if taps == 1:
        (x,) = _taps(x, geometry)
        return _summed(x, g).reshape(*geometry.window, Ci, Co)
    at_once = max(n for n in range(1, N + 1) if N % n == 0 and (n == 1 or n * places <= _PLACES))

    def add_gradient(gk, chunk):
        x, g = chunk
        patches = lax.optimization_barrier(jnp.stack(_taps(x, geometry)))
        over = tuple(range(g.ndim - 1))
        dimensions = ((tuple(1 + axis for axis in over), over), ((), ()))
        part = lax.dot_general(patches, g, dimensions, preferred_element_type=gk.dtype)
        return gk + part, None

    chunks = tuple(a.reshape(N // at_once, at_once, *a.shape[1:]) for a in (x, g))
    zeros = jnp.zeros((taps, Ci, Co), wide(x.dtype))
    gk, _ = lax.scan(add_gradient, zeros, chunks)
    return gk.reshape(*geometry.window, Ci, Co).astype(x.dtype)


def _taps(x, geometry: Geometry) -> list[jax.Array]:
    """The element of every window at each tap in row-major order, ``(N, *output, Ci)``."""
    pads = ((0, 0, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0))
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    axes = [
        [slice(d * u, d * u + (o - 1) * s + 1, s) for u in range(w)]
        for _, w, o, s, d, _ in zip(*geometry[:-1], strict=True)
    ]
    return [x[:, *tap] for tap in product(*axes)]


def _product(a, k, contract: int):
    """Over the last axis of a; types below float32 are added up in float32."""
    dimensions = (((a.ndim - 1,), (contract,)), ((), ()))
    return lax.dot_general(a, k, dimensions, preferred_element_type=wide(a.dtype)).astype(a.dtype)


def _summed(a, b):
    """sum over places of a[m, i] b[m, j], ``(i, j)``, with the narrower one first."""
    places = tuple(range(a.ndim - 1))
    first, second = (a, b) if a.shape[-1] < b.shape[-1] else (b, a)
    dtype = wide(a.dtype)
    out = lax.dot_general(first, second, ((places, places), ((), ())), preferred_element_type=dtype)
    return (out if first is a else out.T).astype(a.dtype)
