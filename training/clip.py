"""Clipping of the gradient: by the length of the whole, or number by number."""

import jax
import jax.numpy as jnp

from .optimizer import Optimizer
from .optimizer_checks import check_floating, check_numbers, wide_gradient


def clip_by_global_norm(max_norm: float) -> Optimizer:
    r"""Scale the whole gradient down to length `max_norm` where it is longer.

    .. math:: g \leftarrow g \cdot \frac{c}{\max(\lVert g \rVert_2,\, c)}, \qquad
        \lVert g \rVert_2^2 = \sum_\text{leaves} \sum_i g_i^2

    Put it in front of an optimizer: ``chain(clip_by_global_norm(1.0), adam(1e-3))``.

    Args:
        max_norm: :math:`c`, > 0.

    Returns:
        An `Optimizer` with the empty state ``()``.

    Raises:
        ValueError, TypeError: `max_norm` is not a number > 0; a gradient does not match its
            parameter.

    Note:
        As `optax.clip_by_global_norm`; PyTorch's `clip_grad_norm_` divides by the norm plus 1e-6.
        A NaN anywhere makes every update NaN, as in both.

    References:
        Pascanu, Mikolov, Bengio, ICML 2013, arXiv:1211.5063.
    """
    check_numbers("clip_by_global_norm", max_norm=max_norm)

    def init(params):
        check_floating("clip_by_global_norm", params)
        return ()

    def update(grads, state, params=None):
        g = wide_gradient("clip_by_global_norm", grads, params)
        # Summed in the widest dtype that a leaf has, which strict promotion wants said.
        dtype = max((x.dtype for x in jax.tree.leaves(g)), key=lambda d: d.itemsize, default=float)
        squares = [jnp.sum(x * x).astype(dtype) for x in jax.tree.leaves(g)]
        norm = jnp.sqrt(sum(squares, jnp.zeros((), dtype)))
        longest = jnp.asarray(max_norm, dtype)
        factor = longest / jnp.maximum(norm, longest)

        def scaled(x, like):
            return (factor.astype(x.dtype) * x).astype(jnp.result_type(like))

        return jax.tree.map(scaled, g, grads), state

    return Optimizer(init, update)


def clip_by_value(max_value: float) -> Optimizer:
    r"""Bring each number of the gradient into [-c, c].

    .. math:: g_i \leftarrow \max(-c, \min(c, g_i))

    Put it in front of an optimizer: ``chain(clip_by_value(1.0), adam(1e-3))``.

    Args:
        max_value: :math:`c`, > 0.

    Returns:
        An `Optimizer` with the empty state ``()``.

    Raises:
        ValueError, TypeError: `max_value` is not a number > 0; a gradient does not match its
            parameter.

    Example:
        >>> clip = clip_by_value(1.0)
        >>> grads, _ = clip.update(jnp.array([-3.0, 0.5, 2.0]), clip.init(jnp.zeros(3)))
        >>> print(grads)
        [-1.   0.5  1. ]

    Note:
        As `optax.clip` and PyTorch's `clip_grad_value_`. Unlike clipping by the norm it changes the
        direction. NaN stays NaN.
    """
    check_numbers("clip_by_value", max_value=max_value)

    def init(params):
        check_floating("clip_by_value", params)
        return ()

    def update(grads, state, params=None):
        g = wide_gradient("clip_by_value", grads, params)

        def clipped(x, like):
            most = jnp.asarray(max_value, x.dtype)
            return jnp.clip(x, -most, most).astype(jnp.result_type(like))

        return jax.tree.map(clipped, g, grads), state

    return Optimizer(init, update)
