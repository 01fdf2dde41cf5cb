"""The gradient of a batch: one pure function, around which gradient accumulation can stand."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import Array

from ...model import FrozenStatistics, Layer
from .freeze import Frozen, freeze_statistics, stop_gradient_on
from .loss_params import Loss, split_loss

Metrics: TypeAlias = dict[str, Array]


class BatchGradient(NamedTuple):
    """What a batch says of the parameters it passed through."""

    loss: Array  # (), the mean
    measured: Metrics  # scalars: what training reports beside it
    grads: Any  # in a tree like the parameters
    state: Any  # the network's, after the batch


Gradient: TypeAlias = Callable[..., BatchGradient]


def images_alone(x: Array, targets: Any) -> Array:
    """Give the network the images, and nothing of what they are."""
    del targets
    return x


def make_gradient(
    net: Layer,
    loss: Loss,
    measures: Callable[[Array, Any], Metrics],
    frozen: Frozen | None = None,
    inputs: Callable[[Array, Any], Any] = images_alone,
) -> Gradient:
    """Make ``gradient(params, state, x, targets, key, scale=None) -> BatchGradient``.

    With a `scale` it is the loss times this scale that is differentiated, and the gradients are
    divided by it: the same gradients, but that what lies between loss and parameters is larger.

    Args:
        net: the network.
        loss: ``loss(outputs, targets)``, of each example or of the batch as a whole; or a `Layer`,
            see `training.step.loss_params`.
        measures: ``measures(outputs, targets)``.
        frozen: see `training.step.freeze`.
        inputs: ``inputs(x, targets)``: what the network is given.
    """

    def gradient(
        params: Any, state: Any, x: Array, targets: Any, key: Array, scale: Array | None = None
    ) -> BatchGradient:
        train = True if frozen is None else FrozenStatistics(frozen)

        def objective(params: Any) -> tuple[Array, tuple[Array, Array, Any]]:
            params = params if frozen is None else stop_gradient_on(params, frozen)
            of_net, compute_loss = split_loss(loss, params)
            outputs, after = net.apply(of_net, state, inputs(x, targets), train=train, key=key)
            value = compute_loss(outputs, targets).mean()
            return value if scale is None else value * scale, (value, outputs, after)

        (_, (value, outputs, after)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        if frozen is not None:
            after = freeze_statistics(after, state, frozen)
        if scale is not None:
            grads = jax.tree.map(lambda g: g / scale.astype(g.dtype), grads)
        return BatchGradient(value, measures(outputs, targets), grads, after)

    return gradient
