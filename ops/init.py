"""Initialisers: random starting values with a variance that suits the layer's fans."""

from math import prod, sqrt

import jax
import jax.numpy as jnp


def _fans(shape, groups):
    *window, fan_in, fan_out = shape
    return fan_in * prod(window), fan_out // groups * prod(window)


def xavier_uniform(key, shape, dtype=jnp.float32, *, groups=1):
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out))."""
    a = sqrt(6 / sum(_fans(shape, groups)))
    return jax.random.uniform(key, shape, dtype, -a, a)


def xavier_normal(key, shape, dtype=jnp.float32, *, groups=1):
    """N(0, 2 / (fan_in + fan_out))."""
    return jax.random.normal(key, shape, dtype) * sqrt(2 / sum(_fans(shape, groups)))


def he_uniform(key, shape, dtype=jnp.float32, *, groups=1):
    """U(-a, a), a = sqrt(6 / fan_in)."""
    a = sqrt(6 / _fans(shape, groups)[0])
    return jax.random.uniform(key, shape, dtype, -a, a)


def he_normal(key, shape, dtype=jnp.float32, *, groups=1):
    """N(0, 2 / fan_in)."""
    return jax.random.normal(key, shape, dtype) * sqrt(2 / _fans(shape, groups)[0])


def lecun_normal(key, shape, dtype=jnp.float32, *, groups=1):
    """N(0, 1 / fan_in)."""
    return jax.random.normal(key, shape, dtype) * sqrt(1 / _fans(shape, groups)[0])


def zeros(key, shape, dtype=jnp.float32, *, groups=1):
    """All zeros."""
    return jnp.zeros(shape, dtype)


def ones(key, shape, dtype=jnp.float32, *, groups=1):
    """All ones."""
    return jnp.ones(shape, dtype)


INITIALIZERS = {
    f.__name__: f
    for f in (xavier_uniform, xavier_normal, he_uniform, he_normal, lecun_normal, zeros, ones)
}
