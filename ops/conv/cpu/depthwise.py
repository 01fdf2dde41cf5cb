"""Depthwise convolution on CPU by shift-and-add: whole arrays, one multiply-add for each tap.

Where every channel is convolved by itself there is no matrix to multiply by. What is left of the
trilinear form, with one channel c for x, k and g alike, is a sum over the taps u,

    y[n, i, c]  = sum_u  x[n, s i + d u - p, c]  k[u, c]
    gk[u, c]    = sum_{n,i}  x[n, s i + d u - p, c]  g[n, i, c]

and x[n, s i + d u - p, c] for all n, i and c at once is a shifted slice of x: with x cut into the s
phases of the stride, element s i + d u is element i + (d u) // s of phase (d u) mod s. XLA fuses
the sum over the slices into one loop. (The input gradient is `ops.conv.cpu.polyphase` over such
convolutions.)

Where a channel of x meets several of g, or one of g several of x, it is repeated as often.

The kernel gradient is the sum over n and i of arrays as large as x. XLA's own sum over leading axes
runs along them element by element if the product is computed on the way; added up here by slices,
two examples at a time, it is arithmetic on whole arrays as well.
"""

from functools import reduce
from itertools import product
from math import prod
from operator import add

import jax
import jax.numpy as jnp
from jax import lax

from ...common.dtypes import accum_dtype
from ...common.jax_compat import match_varying_axes
from ..geometry import Geometry

_ACCUMULATORS = 2**22  # bytes of partial sums, over all taps, that stay in a core's cache


def shift_and_add_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute y = dT/dg, the sum over the taps u of shifted x times k[u].

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    Co, C = k.shape[-1], max(x.shape[-1], k.shape[-1])
    k = jnp.swapaxes(k, -1, -2)  # channel c M + m
    k = k.reshape(-1, *(1,) * (x.ndim - 1), C).astype(accum_dtype(x.dtype))
    taps = _shifted(_repeated(x, C), geometry)
    y = reduce(add, (tap.astype(k.dtype) * k[n] for n, tap in enumerate(taps)))
    if Co < C:
        y = jnp.sum(y.reshape(*y.shape[:-1], Co, -1), axis=-1)
    # Without the barrier XLA may compute the sum inside what follows, element by element in a pool.
    return lax.optimization_barrier(y.astype(x.dtype))


def shift_and_add_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gk = dT/dk, for each tap the sum of shifted x times g over all positions.

    Args:
        x: input, ``(N, *size, Ci)``.
        g: gradient of the output, ``(N, *output, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(*window, Ci // groups, Co)``, dtype of `x`; added up in float32 at least.
    """
    N, Ci, C = x.shape[0], x.shape[-1] // geometry.groups, max(x.shape[-1], g.shape[-1])
    dtype = accum_dtype(x.dtype)
    x, g = (_repeated(a, C) for a in (x, g))
    parts = _row_parts(geometry, C * dtype.itemsize)
    rows = geometry.output[0] // parts
    at_once = next(n for n in (2, 1) if N % n == 0)

    def add_examples(sums, examples):
        x, g = (a.astype(dtype) for a in examples)
        new = []
        for sum_, tap in zip(sums, _shifted(x, geometry), strict=True):
            for n, part in product(range(at_once), range(parts)):
                these = slice(part * rows, (part + 1) * rows)
                sum_ = sum_ + tap[n, these] * g[n, these]
            new.append(sum_)
        return tuple(new), None

    zeros = match_varying_axes(jnp.zeros((rows, *geometry.output[1:], C), dtype), x)
    chunks = [a.reshape(N // at_once, at_once, *a.shape[1:]) for a in (x, g)]
    sums, _ = lax.scan(add_examples, (zeros,) * prod(geometry.window), tuple(chunks))
    gk = jnp.stack([jnp.sum(jnp.sum(s, 0).reshape(-1, C), 0) for s in sums])
    gk = jnp.swapaxes(gk.reshape(len(sums), -1, Ci), -1, -2)
    return gk.reshape(*geometry.window, Ci, -1).astype(x.dtype)


def _repeated(a, C: int):
    """Repeat each channel as often as it meets one of the other array."""
    return a if a.shape[-1] == C else jnp.repeat(a, C // a.shape[-1], axis=-1)


def shift_and_add_fits(geometry: Geometry, C: int) -> bool:
    """Return whether the kernel gradient's partial sums of float32 have a reasonable size."""
    return _bytes_of_sums(geometry, 4 * C) <= 16 * _row_parts(geometry, 4 * C) * _ACCUMULATORS


def _row_parts(geometry: Geometry, bytes_per_position: int) -> int:
    """Return how many equal parts of the rows keep the sums of all taps in the cache."""
    Ho = geometry.output[0]
    divisors = [n for n in range(1, min(Ho, 8) + 1) if Ho % n == 0]
    enough = (
        n for n in divisors if _bytes_of_sums(geometry, bytes_per_position) <= n * _ACCUMULATORS
    )
    return next(enough, divisors[-1])


def _bytes_of_sums(geometry: Geometry, bytes_per_position: int) -> int:
    """Return the bytes of the sums of all taps, if the rows are not cut."""
    return prod(geometry.window) * prod(geometry.output) * bytes_per_position


def _shifted(x, geometry: Geometry) -> list[jax.Array]:
    """Return x as each tap of the windows sees it, in row-major order: ``(N, *output, C)`` each."""
    N, *_, C = x.shape
    pads, shape, positions = [(0, 0, 0)], [N], []
    for i, w, o, s, d, (low, _) in geometry.axes:
        blocks = o + d * (w - 1) // s
        pads.append((low, blocks * s - i - low, 0))  # a negative number crops
        shape += [blocks, s]
        positions.append([(slice(d * u // s, d * u // s + o), d * u % s) for u in range(w)])
    x = lax.pad(x, jnp.zeros((), x.dtype), [*pads, (0, 0, 0)]).reshape(*shape, C)
    return [x[:, *(index for axis in tap for index in axis)] for tap in product(*positions)]
