"""Dropout of values, and of whole examples: noise that multiplies."""

import jax
import jax.numpy as jnp

from .common.checks import as_scalar, check_key
from .common.dtypes import accum_dtype, check_floating


def dropout(
    x: jax.Array,
    rate: float | jax.Array,
    *,
    train: bool,
    per_channel: bool = False,
    key: jax.Array | None = None,
) -> jax.Array:
    r"""Set each value to zero with probability `rate`, and make up for it in the others.

    .. math:: y_i = \frac{b_i\, x_i}{1 - p}, \qquad P(b_i = 1) = 1 - p, \qquad
        E\, y_i = x_i, \quad \mathrm{Var}\, y_i = \frac{p}{1 - p}\, x_i^2

    so that in evaluation there is nothing to do: y = x. The gradient goes through the same b.

    Args:
        x: input, any shape, floating point.
        rate: p, the probability of dropping, 0 <= p < 1.
        train: whether to drop anything.
        per_channel: drop whole channels of an example, x being ``(N, *spatial, C)``: neighboring
            pixels are so alike that dropping one alone removes little.
        key: `jax.random` key, needed in training. The same key drops the same elements.

    Returns:
        Shape and dtype of `x`. A dropped NaN or infinity is zero.

    Raises:
        ValueError: `rate` out of range, no key in training, or no channels to drop.
        TypeError: `x` is not floating point.

    Example:
        >>> y = dropout(jnp.ones(10_000), 0.5, train=True, key=jax.random.key(0))
        >>> print(jnp.unique(y), abs(y.mean() - 1) < 0.05)
        [0. 2.] True

    Note:
        PyTorch's `dropout`, and with `per_channel` its `dropout1d` to `dropout3d`; it takes a rate
        of 1, which leaves zeros that no factor makes up for.

    References:
        Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR
        2014. Tompson et al., arXiv:1411.4280, for whole channels.
    """
    x, rate = _checked("dropout", x, rate, "a value")
    if per_channel and x.ndim < 2:
        raise ValueError(
            f"dropout: no channels of examples: got x {x.shape} with per_channel=True, need "
            f"(N, *spatial, C); write per_channel=False"
        )
    if not train:
        return x
    key = check_key("dropout", key)
    shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1]) if per_channel else x.shape
    return _drop(x, rate, shape, key)


def stochastic_depth(
    x: jax.Array, rate: float | jax.Array, *, train: bool, key: jax.Array | None = None
) -> jax.Array:
    r"""Set whole examples to zero with probability `rate`, and make up for it in the others.

    .. math:: y_n = \frac{b_n\, x_n}{1 - p}, \qquad P(b_n = 1) = 1 - p

    At the end of a residual branch: the examples that are dropped pass by the block. In evaluation
    there is nothing to do, y = x.

    Args:
        x: input, ``(N, ...)``, floating point.
        rate: p, the probability of dropping an example, 0 <= p < 1.
        train: whether to drop anything.
        key: `jax.random` key, needed in training. The same key drops the same examples.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: `rate` out of range, no key in training, or no examples to drop.
        TypeError: `x` is not floating point.

    Example:
        >>> y = stochastic_depth(jnp.ones((100, 7)), 0.5, train=True, key=jax.random.key(0))
        >>> print(jnp.unique(y), jnp.unique(y.sum(1)))
        [0. 2.] [ 0. 14.]

    Note:
        torchvision's `stochastic_depth` with mode "row", timm's `drop_path`. The paper drops a
        block for the whole batch, and scales in evaluation instead.

    References:
        Huang et al., Deep networks with stochastic depth, arXiv:1603.09382.
    """
    x, rate = _checked("stochastic_depth", x, rate, "an example")
    if x.ndim == 0:
        raise ValueError("stochastic_depth: no examples: got x (), need (N, ...); write x[None]")
    if not train:
        return x
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    return _drop(x, rate, shape, check_key("stochastic_depth", key))


def _checked(name, x, rate, what):
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    rate = as_scalar(
        name,
        "rate",
        rate,
        lambda rate: 0 <= rate < 1,
        f"0 <= rate < 1, the probability of dropping {what}",
        "at 1 nothing is left to scale up by 1 / (1 - rate), write 0.5, for example",
        dtype=accum_dtype(x.dtype),
    )
    return x, rate


def _drop(x, rate, shape, key):
    # A float32 probability draws float32 numbers, and so the same ones whether or not x64 is on.
    kept = jax.random.bernoulli(key, jnp.float32(1 - rate), shape)
    scaled = (x.astype(accum_dtype(x.dtype)) / (1 - rate)).astype(x.dtype)
    return jnp.where(kept, scaled, jnp.zeros((), x.dtype))
