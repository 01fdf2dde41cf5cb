"""The losses of a classification: of logits ``(N, K)``, one number for each example.

Labels are classes ``(N,)``, or probabilities ``(N, K)`` where images were mixed.
"""

from functools import partial
from typing import Any

import jax
from jax import Array

from .... import ops
from ....ops.common.jax_compat import Tracer
from ..spec import LossSpec


def one_hot_mse(logits: Array, labels: Array, *, label_smoothing: float = 0.0) -> Array:
    """Return `ops.mse_loss` of the one-hot label, smoothed as `ops.smooth_labels` does.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)`` or ``(N, K)``.
        label_smoothing: the share of 1 that goes to all classes alike.

    Returns:
        ``(N,)``, the mean over the classes.
    """
    target = one_hot(logits, labels)
    if isinstance(label_smoothing, Tracer) or label_smoothing:
        target = ops.smooth_labels(target, rate=label_smoothing)
    return ops.mse_loss(logits, target, reduction="none").mean(axis=-1)


def one_hot_huber(logits: Array, labels: Array, **keywords: Any) -> Array:
    """Return the mean of `ops.huber_loss` over the classes, of the one-hot label."""
    return ops.huber_loss(logits, one_hot(logits, labels), reduction="none", **keywords).mean(
        axis=-1
    )


def one_hot_divergence(logits: Array, labels: Array) -> Array:
    """Return `ops.kl_divergence` of the label's probabilities from those of the logits."""
    return ops.kl_divergence(logits, one_hot(logits, labels), reduction="none")


def one_against_rest(logits: Array, labels: Array, **keywords: Any) -> Array:
    """Return the mean of `ops.binary_cross_entropy` over the classes: each is a yes or a no."""
    target = one_hot(logits, labels)
    return ops.binary_cross_entropy(logits, target, reduction="none", **keywords).mean(axis=-1)


def focal_against_rest(logits: Array, labels: Array, **keywords: Any) -> Array:
    """Return the mean of `ops.focal_loss` over the classes: each is a yes or a no."""
    return ops.focal_loss(logits, one_hot(logits, labels), reduction="none", **keywords).mean(
        axis=-1
    )


def one_hot(logits: Array, labels: Array) -> Array:
    """Return the labels as probabilities ``(N, K)``, in the dtype of the logits."""
    if labels.ndim < logits.ndim:
        labels = jax.nn.one_hot(labels, logits.shape[-1])
    return labels.astype(logits.dtype)


LOSSES = {
    "softmax_cross_entropy": LossSpec(
        partial(ops.softmax_cross_entropy, reduction="none"), ops.softmax_cross_entropy
    ),
    "mse": LossSpec(one_hot_mse, one_hot_mse, stated=()),
    "huber": LossSpec(one_hot_huber, ops.huber_loss),
    "kl_divergence": LossSpec(one_hot_divergence, ops.kl_divergence),
    "binary_cross_entropy": LossSpec(one_against_rest, ops.binary_cross_entropy),
    "focal": LossSpec(focal_against_rest, ops.focal_loss),
    "multiclass_hinge": LossSpec(
        partial(ops.multiclass_hinge_loss, reduction="none"),
        ops.multiclass_hinge_loss,
        one_class=True,
    ),
    "multi_margin": LossSpec(
        partial(ops.multi_margin_loss, reduction="none"), ops.multi_margin_loss, one_class=True
    ),
}
