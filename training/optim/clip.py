"""Clipping of the gradient by its length; number by number `optax.clip` does it."""

import jax
import jax.numpy as jnp

from .arithmetic import safe_sqrt
from .checks import cast_like, check_floating, check_numbers, wide_gradient
from .optimizer import Optimizer


def clip_by_global_norm(max_norm: float) -> Optimizer:
    r"""Scale the whole gradient down to length `max_norm` where it is longer.

    .. math:: g \leftarrow g \cdot \frac{c}{\max(\lVert g \rVert_2,\, c)}, \qquad
        \lVert g \rVert_2^2 = \sum_\text{leaves} \sum_i g_i^2

    Put it in front of an optimizer: ``optax.chain(clip_by_global_norm(1.0), adam(1e-3))``.

    Args:
        max_norm: :math:`c`, > 0.

    Returns:
        An `Optimizer` with the empty state ``()``.

    Raises:
        ValueError, TypeError: `max_norm` is not a number > 0; a gradient does not match its
            parameter.

    Note:
        As `optax.clip_by_global_norm`, but that the gradient is multiplied by one factor, which
        rounds once instead of twice, and that leaves of several dtypes are summed in the widest.
        PyTorch's `clip_grad_norm_` divides by the norm plus 1e-6.
        A NaN anywhere makes every update NaN, as in both.

    References:
        Pascanu, Mikolov, Bengio, ICML 2013, arXiv:1211.5063.
    """
    check_numbers("clip_by_global_norm", max_norm=max_norm)

    def init(params):
        check_floating("clip_by_global_norm", params)
        return ()

    def update(grads, state, params=None, **extra_args):
        del extra_args
        g = wide_gradient("clip_by_global_norm", grads, params)
        # Summed in the widest dtype that a leaf has, which strict promotion wants said.
        dtype = max((x.dtype for x in jax.tree.leaves(g)), key=lambda d: d.itemsize, default=float)
        squares = [jnp.sum(x * x).astype(dtype) for x in jax.tree.leaves(g)]
        norm = safe_sqrt(sum(squares, jnp.zeros((), dtype)))
        longest = jnp.asarray(max_norm, dtype)
        factor = longest / jnp.maximum(norm, longest)
        clipped = jax.tree.map(lambda x: factor.astype(x.dtype) * x, g)
        return cast_like(clipped, grads), state

    return Optimizer(init, update)
