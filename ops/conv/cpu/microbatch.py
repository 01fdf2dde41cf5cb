"""Convolution on CPU in microbatches: what is written down for a few examples stays small.

As a convolution the kernel gradient has the examples for channels, and the output for a window.
XLA's implementation of it slows down when both are large: in microbatches, it is a sum of small
ones.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ...common.dtypes import accum_dtype
from ...common.jax_compat import match_varying_axes
from ...common.padding import is_int
from ..geometry import Geometry, split_evenly
from ..xla import xla_kernel_grad

_BATCH_SIZE = 16


def microbatched_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gk = dT/dk, the sum over microbatches of 16 examples of XLA's own.

    Args:
        x: input, ``(N, *size, Ci)``.
        g: gradient of the output, ``(N, *output, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(*window, Ci // groups, Co)``, dtype of `x`; added up in float32 at least.
    """
    N = x.shape[0]
    if N <= _BATCH_SIZE:
        return xla_kernel_grad(x, g, geometry=geometry)
    dtype = accum_dtype(x.dtype)

    def add_microbatch(gk, microbatch):
        return gk + xla_kernel_grad(*(a.astype(dtype) for a in microbatch), geometry=geometry), None

    zeros = jnp.zeros((*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1]), dtype)
    # Examples of zeros, which fill up the last microbatch, add nothing.
    microbatches = (_split_batch(x, _BATCH_SIZE), _split_batch(g, _BATCH_SIZE))
    gk, _ = lax.scan(add_microbatch, match_varying_axes(zeros, x), microbatches)
    return gk.astype(x.dtype)


def map_microbatches(
    function: Callable[[jax.Array], jax.Array], x: jax.Array, batch_size: int
) -> jax.Array:
    """Apply a function to a few examples at a time, or to all if their number is symbolic.

    Args:
        function: ``(n, ...) -> (n, ...)``, of each example by itself.
        x: ``(N, ...)``.
        batch_size: how many examples at a time; at least one is taken.

    Returns:
        ``(N, ...)``, the results.
    """
    N = x.shape[0]
    if not is_int(N) or batch_size >= N:
        return function(x)
    y = lax.map(function, _split_batch(x, batch_size))
    return y.reshape(y.shape[0] * y.shape[1], *y.shape[2:])[:N]


def _split_batch(a, batch_size: int) -> jax.Array:
    """Return the microbatches, ``(number, size, ...)``, the last filled up with zeros."""
    number, size = split_evenly(a.shape[0], batch_size)
    a = jnp.pad(a, ((0, number * size - a.shape[0]), *((0, 0),) * (a.ndim - 1)))
    return a.reshape(number, size, *a.shape[1:])
