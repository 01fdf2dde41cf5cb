"""Saliency: how much each pixel matters to a class, by the gradient."""

import jax
import jax.numpy as jnp
from jax import Array

from ..model import Layer
from ..model.layer import Params, State
from .target import Target, scores


def input_gradient(net: Layer, params: Params, state: State, x: Array, target: Target) -> Array:
    r"""Compute the derivative of a class's score by the image, of each image by itself.

    .. math:: g_n = \frac{\partial S_k(x_n)}{\partial x_n}

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        target: see `scores`.

    Returns:
        The shape of `x`: positive where more of the input makes the class likelier.

    Raises:
        ValueError, TypeError: as `scores`.
    """

    def total(x: Array) -> Array:  # of all images: none looks at another in evaluation
        return scores(net.apply(params, state, x, train=False)[0], target).sum()

    return jax.grad(total)(x)


def saliency(net: Layer, params: Params, state: State, x: Array, target: Target) -> Array:
    r"""Compute how much each pixel matters to a class: the largest derivative of its channels.

    .. math:: M_{n,i,j} = \max_c \left| \frac{\partial S_k(x_n)}{\partial x_{n,i,j,c}} \right|

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        target: see `scores`.

    Returns:
        ``(N, *spatial)``, zero or more.

    Raises:
        ValueError, TypeError: as `scores`.

    Example:
        >>> from convax import model
        >>> net = model.serial(flat=model.flatten(), fc=model.dense(2, bias=False))
        >>> params = {"fc": {"kernel": jnp.array([[1.0, 0.0], [-5.0, 0.0]])}}
        >>> saliency(net, params, {}, jnp.ones((1, 1, 2, 1)), 0)  # the weights' magnitude
        Array([[[1., 5.]]], dtype=float32)

    References:
        Simonyan, Vedaldi & Zisserman, Deep inside convolutional networks, arXiv:1312.6034,
        section 3.1.
    """
    return jnp.abs(input_gradient(net, params, state, x, target)).max(axis=-1)
