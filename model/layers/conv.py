"""The convolution layers: each an op of `convax.ops` with its kernel and bias."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jax import Array

from ... import ops
from ...ops.pad import PaddingMode
from ..layer import Layer, LayerInfo, Params, Shape, State, Window, infer_shape, upsampled_window
from .arguments import Padding, check_positive, to_tuple
from .initialization import (
    BiasInitializer,
    Initializer,
    params_initializer,
)


def conv(
    features: int,
    window: int | list[int],
    *,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
    bias_init: BiasInitializer = 0.0,
    standardize: bool = False,
) -> Layer:
    """Convolve, in 1-D to 3-D by the rank of the input; see `ops.conv`.

    Args:
        features: output channels Co.
        window: kernel size; an int stands for every spatial axis.
        stride, padding, dilation, groups, padding_mode: as in `ops.conv`; no padding by default, as
            in PyTorch.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
        standardize: convolve with `ops.standardize_weights` of the kernel.
    """
    check_positive(
        "conv", features=features, window=window, stride=stride, dilation=dilation, groups=groups
    )
    options = dict(stride=to_tuple(stride), padding=to_tuple(padding), dilation=to_tuple(dilation))
    op = _standardized if standardize else ops.conv
    convolve = partial(op, groups=groups, padding_mode=padding_mode, **options)
    seen = Window(to_tuple(window), to_tuple(stride), to_tuple(dilation))
    init_params = params_initializer(kernel_init, groups, bias_init if bias else None)
    linear = not standardize  # else a batch norm folded into the kernel would be taken out again
    layer = _convolution("conv", convolve, features, window, groups, init_params, seen)
    return layer._replace(info=layer.info._replace(linear=linear))


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
    """Convolve transposed, in 1-D to 3-D by the rank of the input; see `ops.conv_transpose`.

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
    options = dict(stride=to_tuple(stride), padding=to_tuple(padding), dilation=to_tuple(dilation))
    options["output_padding"] = to_tuple(output_padding)
    convolve = partial(ops.conv_transpose, groups=groups, **options)
    init_params = params_initializer(kernel_init, groups, bias_init if bias else None)
    seen = upsampled_window(to_tuple(stride), to_tuple(window), to_tuple(dilation))
    return _convolution(name, convolve, features, window, groups, init_params, seen)


def depthwise_conv(
    window: int | list[int],
    *,
    multiplier: int = 1,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
    padding_mode: PaddingMode = "zeros",
    bias: bool = True,
    kernel_init: Initializer = "he_normal",
    bias_init: BiasInitializer = 0.0,
) -> Layer:
    """Convolve each channel by itself; see `ops.depthwise_conv`.

    Args:
        window: kernel size; an int stands for every spatial axis.
        multiplier: how many channels come out of each.
        stride, padding, dilation, padding_mode: as in `ops.conv`; no padding by default, as in
            PyTorch.
        bias: whether a bias is added.
        kernel_init: a name in `ops.INITIALIZERS`, or a function ``(key, shape, dtype)``.
        bias_init: what each bias is at first, or a function ``(key, shape, dtype)``.
    """
    name = "depthwise_conv"
    check_positive(name, window=window, multiplier=multiplier, stride=stride, dilation=dilation)
    options = dict(stride=to_tuple(stride), padding=to_tuple(padding), dilation=to_tuple(dilation))
    convolve = partial(ops.depthwise_conv, padding_mode=padding_mode, **options)
    seen = Window(to_tuple(window), to_tuple(stride), to_tuple(dilation))

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        C = in_shape[-1]
        init_params = params_initializer(kernel_init, C, bias_init if bias else None)
        one = _convolution(name, convolve, C * multiplier, window, C, init_params, seen)
        return one.init(key, in_shape)

    return Layer(init, _apply_kernel(convolve), LayerInfo(name, seen, linear=True))


def _convolution(
    kind, convolve, features, window, groups, init_params, seen: Window | None
) -> Layer:
    """Make the layer of an op that takes a kernel ``(*window, Ci // groups, features)``."""

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
        return out_shape, init_params(key, shape), {}

    return Layer(init, _apply_kernel(convolve), LayerInfo(kind, seen, linear=True))


def _standardized(x: Array, kernel: Array, bias: Array | None = None, **options: Any) -> Array:
    return ops.conv(x, ops.standardize_weights(kernel), bias, **options)


def _apply_kernel(convolve: Callable[..., Array]) -> Callable[..., tuple[Array, State]]:
    def apply(params, state, x, *, train=False, key=None):
        del train, key
        return convolve(x, params["kernel"], params.get("bias")), state

    return apply
