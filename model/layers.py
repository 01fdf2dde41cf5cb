"""The layers with kernels, `flatten` and `dropout`: each an op of `convax.ops`."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from .. import ops
from .layer import (
    EVERYWHERE,
    POINTWISE,
    About,
    Layer,
    Params,
    Shape,
    State,
    Window,
    drawing,
    infer_shape,
    stateless,
)

Padding: TypeAlias = Literal["SAME", "VALID"] | int | list[int] | list[list[int]]
InitializerName: TypeAlias = Literal[
    "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "lecun_normal", "lecun_uniform"
]
Initializer: TypeAlias = InitializerName | Callable[..., Array]


def conv(
    features: int,
    window: int | list[int],
    *,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
) -> Layer:
    """Convolution, 1-D to 3-D by the rank of its input; see `ops.conv`.

    Args:
        features: output channels Co.
        window: kernel size; an int stands for every spatial axis.
        stride, padding, dilation, groups: as in `ops.conv`; no padding by default, as in PyTorch.
        bias: whether a bias, zero at first, is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
    """
    check_positive(
        "conv", features=features, window=window, stride=stride, dilation=dilation, groups=groups
    )
    options = dict(stride=plain(stride), padding=plain(padding), dilation=plain(dilation))
    convolve = partial(ops.conv, groups=groups, **options)
    seen = Window(plain(window), plain(stride), plain(dilation))
    return _convolution("conv", convolve, features, window, groups, bias, kernel_init, seen)


def conv_transpose(
    features: int,
    window: int | list[int],
    *,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    output_padding: int | list[int] = 0,
    dilation: int | list[int] = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
) -> Layer:
    """Transposed convolution, 1-D to 3-D by the rank of its input; see `ops.conv_transpose`.

    Args:
        features: output channels Co.
        window: kernel size; an int stands for every spatial axis.
        stride: how many times larger the output is.
        padding, output_padding, dilation, groups: as in `ops.conv_transpose`; no padding by
            default, as in PyTorch.
        bias: whether a bias, zero at first, is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
    """
    name = "conv_transpose"
    check_positive(
        name, features=features, window=window, stride=stride, dilation=dilation, groups=groups
    )
    options = dict(stride=plain(stride), padding=plain(padding), dilation=plain(dilation))
    options["output_padding"] = plain(output_padding)
    convolve = partial(ops.conv_transpose, groups=groups, **options)
    return _convolution(name, convolve, features, window, groups, bias, kernel_init, None)


def depthwise_conv(
    window: int | list[int],
    *,
    multiplier: int = 1,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
) -> Layer:
    """Each channel convolved by itself; see `ops.depthwise_conv`.

    Args:
        window: kernel size; an int stands for every spatial axis.
        multiplier: how many channels come out of each.
        stride, padding, dilation: as in `ops.conv`; no padding by default, as in PyTorch.
        bias: whether a bias, zero at first, is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
    """
    name = "depthwise_conv"
    check_positive(name, window=window, multiplier=multiplier, stride=stride, dilation=dilation)
    options = dict(stride=plain(stride), padding=plain(padding), dilation=plain(dilation))
    convolve = partial(ops.depthwise_conv, **options)
    seen = Window(plain(window), plain(stride), plain(dilation))

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        C = in_shape[-1]
        one = _convolution(name, convolve, C * multiplier, window, C, bias, kernel_init, seen)
        return one.init(key, in_shape)

    return Layer(init, _apply_kernel(convolve), About(name, seen))


def dense(features: int, *, bias: bool = True, kernel_init: Initializer = "he_normal") -> Layer:
    """Fully connected layer on the last axis; see `ops.dense`.

    Args:
        features: output features.
        bias: whether a bias, zero at first, is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
    """

    check_positive("dense", features=features)

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        shape = (in_shape[-1], features)
        kernel = _initializer(kernel_init)(key, shape, jnp.float32)
        return (*in_shape[:-1], features), _kernel_and_bias(kernel, bias), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return ops.dense(x, params["kernel"], params.get("bias")), state

    return Layer(init, apply, About("dense", POINTWISE))


def flatten() -> Layer:
    """``(N, *spatial, C) -> (N, spatial * C)``, channels fastest."""
    return stateless("flatten", lambda x: x.reshape(x.shape[0], -1), EVERYWHERE)


def dropout(rate: float, *, per_channel: bool = False) -> Layer:
    """Drops values at random in training, for which `apply` needs a key; see `ops.dropout`.

    Args:
        rate: the probability of dropping a value, 0 <= rate < 1.
        per_channel: drop whole channels of an example.
    """
    drop = partial(ops.dropout, rate=rate, per_channel=per_channel)
    infer_shape(partial(drop, train=False), (1, 1))  # refuses a wrong rate here and now
    return drawing("dropout", drop, POINTWISE)


def _convolution(
    kind, convolve, features, window, groups, bias, kernel_init, seen: Window | None
) -> Layer:
    """The layer of an op that takes a kernel ``(*window, Ci // groups, features)``."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        if len(in_shape) not in (3, 4, 5):
            raise ValueError(
                f"{kind}: a batch of 1-D, 2-D or 3-D images is needed: got shape {in_shape}; "
                "write (N, *spatial, Ci), and convolve before flattening"
            )
        spatial = len(in_shape) - 2
        size = (window,) * spatial if isinstance(window, int) else tuple(window)
        shape = (*size, in_shape[-1] // groups, features)
        out_shape = infer_shape(convolve, in_shape, shape)
        draw = _initializer(kernel_init, groups)
        return out_shape, _kernel_and_bias(draw(key, shape, jnp.float32), bias), {}

    return Layer(init, _apply_kernel(convolve), About(kind, seen))


def _apply_kernel(convolve: Callable[..., Array]) -> Callable[..., tuple[Array, State]]:
    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return convolve(x, params["kernel"], params.get("bias")), state

    return apply


def check_positive(function: str, **values: int | list[int]) -> None:
    """Sizes and strides are positive integers, one or several.

    Raises:
        ValueError: names the first that is not.
    """
    for name, value in values.items():
        several = [value] if isinstance(value, int) else value
        if not several or min(several) < 1 or max(several) >= 2**31:
            raise ValueError(
                f"{function}: bad {name}: got {value}, need a positive integer below 2**31, or a "
                "list of them"
            )


def plain(value: Any) -> Any:
    """Lists as tuples: a config writes lists where Python writes tuples."""
    return tuple(map(plain, value)) if isinstance(value, list) else value


def _initializer(initializer: Initializer, groups: int = 1) -> Callable[..., Array]:
    if callable(initializer):
        return initializer
    if initializer not in ops.INITIALIZERS:
        raise ValueError(
            f"kernel_init: unknown name: got {initializer!r}; need one of "
            + ", ".join(ops.INITIALIZERS)
        )
    draw = ops.INITIALIZERS[initializer]
    return lambda key, shape, dtype: draw(key, shape, dtype, groups=groups)


def _kernel_and_bias(kernel: jax.Array, bias: bool) -> Params:
    features = kernel.shape[-1]
    return {"kernel": kernel} | ({"bias": jnp.zeros(features, kernel.dtype)} if bias else {})
