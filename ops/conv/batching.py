"""Convolutions stacked on a leading axis, each with a kernel of its own: `vmap` over networks.

Off the CPU, and as plain `lax`, they are one convolution of as many times the groups. XLA on CPU
has no fast form for groups, so there each is computed by itself, in a loop: a program as small as
one of them, and as fast as all of them written out.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .geometry import Form, Geometry
from .xla import is_shared_out

# Where each array has its batch, groups and channels once the groups are split off: x and g are
# then (N, *spatial, G, C), and k is (*window, Ci, G, Co).
_AXES = {
    "x": {"N": 0, "G": -2, "Ci": -1},
    "k": {"Ci": -3, "G": -2, "Co": -1},
    "g": {"N": 0, "G": -2, "Co": -1},
}


def stacked_on_cpu(form: Form, plain: Form, roles: str, a, b, *, geometry: Geometry) -> jax.Array:
    """The stack one by one, by `form`; or as groups, if it is shared out."""
    if is_shared_out(a) or is_shared_out(b):
        return stacked_as_groups(plain, roles, a, b, geometry=geometry)
    return lax.map(lambda each: form(*each, geometry=geometry), (a, b))


def stacked_as_groups(form: Form, roles: str, a, b, *, geometry: Geometry) -> jax.Array:
    """The stack as one convolution, by `form`. `roles`: of a, b and the result, as "xkg"."""
    B, more = a.shape[0], geometry._replace(groups=a.shape[0] * geometry.groups)
    a, b = (fold(v, role, "G", geometry) for v, role in zip((a, b), roles, strict=False))
    return unfold(form(a, b, geometry=more), B, roles[2], "G", more)


def fold(a: jax.Array, role: str, axis: str, geometry: Geometry, stacked=False) -> jax.Array:
    """Merge the first axis into that which has this name."""
    a = a.reshape(*a.shape[:-1], geometry.groups, a.shape[-1] // geometry.groups)
    at = _at(role, axis, a.ndim - 1, stacked)
    a = jnp.moveaxis(a, 0, at)
    a = a.reshape(*a.shape[:at], a.shape[at] * a.shape[at + 1], *a.shape[at + 2 :])
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def unfold(a: jax.Array, B: int, role: str, axis: str, geometry: Geometry, stacked=False):
    """The inverse of `fold`: split an axis of size B off, and bring it to the front."""
    a = a.reshape(*a.shape[:-1], geometry.groups, a.shape[-1] // geometry.groups)
    at = _at(role, axis, a.ndim, stacked)
    a = a.reshape(*a.shape[:at], B, a.shape[at] // B, *a.shape[at + 1 :])
    a = jnp.moveaxis(a, at, 0)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _at(role, axis, rank, stacked):
    at = _AXES[role][axis]
    return at + stacked if at >= 0 else at % rank
