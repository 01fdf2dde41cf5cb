"""Penalties on parameters."""

import re

import jax
import jax.numpy as jnp

from .common.checks import as_scalar
from .common.dtypes import accum_dtype, check_floating


def l2(params, rate: float | jax.Array, *, pattern: str | None = None) -> jax.Array:
    r"""Compute the L2 penalty, also called weight decay: its gradient is rate times the weight.

    .. math:: \frac{\lambda}{2} \sum_i w_i^2, \qquad \frac{\partial}{\partial w_i} = \lambda w_i

    Args:
        params: pytree of arrays, floating point, of any shapes.
        rate: the factor lambda, at least 0.
        pattern: a regular expression; only arrays whose whole path matches it (`re.fullmatch`)
            count. A path is the keys from the root, joined by slashes: ``stage2/conv1/kernel``, so
            ``.*kernel`` leaves out biases. None counts all.

    Returns:
        A scalar, added up in float32 at least. Zero for an empty tree.

    Raises:
        ValueError: `rate` is negative, or `pattern` is no regular expression or matches no path.
        TypeError: an array is not floating point.

    Example:
        >>> params = {"kernel": jnp.array([1.0, 2.0]), "bias": jnp.array([3.0])}
        >>> l2(params, 0.1)
        Array(0.7, dtype=float32)
        >>> l2(params, 0.1, pattern=".*kernel")
        Array(0.25, dtype=float32)

    Note:
        Added to a loss, this equals an optimizer's weight decay for plain gradient descent alone;
        under Adam it does not. See Loshchilov & Hutter, arXiv:1711.05101. PyTorch has it in its
        optimizers only, as `weight_decay`.
    """
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), jnp.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    for path, leaf in leaves:
        check_floating("l2", path or "params", leaf)
    chosen = [leaf for _, leaf in leaves] if pattern is None else _matching(leaves, pattern)
    dtypes = [accum_dtype(w.dtype) for w in chosen]
    total = max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.float32)
    remedy = "a negative one would reward large weights, write 1e-4, for example"
    rate = as_scalar(
        "l2", "rate", rate, lambda rate: rate >= 0, "a number >= 0", remedy, dtype=total
    )
    squares = (jnp.sum(jnp.square(w.astype(total))) for w in chosen)
    return rate / 2 * sum(squares, jnp.zeros((), total))


def _matching(leaves, pattern):
    try:
        found = [leaf for path, leaf in leaves if re.fullmatch(pattern, path)]
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"l2: bad pattern: got {pattern!r}, need a regular expression ({error}); write "
            f"'.*kernel', for example"
        ) from error
    if not found:
        some = ", ".join([path for path, _ in leaves[:4]] + ["..."] * (len(leaves) > 4))
        raise ValueError(
            f"l2: the pattern matches nothing: got {pattern!r}, need the whole path of a parameter "
            f"such as {some or '(there are none)'}; write '.*' before and after what may stand "
            f"anywhere"
        )
    return found
