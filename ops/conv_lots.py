"""The kernel gradient on CPU as XLA's own convolutions, of a few examples each.

As a convolution the kernel gradient has the examples for channels, and the output for a window.
XLA's form of it slows down when both are large.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .conv_geometry import Geometry, largest_divisor
from .conv_plain import plain_kernel_grad
from .dtype import wide
from .varying import vary_like

_EXAMPLES = 16


def lots_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk."""
    N = x.shape[0]
    at_once = largest_divisor(N, _EXAMPLES)
    if 2 * at_once <= _EXAMPLES:  # a loop over very few at a time gains nothing
        return plain_kernel_grad(x, g, geometry=geometry)

    def add_lot(gk, lot):
        return gk + plain_kernel_grad(*lot, geometry=geometry).astype(gk.dtype), None

    lots = tuple(a.reshape(N // at_once, at_once, *a.shape[1:]) for a in (x, g))
    shape = (*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1])
    gk, _ = lax.scan(add_lot, vary_like(jnp.zeros(shape, wide(x.dtype)), x), lots)
    return gk.astype(x.dtype)
