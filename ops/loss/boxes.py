"""Losses of boxes by their overlap: one number for each pair of a predicted and a target box.

All are 1 minus the IoU, plus a term that has a gradient where the boxes do not meet.
"""

from math import pi

import jax
import jax.numpy as jnp
from jax import lax

from ..common.dtypes import accum_dtype, check_floating
from ..detection.boxes import (
    LEAST_SIDE,
    Overlaps,
    box_centers,
    box_sides,
    giou_of,
    iou_of,
    over_area,
    overlaps,
)
from .reduction import Reduction, check_same_shape, full_weights, reduce, safe_divide, zero_masked


def giou_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute 1 minus the generalized IoU of predicted and target boxes.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{C - U}{C}

    with U the area of the union and C that of the smallest box around both.

    Args:
        prediction: ``(..., 4)`` as x1, y1, x2, y2, floating point.
        target: the same shape, floating point.
        weights: non-negative or truth values, of the shape of the leading axes of the losses
            ``(...)``; zero takes a box out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of the weights), "sum" or "none".

    Returns:
        A scalar, or ``(...)`` for "none", in [0, 2]; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match (nothing is broadcast), no last axis of size 4, or an
            unknown `reduction`.
        TypeError: an operand is not floating point.

    Example:
        >>> a = jnp.array([[0.0, 0.0, 1.0, 1.0]])
        >>> giou_loss(a, jnp.array([[3.0, 0.0, 4.0, 1.0]]))
        Array(1.5, dtype=float32)

    Note:
        torchvision's `generalized_box_iou_loss`, which adds 1e-7 to divisors and has reduction
        "none" by default. Boxes without area have loss 1 and no gradient; where edges coincide it
        is the mean of those at both sides. The target is converted to the dtype of the prediction,
        or float32 if that is wider. A mean over an empty batch is NaN.

    References:
        Rezatofighi et al., Generalized intersection over union, arXiv:1902.09630.
    """
    p, t, weights = _boxes("giou_loss", prediction, target, weights)
    return reduce("giou_loss", 1 - giou_of(overlaps(p, t)), weights, reduction)


def diou_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute 1 minus the distance IoU of predicted and target boxes.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{d^2}{c^2}

    with d the distance of the centers and c the diagonal of the smallest box around both.

    Args:
        prediction: ``(..., 4)`` as x1, y1, x2, y2, floating point.
        target: the same shape, floating point.
        weights: as in `giou_loss`.
        reduction: as in `giou_loss`.

    Returns:
        A scalar, or ``(...)`` for "none", in [0, 2]; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, no last axis of size 4, or an unknown `reduction`.
        TypeError: an operand is not floating point.

    Example:
        >>> a = jnp.array([[0.0, 0.0, 3.0, 4.0]])
        >>> diou_loss(a, a + jnp.array([[3.0, 0.0, 3.0, 0.0]]))  # 1 + 3^2 / (6^2 + 4^2)
        Array(1.1730769, dtype=float32)

    Note:
        torchvision's `distance_box_iou_loss`, which adds 1e-7 to divisors.

    References:
        Zheng et al., Distance-IoU loss, arXiv:1911.08287.
    """
    p, t, weights = _boxes("diou_loss", prediction, target, weights)
    return reduce("diou_loss", _diou_loss(p, t, overlaps(p, t)), weights, reduction)


def ciou_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute 1 minus the complete IoU: `diou_loss` and a term of the aspect ratios.

    .. math:: \ell = 1 - \mathrm{IoU} + \frac{d^2}{c^2} + \alpha v, \qquad
        v = \frac{4}{\pi^2} \left( \arctan \frac{w_t}{h_t} - \arctan \frac{w_p}{h_p} \right)^2,
        \qquad \alpha = \frac{v}{1 - \mathrm{IoU} + v}

    Args:
        prediction: ``(..., 4)`` as x1, y1, x2, y2, floating point.
        target: the same shape, floating point.
        weights: as in `giou_loss`.
        reduction: as in `giou_loss`.

    Returns:
        A scalar, or ``(...)`` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match, no last axis of size 4, or an unknown `reduction`.
        TypeError: an operand is not floating point.

    Example:
        >>> a = jnp.array([[0.0, 0.0, 3.0, 4.0]])
        >>> float(ciou_loss(a, a))
        0.0

    Note:
        alpha is a constant of every derivative, as in the paper and in torchvision's
        `complete_box_iou_loss`, which adds 1e-7 to divisors. Sides below 1e-6 pixels count as 1e-6
        in the angles. Where alpha is 0 / 0 it is 0.

    References:
        Zheng et al., Distance-IoU loss, arXiv:1911.08287, section 3.4.
    """
    p, t, weights = _boxes("ciou_loss", prediction, target, weights)
    o = overlaps(p, t)
    angle = lambda boxes: jnp.arctan2(*box_sides(boxes, LEAST_SIDE))  # noqa: E731
    v = 4 / pi**2 * jnp.square(angle(t) - angle(p))
    alpha = lax.stop_gradient(safe_divide(v, 1 - iou_of(o) + v))
    return reduce("ciou_loss", _diou_loss(p, t, o) + alpha * v, weights, reduction)


def _diou_loss(p, t, o: Overlaps):
    (px, py), (tx, ty) = box_centers(p), box_centers(t)
    distance = jnp.square(px - tx) + jnp.square(py - ty)
    return 1 - iou_of(o) + over_area(distance, jnp.sum(jnp.square(o.outer), axis=-1))


def _boxes(name, prediction, target, weights):
    """Return both boxes, zero where the weight is, and the weights."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    check_floating(name, "prediction", prediction)
    check_floating(name, "target", target)
    check_same_shape(name, "prediction", prediction, "target", target)
    if prediction.shape[-1:] != (4,):
        raise ValueError(
            f"{name}: no boxes: got prediction {prediction.shape}, need (..., 4); write "
            f"jnp.stack([x1, y1, x2, y2], axis=-1)"
        )
    dtype = accum_dtype(prediction.dtype)
    weights = full_weights(name, weights, prediction.shape[:-1], dtype)
    p, t = (zero_masked(a.astype(dtype), weights) for a in (prediction, target))
    return p, t, weights
