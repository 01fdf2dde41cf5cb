"""The fully connected layer's function."""

import jax
import jax.numpy as jnp


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """y = x W + b over the last axis."""
    y = jnp.matmul(x, kernel)
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
