r"""Activation functions: elementwise, but for the softmaxes, and each keeps the dtype of `x`.

They are `jax.nn`'s, gathered here under one documentation: formula, derivative, what the derivative
is at a kink, and where the defaults differ from PyTorch's.
"""

import jax
import jax.numpy as jnp


def relu(x: jax.Array) -> jax.Array:
    r"""Rectified linear unit, max(x, 0).

    Derivative: 1 for x > 0, else 0; at the kink x = 0 it is 0, as in PyTorch.

    Example:
        >>> relu(jnp.array([-1.0, 0.0, 2.0]))
        Array([0., 0., 2.], dtype=float32)
    """
    return jax.nn.relu(x)


def leaky_relu(x: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    r"""Leaky rectified linear unit: x for x >= 0, negative_slope * x below.

    Derivative: 1 for x >= 0, else `negative_slope`.

    Note:
        At the kink x = 0 the derivative is 1; PyTorch takes the other side, `negative_slope`.
    """
    return jax.nn.leaky_relu(x, negative_slope)


def elu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    r"""Exponential linear unit: x for x > 0, alpha (exp(x) - 1) below.

    Derivative: 1 for x > 0, else alpha exp(x); at x = 0, a kink unless alpha = 1, it is alpha, as
    in PyTorch.

    References:
        Clevert et al., arXiv:1511.07289.
    """
    return jax.nn.elu(x, alpha)


def sigmoid(x: jax.Array) -> jax.Array:
    r"""Logistic function, s(x) = 1 / (1 + exp(-x)).

    Derivative: s(x) (1 - s(x)).

    Example:
        >>> sigmoid(jnp.array([-1e4, 0.0, 1e4]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    return jax.nn.sigmoid(x)


def tanh(x: jax.Array) -> jax.Array:
    r"""Hyperbolic tangent, (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    Derivative: 1 - tanh(x)^2.
    """
    return jnp.tanh(x)


def gelu(x: jax.Array, *, approximate: bool = False) -> jax.Array:
    r"""Gaussian error linear unit, x P(x), with P the standard normal distribution function.

    Derivative: P(x) + x p(x), with p the standard normal density.

    Args:
        x: input of any shape.
        approximate: compute P(x) as (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, off by at
            most 5e-4, instead of exactly as (1 + erf(x / sqrt(2))) / 2.

    Note:
        The default is exact, as in PyTorch; `jax.nn.gelu` approximates by default.

    References:
        Hendrycks & Gimpel, arXiv:1606.08415.
    """
    return jax.nn.gelu(x, approximate=approximate)


def silu(x: jax.Array) -> jax.Array:
    r"""Sigmoid linear unit, also called swish, x s(x), with s the logistic function.

    Derivative: s(x) (1 + x (1 - s(x))).

    References:
        Ramachandran et al., arXiv:1710.05941.
    """
    return jax.nn.silu(x)


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Positive numbers that add up to one along `axis`.

    .. math:: p_k = \frac{\exp(x_k)}{\sum_j \exp(x_j)}, \qquad
        \frac{\partial p_k}{\partial x_j} = p_k (\delta_{kj} - p_j)

    The maximum is subtracted first, so that nothing overflows.

    Note:
        The axis defaults to the last, the channels; PyTorch asks for it.

    Example:
        >>> softmax(jnp.array([1e4, 1e4, -1e4]))
        Array([0.5, 0.5, 0. ], dtype=float32)
    """
    return jax.nn.softmax(x, axis=axis)


def log_softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Logarithm of `softmax`, finite where the softmax itself rounds to zero.

    .. math:: \log p_k = x_k - \log \sum_j \exp(x_j), \qquad
        \frac{\partial \log p_k}{\partial x_j} = \delta_{kj} - p_j

    Example:
        >>> log_softmax(jnp.array([0.0, -1e4]))
        Array([     0., -10000.], dtype=float32)
    """
    return jax.nn.log_softmax(x, axis=axis)
