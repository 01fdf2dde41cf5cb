"""The layers that regularize: dropouts, and `layer_scale`, which keeps residual branches small."""

from functools import partial

import jax.numpy as jnp
from jax import Array

from ... import ops
from ..layer import POINTWISE, Layer, LayerInfo, Params, Shape, State, infer_shape, stochastic


def dropout(rate: float, *, per_channel: bool = False) -> Layer:
    """Drop values at random in training, for which `apply` needs a key; see `ops.dropout`.

    Args:
        rate: the probability of dropping a value, 0 <= rate < 1.
        per_channel: drop whole channels of an example.
    """
    drop = partial(ops.dropout, rate=rate, per_channel=per_channel)
    infer_shape(partial(drop, train=False), (1, 1))  # refuses a wrong rate here and now
    return stochastic("dropout", drop, POINTWISE)


def stochastic_depth(rate: float) -> Layer:
    """Drop whole examples in training, which needs a key; see `ops.stochastic_depth`.

    At the end of a residual branch.

    Args:
        rate: the probability of dropping an example, 0 <= rate < 1.
    """
    drop = partial(ops.stochastic_depth, rate=rate)
    infer_shape(partial(drop, train=False), (1, 1))
    return stochastic("stochastic_depth", drop, POINTWISE)


def layer_scale(*, initial: float = 1e-6) -> Layer:
    r"""Scale each channel by a learned factor, small at first: at the end of a residual branch.

    .. math:: y_{\ldots,c} = \gamma_c\, x_{\ldots,c}

    Args:
        initial: what each factor is at first.

    References:
        Touvron et al., Going deeper with image transformers, arXiv:2103.17239.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return in_shape, {"scale": jnp.full(in_shape[-1:], initial, jnp.float32)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return x * params["scale"].reshape((1,) * (x.ndim - 1) + (-1,)), state

    return Layer(init, apply, LayerInfo("layer_scale", POINTWISE))
