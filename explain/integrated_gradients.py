"""Integrated gradients: each pixel's share of a score, so that the shares add up."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..model import Layer
from ..model.layer import Params, State
from .saliency import input_gradient
from .target import Target


def integrated_gradients(
    net: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    *,
    baseline: Any = 0.0,
    steps: int = 64,
) -> Array:
    r"""Integrate the gradient on the way from a baseline to the image.

    .. math:: I(x) = (x - b) \odot \int_0^1 \nabla S_k\big(b + t\,(x - b)\big)\, dt
        \approx (x - b) \odot \frac{1}{m} \sum_{i=1}^{m}
        \nabla S_k\Big(b + \frac{i - 1/2}{m}\,(x - b)\Big)

    Complete: the sum of an image's attributions is :math:`S_k(x) - S_k(b)`, as near as the sum is
    to the integral. Linear in the score, and zero for a pixel that is as in the baseline.

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        target: see `scores`.
        baseline: an image without what is asked about, broadcast to `x`. Zero is the mean color
            of the training images, where inputs are normalized; black is ``-mean / std``.
        steps: m; the gradients are taken one after the other, in the memory of one.

    Returns:
        The shape of `x`; add up the channels for a map.

    Raises:
        ValueError: `steps` less than 1, or a baseline that does not fit; and as `scores`.

    Note:
        The midpoint rule, where the paper's equation 3 has the right ends: exact for scores that
        are quadratic on the way.

    Example:
        >>> from convax import model
        >>> net = model.serial(flat=model.flatten(), fc=model.dense(1, bias=False))
        >>> params = {"fc": {"kernel": jnp.array([[1.0], [-5.0]])}}
        >>> x = jnp.array([3.0, 2.0]).reshape(1, 1, 2, 1)
        >>> integrated_gradients(net, params, {}, x, 0, baseline=1.0).ravel()  # w (x - 1)
        Array([ 2., -5.], dtype=float32)

    References:
        Sundararajan, Taly & Yan, Axiomatic attribution for deep networks, arXiv:1703.01365.
    """
    if steps < 1:
        raise ValueError(f"integrated_gradients: steps: got {steps}, need 1 or more")
    b = broadcast("integrated_gradients", "baseline", baseline, x)

    def add(total: Array, t: Array) -> tuple[Array, None]:
        here = b + t * (x - b)
        return total + input_gradient(net, params, state, here, target), None

    midpoints = (jnp.arange(steps, dtype=x.dtype) + 0.5) / steps
    total, _ = jax.lax.scan(add, jnp.zeros_like(x), midpoints)
    return (x - b) * total / steps


def broadcast(function: str, what: str, value: Any, x: Array) -> Array:
    """`value` with the shape and dtype of `x`.

    Raises:
        ValueError: it does not fit.
    """
    value = jnp.asarray(value, x.dtype)
    try:
        return jnp.broadcast_to(value, x.shape)
    except ValueError:
        raise ValueError(
            f"{function}: {what}: got shape {value.shape}, need {x.shape}, or one that broadcasts "
            "to it; a number will do"
        ) from None
