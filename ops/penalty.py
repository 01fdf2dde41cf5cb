"""Penalties on parameters."""

import jax
import jax.numpy as jnp

from .dtype import wide


def l2(params, rate: float) -> jax.Array:
    r"""L2 penalty, also called weight decay: its gradient in each weight is rate times the weight.

    .. math:: \frac{\lambda}{2} \sum_i w_i^2

    Args:
        params: pytree of arrays, floating point, of any shapes.
        rate: the factor lambda.

    Returns:
        A scalar, added up in float32 at least. Zero for an empty tree.

    Example:
        >>> l2({"kernel": jnp.array([1.0, 2.0]), "bias": jnp.array([3.0])}, 0.1)
        Array(0.7, dtype=float32)

    Note:
        Added to a loss, this equals an optimizer's weight decay for plain gradient descent alone;
        under Adam it does not. See Loshchilov & Hutter, arXiv:1711.05101.
    """
    leaves = [jnp.asarray(w) for w in jax.tree.leaves(params)]
    dtypes = [wide(w.dtype) for w in leaves]
    total = max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.float32)
    squares = (jnp.sum(jnp.square(w.astype(total))) for w in leaves)
    return rate / 2 * sum(squares, jnp.zeros((), total))
