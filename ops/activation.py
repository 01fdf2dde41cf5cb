"""Activation functions, element by element unless an axis is named."""

import jax
import jax.numpy as jnp
from jax.nn import elu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax
from jax.numpy import tanh

__all__ = ["elu", "gelu", "leaky_relu", "log_softmax", "relu", "sigmoid", "silu", "softmax", "tanh"]


def gelu(x, *, approximate: bool = False):
    """Gaussian error linear unit."""
    return jax.nn.gelu(jnp.asarray(x), approximate=approximate)
