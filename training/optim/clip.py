"""Clipping of the gradient: by the length of the whole, or number by number."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .checks import cast_like, check_floating, check_numbers, wide_gradient
from .optimizer import Optimizer, Tree


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

    def clipped(g):
        # Summed in the widest dtype that a leaf has, which strict promotion wants said.
        dtype = max((x.dtype for x in jax.tree.leaves(g)), key=lambda d: d.itemsize, default=float)
        squares = [jnp.sum(x * x).astype(dtype) for x in jax.tree.leaves(g)]
        norm = jnp.sqrt(sum(squares, jnp.zeros((), dtype)))
        longest = jnp.asarray(max_norm, dtype)
        factor = longest / jnp.maximum(norm, longest)
        return jax.tree.map(lambda x: factor.astype(x.dtype) * x, g)

    return _clipping("clip_by_global_norm", clipped)


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

    def clipped(g):
        most = lambda x: jnp.asarray(max_value, x.dtype)  # noqa: E731
        return jax.tree.map(lambda x: jnp.clip(x, -most(x), most(x)), g)

    return _clipping("clip_by_value", clipped)


def _clipping(function: str, clipped: Callable[[Tree], Tree]) -> Optimizer:
    """An optimizer without memory, whose update is what `clipped` makes of the gradient."""

    def init(params):
        check_floating(function, params)
        return ()

    def update(grads, state, params=None):
        return cast_like(clipped(wide_gradient(function, grads, params)), grads), state

    return Optimizer(init, update)
