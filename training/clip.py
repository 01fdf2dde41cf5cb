"""Clipping of single gradients by their size; `optimizer.clip_by_global_norm` is that of all."""

import math

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .optimizer import Optimizer


def clip_by_value(max_value: float) -> Optimizer:
    r"""Bring each number of the gradient into [-c, c].

    .. math:: g_i \leftarrow \max(-c, \min(c, g_i))

    Put it in front of an optimizer: ``chain(clip_by_value(1.0), adam(1e-3))``.

    Args:
        max_value: :math:`c`, > 0.

    Returns:
        An `Optimizer` with the empty state ``()``.

    Raises:
        ValueError: `max_value` is not a finite number > 0.

    Example:
        >>> clip = clip_by_value(1.0)
        >>> grads, _ = clip.update(jnp.array([-3.0, 0.5, 2.0]), clip.init(jnp.zeros(3)))
        >>> print(grads)
        [-1.   0.5  1. ]

    Note:
        As `optax.clip` and PyTorch's `clip_grad_value_`. Unlike clipping by the norm it changes the
        direction. NaN stays NaN.
    """
    if not isinstance(max_value, Tracer) and not 0 < max_value < math.inf:
        raise ValueError(
            f"clip_by_value: max_value is out of range: got {max_value}, need a finite number > 0"
        )

    def update(grads, state, params=None):
        del params

        def clipped(g):
            most = jnp.asarray(max_value, g.dtype)
            return jnp.clip(g, -most, most)

        return jax.tree.map(clipped, grads), state

    return Optimizer(lambda params: (), update)
