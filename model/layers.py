"""The layers: each is an op of `convax.ops` with its parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

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
    infer_shape,
    stateless,
)

Padding: TypeAlias = Literal["SAME", "VALID"] | int | list[int] | list[list[int]]
InitializerName: TypeAlias = Literal[
    "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "lecun_normal", "lecun_uniform"
]
Initializer: TypeAlias = InitializerName | Callable[..., Array]
ActivationName: TypeAlias = Literal[
    "relu", "leaky_relu", "elu", "sigmoid", "tanh", "softmax", "gelu", "silu"
]


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
    convolve = partial(
        ops.conv,
        stride=_plain(stride),
        padding=_plain(padding),
        dilation=_plain(dilation),
        groups=groups,
    )

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        if len(in_shape) not in (3, 4, 5):
            raise ValueError(
                f"conv: a batch of 1-D, 2-D or 3-D images is needed: got shape {in_shape}; "
                "write (N, *spatial, Ci), and convolve before flattening"
            )
        spatial = len(in_shape) - 2
        size = (window,) * spatial if isinstance(window, int) else tuple(window)
        shape = (*size, in_shape[-1] // groups, features)
        out_shape = infer_shape(convolve, in_shape, shape)
        draw = _initializer(kernel_init, groups)
        return out_shape, _kernel_and_bias(draw(key, shape, jnp.float32), bias), {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return convolve(x, params["kernel"], params.get("bias")), state

    return Layer(
        init, apply, About("conv", Window(_plain(window), _plain(stride), _plain(dilation)))
    )


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


def max_pool(
    window: int | list[int], *, stride: int | list[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """Maximum over windows; see `ops.max_pool`."""
    return _pool("max_pool", ops.max_pool, window, stride, padding=padding)


def avg_pool(
    window: int | list[int],
    *,
    stride: int | list[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> Layer:
    """Average over windows; see `ops.avg_pool`."""
    return _pool(
        "avg_pool",
        ops.avg_pool,
        window,
        stride,
        padding=padding,
        count_include_pad=count_include_pad,
    )


def flatten() -> Layer:
    """``(N, *spatial, C) -> (N, spatial * C)``, channels fastest."""
    return stateless("flatten", lambda x: x.reshape(x.shape[0], -1), EVERYWHERE)


def relu() -> Layer:
    """See `ops.relu`."""
    return activation("relu")


def leaky_relu(*, negative_slope: float = 0.01) -> Layer:
    """See `ops.leaky_relu`."""
    return stateless("leaky_relu", lambda x: ops.leaky_relu(x, negative_slope), POINTWISE)


def prelu(*, slope: float = 0.25, per_channel: bool = True) -> Layer:
    """A leaky_relu that learns its slope; see `ops.prelu`.

    Args:
        slope: where it starts; He et al., arXiv:1502.01852, and PyTorch start at 0.25.
        per_channel: whether each channel has a slope of its own.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return in_shape, {"slope": jnp.full(in_shape[-1:] if per_channel else (), slope)}, {}

    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return ops.prelu(x, params["slope"]), state

    return Layer(init, apply, About("prelu", POINTWISE))


def maxout(pieces: int) -> Layer:
    """The largest of each `pieces` neighbouring channels; see `ops.maxout`."""
    check_positive("maxout", pieces=pieces)
    return stateless("maxout", lambda x: ops.maxout(x, pieces), POINTWISE)


def elu(*, alpha: float = 1.0) -> Layer:
    """See `ops.elu`."""
    return stateless("elu", lambda x: ops.elu(x, alpha), POINTWISE)


def sigmoid() -> Layer:
    """See `ops.sigmoid`."""
    return activation("sigmoid")


def tanh() -> Layer:
    """See `ops.tanh`."""
    return activation("tanh")


def softmax() -> Layer:
    """See `ops.softmax`. Not the last layer of a classifier: the loss takes logits."""
    return activation("softmax")


def gelu() -> Layer:
    """See `ops.gelu`."""
    return activation("gelu")


def silu() -> Layer:
    """See `ops.silu`."""
    return activation("silu")


def dropout(rate: float, *, per_channel: bool = False) -> Layer:
    """Drops values at random in training, for which `apply` needs a key; see `ops.dropout`.

    Args:
        rate: the probability of dropping a value, 0 <= rate < 1.
        per_channel: drop whole channels of an example.
    """
    drop = partial(ops.dropout, rate=rate, per_channel=per_channel)
    evaluate = partial(drop, train=False)
    infer_shape(evaluate, (1, 1))  # refuses a wrong rate here and now

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return infer_shape(evaluate, in_shape), {}, {}

    def apply(params, state, x, *, train=False, key=None):
        del params
        return drop(x, train=train, key=key), state

    return Layer(init, apply, About("dropout", POINTWISE))


def activation(name: ActivationName) -> Layer:
    """The activation of that name, with its default settings."""
    if name not in get_args(ActivationName):
        raise ValueError(
            f"activation: unknown name: got {name!r}; need one of "
            + ", ".join(get_args(ActivationName))
        )
    return stateless(name, getattr(ops, name), POINTWISE)


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


def _pool(kind, op, window, stride, **options) -> Layer:
    stride = window if stride is None else stride
    check_positive(kind, window=window, stride=stride)
    window, stride = _plain(window), _plain(stride)
    options["padding"] = _plain(options["padding"])
    return stateless(
        kind, lambda x: op(x, window, stride=stride, **options), Window(window, stride)
    )


def _plain(value: Any) -> Any:
    """A config writes lists where Python writes tuples."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value


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
