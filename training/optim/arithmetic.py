"""Arithmetic of the trees that optimizers compute with.

A factor is a Python number or a traced scalar of any dtype (a schedule's value, a hyper-parameter
under vmap); it is cast to each leaf's dtype, never the other way round.
"""

from typing import Any

import jax
import jax.numpy as jnp

from .checks import cast_like, may_be_nonzero, wide_dtype


def scale(factor, tree):
    """Compute ``factor * tree``."""
    return jax.tree.map(lambda x: jnp.asarray(factor, x.dtype) * x, tree)


def divide(tree, divisor):
    """Compute ``tree / divisor``."""
    return jax.tree.map(lambda x: x / jnp.asarray(divisor, x.dtype), tree)


def add(tree, factor, other):
    """Compute ``tree + factor * other``, in the dtypes of `tree`."""
    return jax.tree.map(
        lambda x, y: x + jnp.asarray(factor, x.dtype) * jnp.asarray(y, x.dtype), tree, other
    )


def running_mean(b, mean, tree):
    """Compute ``b * mean + (1 - b) * tree``."""
    return add(scale(1 - b, tree), b, mean)


def decayed(tree, weight_decay, params):
    """Compute ``tree + weight_decay * params``, where that may be another tree."""
    return add(tree, weight_decay, params) if may_be_nonzero(weight_decay) else tree


def descend(direction, rate, grads):
    """Compute the updates ``-rate * direction``, in the dtypes of the gradient."""
    return cast_like(scale(-rate, direction), grads)


def moments(params, dtype=None):
    """Return zeros like the parameters, of a dtype or, by default, of float32 at least."""
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype or wide_dtype(p)), params)


def cast(tree, dtype):
    """Cast all leaves to a dtype; None leaves them as they are."""
    return tree if dtype is None else jax.tree.map(lambda x: x.astype(dtype), tree)


def increment(count):
    """Add 1 to `count`, which stays at the largest integer rather than turn negative."""
    return jnp.minimum(count, jnp.iinfo(count.dtype).max - 1) + 1


def power(base, count):
    """Compute ``base ** count`` in floating point."""
    exponent = count.astype(float)
    return jnp.asarray(base, exponent.dtype) ** exponent


def rate_at(learning_rate, count):
    """Return the learning rate of the update number `count`.

    Raises:
        ValueError: it is no scalar.
    """
    rate: Any = learning_rate(count) if callable(learning_rate) else learning_rate
    if jnp.shape(rate) != ():
        raise ValueError(
            f"learning_rate: not a scalar: got shape {jnp.shape(rate)}, need (); "
            "for many learning rates at once, vmap the training step"
        )
    return rate


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """Compute the root of x >= 0 with derivatives 0 at 0, where they are infinite.

    A derivative through an update, as in meta-learning, is finite where a gradient is zero.
    """
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    root = safe_sqrt(x)
    return root, jnp.where(x == 0, 0, dx / (2 * jnp.where(x == 0, 1, root)))
