"""The losses of a regression: of values ``(N, V)``, one number for each example."""

from typing import Any

from jax import Array

from .... import ops
from ..spec import LossSpec


def mean_of_values(loss: Any) -> Any:
    """Return a loss of each value as one of each example: the mean over its values."""

    def of_examples(outputs: Array, targets: Array, **keywords: Any) -> Array:
        return loss(outputs, targets, reduction="none", **keywords).mean(axis=-1)

    return of_examples


LOSSES = {
    "mse": LossSpec(mean_of_values(ops.mse_loss), ops.mse_loss),
    "l1": LossSpec(mean_of_values(ops.l1_loss), ops.l1_loss),
    "huber": LossSpec(mean_of_values(ops.huber_loss), ops.huber_loss),
    "smooth_l1": LossSpec(mean_of_values(ops.smooth_l1_loss), ops.smooth_l1_loss),
}
