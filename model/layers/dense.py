"""The fully connected layer, and `flatten`, which brings images before it."""

from jax import Array

from ... import ops
from ..layer import GLOBAL, POINTWISE, Layer, LayerInfo, Params, Shape, State, stateless
from .arguments import check_positive
from .initialization import (
    BiasInitializer,
    Initializer,
    params_initializer,
)


def dense(
    features: int,
    *,
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
    bias_init: BiasInitializer = 0.0,
) -> Layer:
    """Connect fully along the last axis; see `ops.dense`.

    Args:
        features: output features.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
    """

    check_positive("dense", features=features)

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        init_params = params_initializer(kernel_init, 1, bias_init if bias else None)
        params = init_params(key, (in_shape[-1], features))
        return (*in_shape[:-1], features), params, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return ops.dense(x, params["kernel"], params.get("bias")), state

    return Layer(init, apply, LayerInfo("dense", POINTWISE, linear=True))


def flatten() -> Layer:
    """Reshape ``(N, *spatial, C)`` to ``(N, spatial * C)``, channels fastest."""
    return stateless("flatten", lambda x: x.reshape(x.shape[0], -1), GLOBAL)
