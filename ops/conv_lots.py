"""The kernel gradient on CPU as XLA's own convolutions, of a few examples each.

As a convolution the kernel gradient has the examples for channels, and the output for a window.
XLA's form of it slows down when both are large.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .conv_geometry import Geometry, equal_parts
from .conv_plain import plain_kernel_grad
from .dtype import wide
from .varying import vary_like

_EXAMPLES = 16


def lots_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk."""
    N = x.shape[0]
    if N <= _EXAMPLES:
        return plain_kernel_grad(x, g, geometry=geometry)
    count, size = equal_parts(N, _EXAMPLES)
    dtype = wide(x.dtype)

    def add_lot(gk, lot):
        return gk + plain_kernel_grad(*(a.astype(dtype) for a in lot), geometry=geometry), None

    def cut(a):  # examples of zeros add nothing
        a = jnp.pad(a, ((0, count * size - N), *((0, 0),) * (a.ndim - 1)))
        return a.reshape(count, size, *a.shape[1:])

    zeros = jnp.zeros((*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1]), dtype)
    gk, _ = lax.scan(add_lot, vary_like(zeros, x), (cut(x), cut(g)))
    return gk.astype(x.dtype)
