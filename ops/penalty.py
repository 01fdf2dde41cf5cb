"""Penalties on parameters."""

import jax
import jax.numpy as jnp


def l2(params, rate):
    """L2 penalty: rate / 2 times the sum of squares of every leaf."""
    leaves = (jnp.sum(jnp.square(w.astype(jnp.promote_types(w.dtype, jnp.float32)))) for w in jax.tree.leaves(params))
    return rate / 2 * sum(leaves, jnp.float32(0))
