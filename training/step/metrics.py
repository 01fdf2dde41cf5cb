"""Numbers that say how large a tree of arrays is; scalars, computed within the step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def l2_norm(tree: Any) -> Array:
    r"""Compute the length of all leaves together, :math:`\sqrt{\sum_i x_i^2}`, in float32.

    Args:
        tree: arrays of any floating-point dtype.

    Returns:
        A float32 scalar, 0 for a tree without leaves.

    Note:
        Unlike `optax.global_norm` it adds up in float32 whatever the dtype of the leaves.
    """
    leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum((jnp.vdot(leaf, leaf) for leaf in leaves), jnp.float32(0)))


def largest_update(updates: Any) -> Array:
    r"""Compute the furthest that a single parameter moves, :math:`\max_i |u_i|` over all leaves.

    Args:
        updates: tree of arrays, as an optimizer returns it.

    Returns:
        A scalar, 0 for a tree without elements, NaN where there is one among the updates.

    Example:
        >>> print(largest_update({"w": jnp.array([1.0, -3.0]), "b": jnp.array(2.0)}))
        3.0
    """
    sizes = [jnp.max(jnp.abs(u), initial=0).astype(jnp.float32) for u in jax.tree.leaves(updates)]
    return jnp.max(jnp.stack(sizes), initial=0) if sizes else jnp.zeros((), jnp.float32)
