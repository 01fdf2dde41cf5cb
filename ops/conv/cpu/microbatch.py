"""A few examples at a time: what is written down for them stays small, and so may the work.

As a convolution the kernel gradient has the examples for channels, and the output for a window.
XLA's form of it slows down when both are large: in lots, it is a sum of small ones.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ...common.dtypes import wide
from ...common.jax_compat import match_varying_axes
from ...common.padding import is_int
from ..geometry import Geometry, equal_parts
from ..xla import plain_kernel_grad

_EXAMPLES = 16


def lots_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk."""
    N = x.shape[0]
    if N <= _EXAMPLES:
        return plain_kernel_grad(x, g, geometry=geometry)
    dtype = wide(x.dtype)

    def add_lot(gk, lot):
        return gk + plain_kernel_grad(*(a.astype(dtype) for a in lot), geometry=geometry), None

    zeros = jnp.zeros((*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1]), dtype)
    lots = (_cut(x, _EXAMPLES), _cut(g, _EXAMPLES))  # examples of zeros add nothing
    gk, _ = lax.scan(add_lot, match_varying_axes(zeros, x), lots)
    return gk.astype(x.dtype)


def in_lots(form: Callable[[jax.Array], jax.Array], x: jax.Array, most: int) -> jax.Array:
    """``form(x)``, of so many examples at a time, or of all if their number is not known yet."""
    N = x.shape[0]
    if not is_int(N) or most >= N:
        return form(x)
    y = lax.map(form, _cut(x, most))
    return y.reshape(y.shape[0] * y.shape[1], *y.shape[2:])[:N]


def _cut(a, most: int) -> jax.Array:
    """``(lots, examples, ...)``, the last lot filled up with zeros."""
    number, size = equal_parts(a.shape[0], most)
    a = jnp.pad(a, ((0, number * size - a.shape[0]), *((0, 0),) * (a.ndim - 1)))
    return a.reshape(number, size, *a.shape[1:])
