"""First values of kernels and biases, from an initializer's name or function."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ... import ops
from ..layer import Params, Shape
from .arguments import check_choice

InitializerName: TypeAlias = Literal[
    "xavier_uniform",
    "xavier_normal",
    "he_uniform",
    "he_normal",
    "lecun_normal",
    "lecun_uniform",
    "zeros",
    "ones",
]
Initializer: TypeAlias = InitializerName | Callable[..., Array]
BiasInitializer: TypeAlias = float | Callable[..., Array]


def params_initializer(
    kernel_init: Initializer, groups: int, bias_init: BiasInitializer | None
) -> Callable[[Array, Shape], Params]:
    """Return the function that makes a layer's first kernel, and its bias if it has one.

    Args:
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        groups: of the convolution; the fan-out of its kernel is divided by them.
        bias_init: the value of every bias, a function ``(key, shape, dtype)``, or None for no bias.

    Returns:
        A function ``(key, shape) -> {"kernel": (*shape), "bias": (Co,)}``, with Co the last of the
        shape. The kernel is drawn from the key itself, a bias from one folded from it.

    Raises:
        ValueError: no initializer has that name; lists the names.
    """
    draw_kernel = _resolve(kernel_init, groups)

    def init(key: Array, shape: Shape) -> Params:
        params = {"kernel": draw_kernel(key, shape, jnp.float32)}
        if callable(bias_init):
            params["bias"] = bias_init(jax.random.fold_in(key, 1), shape[-1:], jnp.float32)
        elif bias_init is not None:
            params["bias"] = jnp.full(shape[-1:], bias_init, jnp.float32)
        return params

    return init


def _resolve(initializer: Initializer, groups: int) -> Callable[..., Array]:
    if callable(initializer):
        return initializer
    check_choice("kernel_init", "name", initializer, ops.INITIALIZERS)
    draw = ops.INITIALIZERS[initializer]
    return lambda key, shape, dtype: draw(key, shape, dtype, groups=groups)
