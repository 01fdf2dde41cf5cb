"""The losses of several classes an image: of logits ``(N, K)``, one number for each example."""

from typing import Any

from jax import Array

from .... import ops
from ..spec import LossSpec


def mean_of_classes(loss: Any) -> Any:
    """Return a loss of each class as one of each example: the mean over the classes."""

    def of_examples(logits: Array, targets: Array, **keywords: Any) -> Array:
        truth = targets.astype(logits.dtype)
        return loss(logits, truth, reduction="none", **keywords).mean(axis=-1)

    return of_examples


LOSSES = {
    "binary_cross_entropy": LossSpec(
        mean_of_classes(ops.binary_cross_entropy), ops.binary_cross_entropy
    ),
    "focal": LossSpec(mean_of_classes(ops.focal_loss), ops.focal_loss),
}
