"""The layers with kernels, `flatten` and dropouts: each an op of `convax.ops`; `layer_scale`."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ... import ops
from ..layer import (
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
    larger_by,
    stateless,
)

Padding: TypeAlias = Literal["SAME", "VALID"] | int | list[int] | list[list[int]]
InitializerName: TypeAlias = Literal[
    "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "lecun_normal", "lecun_uniform"
]
Initializer: TypeAlias = InitializerName | Callable[..., Array]
BiasInitializer: TypeAlias = float | Callable[..., Array]


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
    bias_init: BiasInitializer = 0.0,
) -> Layer:
    """Convolution, 1-D to 3-D by the rank of its input; see `ops.conv`.

    Args:
        features: output channels Co.
        window: kernel size; an int stands for every spatial axis.
        stride, padding, dilation, groups: as in `ops.conv`; no padding by default, as in PyTorch.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
    """
    check_positive(
        "conv", features=features, window=window, stride=stride, dilation=dilation, groups=groups
    )
    options = dict(stride=plain(stride), padding=plain(padding), dilation=plain(dilation))
    convolve = partial(ops.conv, groups=groups, **options)
    seen = Window(plain(window), plain(stride), plain(dilation))
    start = (_initializer(kernel_init, groups), bias_init if bias else None)
    return _convolution("conv", convolve, features, window, groups, start, seen)


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
    bias_init: BiasInitializer = 0.0,
) -> Layer:
    """Transposed convolution, 1-D to 3-D by the rank of its input; see `ops.conv_transpose`.

    Args:
        features: output channels Co.
        window: kernel size; an int stands for every spatial axis.
        stride: how many times larger the output is.
        padding, output_padding, dilation, groups: as in `ops.conv_transpose`; no padding by
            default, as in PyTorch.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
    """
    name = "conv_transpose"
    check_positive(
        name, features=features, window=window, stride=stride, dilation=dilation, groups=groups
    )
    options = dict(stride=plain(stride), padding=plain(padding), dilation=plain(dilation))
    options["output_padding"] = plain(output_padding)
    convolve = partial(ops.conv_transpose, groups=groups, **options)
    start = (_initializer(kernel_init, groups), bias_init if bias else None)
    seen = larger_by(plain(stride), plain(window), plain(dilation))
    return _convolution(name, convolve, features, window, groups, start, seen)


def depthwise_conv(
    window: int | list[int],
    *,
    multiplier: int = 1,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
    bias_init: BiasInitializer = 0.0,
) -> Layer:
    """Each channel convolved by itself; see `ops.depthwise_conv`.

    Args:
        window: kernel size; an int stands for every spatial axis.
        multiplier: how many channels come out of each.
        stride, padding, dilation: as in `ops.conv`; no padding by default, as in PyTorch.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
    """
    name = "depthwise_conv"
    check_positive(name, window=window, multiplier=multiplier, stride=stride, dilation=dilation)
    options = dict(stride=plain(stride), padding=plain(padding), dilation=plain(dilation))
    convolve = partial(ops.depthwise_conv, **options)
    seen = Window(plain(window), plain(stride), plain(dilation))

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        C = in_shape[-1]
        start = (_initializer(kernel_init, C), bias_init if bias else None)
        one = _convolution(name, convolve, C * multiplier, window, C, start, seen)
        return one.init(key, in_shape)

    return Layer(init, _apply_kernel(convolve), About(name, seen))


def dense(
    features: int,
    *,
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
    bias_init: BiasInitializer = 0.0,
) -> Layer:
    """Fully connected layer on the last axis; see `ops.dense`.

    Args:
        features: output features.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
    """

    check_positive("dense", features=features)

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        start = (_initializer(kernel_init), bias_init if bias else None)
        params = _kernel_and_bias(key, (in_shape[-1], features), start)
        return (*in_shape[:-1], features), params, {}

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


def stochastic_depth(rate: float) -> Layer:
    """Drops whole examples in training, for which `apply` needs a key; see `ops.stochastic_depth`.

    At the end of a residual branch.

    Args:
        rate: the probability of dropping an example, 0 <= rate < 1.
    """
    drop = partial(ops.stochastic_depth, rate=rate)
    infer_shape(partial(drop, train=False), (1, 1))
    return drawing("stochastic_depth", drop, POINTWISE)


def layer_scale(*, initial: float = 1e-6) -> Layer:
    r"""Each channel times a learned factor, small at first: at the end of a residual branch.

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

    return Layer(init, apply, About("layer_scale", POINTWISE))


def _convolution(kind, convolve, features, window, groups, start, seen: Window | None) -> Layer:
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
        return out_shape, _kernel_and_bias(key, shape, start), {}

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


def check_choice(function: str, what: str, value: Any, choices: Iterable[Any]) -> None:
    """`value` is one of `choices`.

    Raises:
        ValueError: names the choices.
    """
    choices = list(choices)
    if value not in choices:
        named = ", ".join(map(repr, choices))
        raise ValueError(f"{function}: unknown {what}: got {value!r}, need one of {named}")


def plain(value: Any) -> Any:
    """Lists as tuples: a config writes lists where Python writes tuples."""
    return tuple(map(plain, value)) if isinstance(value, list) else value


def _initializer(initializer: Initializer, groups: int = 1) -> Callable[..., Array]:
    if callable(initializer):
        return initializer
    check_choice("kernel_init", "name", initializer, ops.INITIALIZERS)
    draw = ops.INITIALIZERS[initializer]
    return lambda key, shape, dtype: draw(key, shape, dtype, groups=groups)


def _kernel_and_bias(key: Array, shape: Shape, start: tuple[Any, BiasInitializer | None]) -> Params:
    """`start` has the kernel's initializer and the bias's, which is None where there is none."""
    draw_kernel, bias = start
    params = {"kernel": draw_kernel(key, shape, jnp.float32)}
    if callable(bias):
        params["bias"] = bias(jax.random.fold_in(key, 1), shape[-1:], jnp.float32)
    elif bias is not None:
        params["bias"] = jnp.full(shape[-1:], bias, jnp.float32)
    return params
