"""The losses of a segmentation: a mean over pixels, one over images, or a sum of both.

A loss here is called as ``loss(logits, targets, counts, **keywords) -> Terms``: what is evaluated
in batches is put together from sums, see `training.tasks.segmentation.task`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .... import ops
from ..spec import LossSpec


class Terms(NamedTuple):
    """What a loss is the sum of; a part that is None is not in it."""

    pixels: Array | None = None  # (N, H, W), 0 where a pixel does not count: their mean
    images: Array | None = None  # (N, K): their mean
    weight: float = 1.0  # of that of images


def cross_entropy(logits: Array, targets: Array, counts: Array, *, label_smoothing: float) -> Terms:
    """Return `ops.softmax_cross_entropy` of the pixels that count.

    Args:
        logits: ``(N, H, W, K)``.
        targets: ``(N, H, W)``, classes.
        counts: ``(N, H, W)``, which of them count.
        label_smoothing: see `ops.softmax_cross_entropy`.
    """
    return Terms(
        pixels=ops.softmax_cross_entropy(
            logits, targets, weights=counts, label_smoothing=label_smoothing, reduction="none"
        )
    )


def cross_entropy_dice(
    logits: Array,
    targets: Array,
    counts: Array,
    *,
    label_smoothing: float = 0.0,
    dice_weight: float = 1.0,
) -> Terms:
    """Return the cross-entropy of pixels plus `dice_weight` times their `ops.dice_loss`.

    Args:
        logits, targets, counts: as `cross_entropy`.
        label_smoothing: of the labels, for the cross-entropy.
        dice_weight: the weight of the Dice loss, a mean over images and classes; more than 0.
    """
    if not dice_weight > 0:
        raise ValueError(
            f"cross_entropy_dice: dice_weight: got {dice_weight}, need more than 0; "
            'without it write name = "softmax_cross_entropy"'
        )
    pixels = cross_entropy(logits, targets, counts, label_smoothing=label_smoothing).pixels
    return Terms(pixels, dice_terms(logits, targets, counts).images, dice_weight)


def dice_terms(logits: Array, targets: Array, counts: Array, **keywords: Any) -> Terms:
    """Return `ops.dice_loss` of the probabilities, of each image and class."""
    probabilities = ops.softmax(logits.astype(jnp.float32))
    truth = jax.nn.one_hot(targets, logits.shape[-1], dtype=jnp.float32)
    return Terms(
        images=ops.dice_loss(probabilities, truth, mask=counts, reduction="none", **keywords)
    )


def focal_terms(logits: Array, targets: Array, counts: Array, **keywords: Any) -> Terms:
    """Return the mean of `ops.focal_loss` over the classes of each pixel that counts."""
    truth = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    each = ops.focal_loss(logits, truth, weights=counts, reduction="none", **keywords)
    return Terms(pixels=each.mean(axis=-1))


LOSSES = {
    "softmax_cross_entropy": LossSpec(cross_entropy, ops.softmax_cross_entropy),
    "cross_entropy_dice": LossSpec(cross_entropy_dice, cross_entropy_dice),
    "dice": LossSpec(dice_terms, ops.dice_loss),
    "focal": LossSpec(focal_terms, ops.focal_loss),
}
