"""Grouped convolution on CPU: one convolution for each group, or for a few neighbours together.

XLA has no fast form for groups on CPU, but each group is a convolution of its own, on its own
channels of x, k and g. Where groups have few channels, several at a time make one: their kernels
are then the blocks on the diagonal of a kernel that is zero elsewhere, and of its gradient only
those blocks count. As the zeros are multiplied too, an infinity or NaN in one group reaches the
others of its lot.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ..geometry import Form, Geometry

_WRITTEN_OUT = 4  # lots


def groups_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry, form: Form) -> jax.Array:
    """y = dT/dg, by `form` for each lot of groups."""
    return _apart(form, geometry, x, _diagonal(k, *_lots(geometry, k.shape[-2])))


def groups_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry, form: Form) -> jax.Array:
    """gx = dT/dx, by `form` for each lot of groups."""
    return _apart(form, geometry, g, _diagonal(k, *_lots(geometry, k.shape[-2])))


def groups_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry, form: Form) -> jax.Array:
    """gk = dT/dk, by `form` for each lot of groups."""
    Ci, Co = (a.shape[-1] // geometry.groups for a in (x, g))
    lots, together = _lots(geometry, Ci)

    def of_lot(a, b):
        gk = form(a, b, geometry=geometry._replace(groups=1))
        gk = gk.reshape(*geometry.window, together, Ci, together, Co)
        return jnp.concatenate([gk[..., i, :, i, :] for i in range(together)], axis=-1)

    return _joined(of_lot, _split(x, lots), _split(g, lots))


def _lots(geometry: Geometry, Ci: int) -> tuple[int, int]:
    """How many lots, and how many groups in each: so many that a lot has 8 channels, no more."""
    G = geometry.groups
    divisors = [n for n in range(1, 9) if G % n == 0]
    together = next((n for n in divisors if n * Ci >= 8), divisors[-1])
    return G // together, together


def _diagonal(k, lots: int, together: int) -> jax.Array:
    """The kernel of each lot, ``(lots, *window, Ci, Co)`` of a lot."""
    k = _split(k, lots)
    if together == 1:
        return k
    *window, Ci, Co = k.shape
    k = k.reshape(*window, Ci, together, Co // together)
    same = jnp.eye(together, dtype=bool)[:, None, :, None]
    k = jnp.moveaxis(k, -2, -3)[..., :, :, None, :]
    k = jnp.where(same, k, jnp.zeros((), k.dtype))
    return k.reshape(*window, together * Ci, Co)


def _apart(form, geometry, a, kernels):
    apart = partial(form, geometry=geometry._replace(groups=1))
    return _joined(apart, _split(a, len(kernels)), kernels)


def _joined(function, a, b):
    """The results of all lots side by side. More than a few are a loop, or they compile long."""
    if len(a) <= _WRITTEN_OUT:
        parts = [function(*lot) for lot in zip(a, b, strict=True)]
        return jnp.concatenate(parts, axis=-1)
    parts = lax.map(lambda lot: function(*lot), (a, b))
    parts = jnp.moveaxis(parts, 0, -2)
    return parts.reshape(*parts.shape[:-2], parts.shape[-2] * parts.shape[-1])


def _split(a, lots: int) -> jax.Array:
    """The last axis in lots, which come first."""
    return jnp.moveaxis(a.reshape(*a.shape[:-1], lots, a.shape[-1] // lots), -2, 0)
