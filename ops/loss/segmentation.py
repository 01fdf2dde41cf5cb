"""Losses of whole maps, which know how much of an object is covered."""

import jax
import jax.numpy as jnp

from ..common.dtypes import accum_dtype
from .reduction import (
    Reduction,
    check_number,
    check_targets,
    full_weights,
    reduce,
    safe_divide,
    zero_masked,
)


def dice_loss(
    probabilities: jax.Array,
    target: jax.Array,
    *,
    smooth: float | jax.Array = 1.0,
    squared: bool = False,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the Dice loss: one minus the overlap, per example and channel.

    .. math:: \ell = 1 - \frac{I}{S}, \qquad I = 2 \sum_i p_i t_i + s, \qquad
        S = \sum_i p_i + \sum_i t_i + s, \qquad
        \frac{\partial \ell}{\partial p_i} = \frac{I - 2 t_i S}{S^2}

    with sums over the pixels i. With `squared`, S has squares of p and t, and the derivative is
    :math:`2 (p_i I - t_i S) / S^2`.

    Args:
        probabilities: p, in [0, 1], ``(N, *spatial, C)``, floating point: a sigmoid or softmax.
        target: t, the same shape, floating point: zeros and ones, say.
        smooth: s, zero or more; it keeps the quotient tame where there is next to nothing.
        squared: sum squares in the denominator, as Milletari et al. do (with s = 0).
        mask: truth values, ``(N, *spatial)``: false takes a pixel out, whatever it holds.
        weights: non-negative or truth values, ``(N,)`` or ``(N, C)``: zero takes an example, or
            a channel of it, out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, C)`` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, `smooth` or `reduction` out of range.
        TypeError: `target` is not floating point: class indices, perhaps; `mask` is not boolean.

    Example:
        >>> t = jnp.array([1.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
        >>> print(dice_loss(t, t), dice_loss(1 - t, t))
        0.0 0.8
        >>> print(dice_loss(t.at[0, 0, 0].set(0), t, smooth=0))
        0.3333333

    Note:
        Of nothing against nothing the loss is 0, for s = 0 too. PyTorch has no such loss.

    References:
        Milletari et al., V-Net, arXiv:1606.04797, section 3.
    """
    p, t = jnp.asarray(probabilities), jnp.asarray(target)
    check_targets("dice_loss", "probabilities", p, "target", t)
    if p.ndim < 3:
        raise ValueError(
            f"dice_loss: no spatial axis: got probabilities {p.shape}, need (N, *spatial, C); "
            f"write probabilities[..., None] if it is the channel that is missing"
        )
    check_number("dice_loss", "smooth", smooth, lambda s: s >= 0, "smooth >= 0", 1.0)
    dtype = accum_dtype(p.dtype)
    N, *spatial, C = p.shape
    weights = full_weights("dice_loss", weights, (N, C), dtype)
    keep = None if weights is None else weights.reshape((N,) + (1,) * len(spatial) + (C,))
    p, t = (zero_masked(a.astype(dtype), keep) for a in (p, t))
    if mask is not None:
        mask = jnp.asarray(mask)
        _check_mask(mask, p)
        p, t = zero_masked(p, mask), zero_masked(t, mask)

    axes = tuple(range(1, p.ndim - 1))
    size = (lambda a: jnp.square(a)) if squared else (lambda a: a)
    smooth = jnp.asarray(smooth, dtype)
    overlap = 2 * jnp.sum(p * t, axes) + smooth
    total = jnp.sum(size(p) + size(t), axes) + smooth
    loss = jnp.where(total == 0, 0, 1 - safe_divide(overlap, total))
    return reduce("dice_loss", loss, weights, reduction)


def _check_mask(mask, p):
    if mask.dtype != jnp.bool_:
        raise TypeError(
            f"dice_loss: mask is not boolean: got {mask.dtype} {mask.shape}, need truth values "
            f"{p.shape[:-1]}; write mask != 0"
        )
    if mask.shape != p.shape[:-1]:
        raise ValueError(
            f"dice_loss: wrong mask: got shape {mask.shape} with probabilities {p.shape}, need "
            f"{p.shape[:-1]}; give one truth value per pixel"
        )
