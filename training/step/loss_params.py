"""A loss that owns parameters, such as ArcFace's direction of each class.

Such a loss is a `Layer` from ``(outputs, targets)`` to losses, whose `init` is given the shape of
the outputs; it has no state. Its parameters stand among the network's, under the name ``loss``, so
that the optimizer, its groups, averages, checkpoints and everything else treat them alike. A
network is used without them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax import Array

from ...model import Layer, LayerValueError
from ...model.combinators import init_part
from ..common.train_state import LOSS

Loss: TypeAlias = Callable[..., Array] | Layer  # ``loss(outputs, targets)``, or a layer of both


def init_loss(loss: Loss, params: Any, key: Array, out_shape: Any) -> Any:
    """Return the parameters of a network with those of its loss among them.

    Args:
        loss: a function, which has none, or a `Layer`.
        params: the network's.
        key: of the network's initialization; the loss draws from its own.
        out_shape: the shape of the network's output, the batch included.

    Raises:
        LayerValueError: a part of the network has the name of the loss, or the loss has a state.
    """
    if not isinstance(loss, Layer):
        return params
    if LOSS in params:
        raise LayerValueError(
            LOSS, "a layer of the network has the name of the loss's parameters; rename the layer"
        )
    of_loss: dict[str, Any] = {}
    state: dict[str, Any] = {}
    init_part(LOSS, loss, key, out_shape, of_loss, state)
    if state:
        raise LayerValueError(LOSS, f"a loss has no state: got {sorted(state[LOSS])}, need none")
    return params | of_loss


def split_loss(loss: Loss, params: Any) -> tuple[Any, Callable[..., Array]]:
    """Split parameters into the network's, and the loss as a function of outputs and targets.

    Args:
        loss: a function, or a `Layer`.
        params: what `init_loss` returned, or the same later in training.

    Returns:
        ``(params, loss)``: parameters for ``net.apply``, and ``loss(outputs, targets)``.
    """
    if not isinstance(loss, Layer):
        return params, loss
    of_loss = params.get(LOSS, {})

    def compute(outputs: Any, targets: Any) -> Array:
        return loss.apply(of_loss, {}, (outputs, targets), train=True)[0]

    return {name: part for name, part in params.items() if name != LOSS}, compute
