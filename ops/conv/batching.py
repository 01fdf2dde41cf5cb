"""The batching rules of convolution: `vmap` gives one operand, or both, an axis more.

A batch axis on one operand is folded into an axis that the other operand does not have. Batch axes
on both are a stack of convolutions, each with a kernel of its own: `vmap` over networks. Off the
CPU, and as XLA's own, a stack is one convolution of as many times the groups. XLA on CPU has no
fast implementation of groups, so there each is computed by itself, in a loop: a program as small as
one of them, and as fast as all of them written out.

The role of an array is a letter: "x" an input, "k" a kernel, "g" the gradient of an output.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .geometry import Geometry, Impl
from .xla import is_sharded

# Where each array has its batch, groups and channels once the groups are split off: x and g are
# then (N, *spatial, G, C), and k is (*window, Ci, G, Co).
_AXES = {
    "x": {"N": 0, "G": -2, "Ci": -1},
    "k": {"Ci": -3, "G": -2, "Co": -1},
    "g": {"N": 0, "G": -2, "Co": -1},
}


def stacked_on_cpu(impl: Impl, xla: Impl, roles: str, a, b, *, geometry: Geometry) -> jax.Array:
    """Compute a stack one by one, by `impl`; as groups, by `xla`, if it is sharded.

    Args:
        impl: computes one convolution, or gradient.
        xla: computes one in XLA's own operations.
        roles: of a, b and the result, as "xkg".
        a: ``(B, ...)``, the first operands.
        b: ``(B, ...)``, the second operands.
        geometry: of each of the B convolutions.

    Returns:
        ``(B, ...)``, the results.
    """
    if is_sharded(a) or is_sharded(b):
        return stacked_as_groups(xla, roles, a, b, geometry=geometry)
    return lax.map(lambda each: impl(*each, geometry=geometry), (a, b))


def stacked_as_groups(impl: Impl, roles: str, a, b, *, geometry: Geometry) -> jax.Array:
    """Compute a stack as one convolution of B times the groups, by `impl`.

    Args:
        impl: computes one convolution, or gradient.
        roles: of a, b and the result, as "xkg".
        a: ``(B, ...)``, the first operands.
        b: ``(B, ...)``, the second operands.
        geometry: of each of the B convolutions.

    Returns:
        ``(B, ...)``, the results.
    """
    B, more = a.shape[0], geometry._replace(groups=a.shape[0] * geometry.groups)
    a, b = (fold_batch_axis(v, role, "G", geometry) for v, role in zip((a, b), roles, strict=False))
    return unfold_batch_axis(impl(a, b, geometry=more), B, roles[2], "G", more)


def fold_batch_axis(
    a: jax.Array, role: str, axis: str, geometry: Geometry, stacked=False
) -> jax.Array:
    """Merge the first axis of `a` into another.

    Args:
        a: ``(B, ...)``, behind B an array of this role.
        role: "x", "k" or "g".
        axis: the other axis, one of the names that `_AXES` has for the role.
        geometry: of the convolution before.
        stacked: whether a stack's axis stands before all of the role's.

    Returns:
        The array without its first axis, the other B times as long.
    """
    a = a.reshape(*a.shape[:-1], geometry.groups, a.shape[-1] // geometry.groups)
    at = _position(role, axis, a.ndim - 1, stacked)
    a = jnp.moveaxis(a, 0, at)
    a = a.reshape(*a.shape[:at], a.shape[at] * a.shape[at + 1], *a.shape[at + 2 :])
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def unfold_batch_axis(
    a: jax.Array, B: int, role: str, axis: str, geometry: Geometry, stacked=False
):
    """Undo `fold_batch_axis`: split an axis of size B off, and bring it to the front."""
    a = a.reshape(*a.shape[:-1], geometry.groups, a.shape[-1] // geometry.groups)
    at = _position(role, axis, a.ndim, stacked)
    a = a.reshape(*a.shape[:at], B, a.shape[at] // B, *a.shape[at + 1 :])
    a = jnp.moveaxis(a, at, 0)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _position(role, axis, rank, stacked):
    at = _AXES[role][axis]
    return at + stacked if at >= 0 else at % rank
