"""The activation layers: each is an op of `convax.ops`; one has parameters."""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import jax.numpy as jnp
from jax import Array

from ... import ops
from ..layer import GLOBAL, POINTWISE, Layer, LayerInfo, Params, Shape, State, stateless
from .arguments import check_choice, check_positive

ActivationName: TypeAlias = Literal[
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "softmax",
]


def relu() -> Layer:
    """Make the layer of `ops.relu`."""
    return activation("relu")


def relu6() -> Layer:
    """Make the layer of `ops.relu6`."""
    return activation("relu6")


def leaky_relu(*, negative_slope: float = 0.01) -> Layer:
    """Make the layer of `ops.leaky_relu`."""
    return stateless("leaky_relu", lambda x: ops.leaky_relu(x, negative_slope), POINTWISE)


def prelu(*, slope: float = 0.25, per_channel: bool = True) -> Layer:
    """Make a leaky_relu that learns its slope; see `ops.prelu`.

    Args:
        slope: where it starts; He et al., arXiv:1502.01852, and PyTorch start at 0.25.
        per_channel: whether each channel has a slope of its own.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        shape = in_shape[-1:] if per_channel else ()
        return in_shape, {"slope": jnp.full(shape, slope, jnp.float32)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return ops.prelu(x, params["slope"]), state

    return Layer(init, apply, LayerInfo("prelu", POINTWISE))


def maxout(num_pieces: int) -> Layer:
    """Take the largest of each `num_pieces` neighboring channels; see `ops.maxout`."""
    check_positive("maxout", num_pieces=num_pieces)
    return stateless("maxout", lambda x: ops.maxout(x, num_pieces), POINTWISE)


def elu(*, alpha: float = 1.0) -> Layer:
    """Make the layer of `ops.elu`."""
    return stateless("elu", lambda x: ops.elu(x, alpha), POINTWISE)


def selu() -> Layer:
    """Make the layer of `ops.selu`."""
    return activation("selu")


def celu(*, alpha: float = 1.0) -> Layer:
    """Make the layer of `ops.celu`."""
    return stateless("celu", lambda x: ops.celu(x, alpha), POINTWISE)


def softplus(*, beta: float = 1.0) -> Layer:
    """Make the layer of `ops.softplus`."""
    return stateless("softplus", lambda x: ops.softplus(x, beta), POINTWISE)


def hardtanh(*, min_val: float = -1.0, max_val: float = 1.0) -> Layer:
    """Make the layer of `ops.hardtanh`."""
    return stateless("hardtanh", lambda x: ops.hardtanh(x, min_val, max_val), POINTWISE)


def hardsigmoid() -> Layer:
    """Make the layer of `ops.hardsigmoid`."""
    return activation("hardsigmoid")


def hardswish() -> Layer:
    """Make the layer of `ops.hardswish`."""
    return activation("hardswish")


def sigmoid() -> Layer:
    """Make the layer of `ops.sigmoid`."""
    return activation("sigmoid")


def tanh() -> Layer:
    """Make the layer of `ops.tanh`."""
    return activation("tanh")


def softmax(*, axis: int = -1) -> Layer:
    """Make the layer of `ops.softmax`, not the last of a classifier: the loss takes logits.

    Args:
        axis: whose elements add up to one: -1, the channels, or another but that of the batch.
    """

    return _along("softmax", ops.softmax, axis)


def gelu(*, approximate: bool = False) -> Layer:
    """Make the layer of `ops.gelu`."""
    return stateless("gelu", lambda x: ops.gelu(x, approximate=approximate), POINTWISE)


def silu() -> Layer:
    """Make the layer of `ops.silu`."""
    return activation("silu")


def mish() -> Layer:
    """Make the layer of `ops.mish`."""
    return activation("mish")


def glu(*, axis: int = -1) -> Layer:
    """Gate the first half of the channels by the second; see `ops.glu`.

    Args:
        axis: -1, the channels, or another but that of the batch.
    """
    return _along("glu", ops.glu, axis)


def activation(name: ActivationName) -> Layer:
    """Make the activation of that name, with its default settings."""
    check_choice("activation", "name", name, get_args(ActivationName))
    return stateless(name, getattr(ops, name), POINTWISE)


def _along(name: str, op: Callable[[Array, int], Array], axis: int) -> Layer:
    """Make the layer of an op along an axis, which must not be that of the batch."""

    def of_examples(x: Array) -> Array:
        if axis == 0 or not -x.ndim < axis < x.ndim:
            raise ValueError(
                f"{name}: bad axis: got {axis} for x {x.shape}, need one from 1 to {x.ndim - 1}, "
                "as 0 is the batch; write -1 for the channels"
            )
        return op(x, axis)

    return stateless(name, of_examples, POINTWISE if axis == -1 else GLOBAL)
