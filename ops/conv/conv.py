"""Convolution in its forms, for one to three spatial axes, channels last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ..common.channels import add_bias
from ..common.dtypes import check_same_dtype
from ..common.padding import Padding
from ..pad import PaddingMode, pad_spatial
from .geometry import check_shapes, resolve_conv
from .primitive import bind, conv_p


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> jax.Array:
    r"""Correlate `x` with `kernel`, channels last: what networks call convolution.

    .. math:: y_{n,i,j,o} = b_o + \sum_{u,v,c} x_{n,\,si+du-p,\,sj+dv-p,\,c}\; k_{u,v,c,o}

    with stride s, dilation d, padding p, and x zero outside its range, or what `padding_mode` says.

    Args:
        x: input, ``(N, *spatial, Ci)`` with one to three spatial axes, floating point.
        kernel: weights, ``(*window, Ci // groups, Co)``, dtype of `x`.
        bias: ``(Co,)``, dtype of `x`, or None.
        stride: step of the window, one int for all spatial axes or one for each.
        padding: "SAME" (the output has ceil(size / stride) elements), "VALID" (none), "FULL"
            (dilation * (window - 1) on every side), an int, one int per spatial axis, or a pair
            (low, high) per spatial axis.
        dilation: distance between the taps of the window, one int or one per spatial axis.
        groups: split Ci and Co into this many groups, each convolved by itself; groups=Ci is a
            depthwise convolution.
        padding_mode: what the padding is: "zeros", "reflect", "replicate" or "circular"; see
            `convax.ops.pad`.

    Returns:
        ``(N, *spatial_out, Co)``, dtype of `x`; added up in float32 at least. Along each axis
        o = floor((i + low + high - d (k - 1) - 1) / s) + 1.

    Raises:
        ValueError: rank, channels, groups, stride, padding or dilation are wrong, or the window is
            larger than the padded input; the message names the shapes.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> x = jnp.arange(5.0).reshape(1, 5, 1)
        >>> k = jnp.array([1.0, 0.0, -1.0]).reshape(3, 1, 1)
        >>> conv(x, k, padding="VALID").ravel()
        Array([-2., -2., -2.], dtype=float32)

    Note:
        PyTorch's kernel is ``(Co, Ci // groups, *window)`` and its data ``(N, Ci, *spatial)``: move
        the axes with ``jnp.moveaxis``. Its default is padding 0, ours "SAME". With a stride, "SAME"
        may pad one more below than above the input, which no int in PyTorch does.

        Differentiable to any order, forward and backward: see `convax.ops.conv.primitive`. On CPU
        a convolution of few channels may spread an infinity or NaN over neighbors in a row
        (`convax.ops.conv.cpu.toeplitz_block`), its input gradient over a whole row
        (`convax.ops.conv.cpu.toeplitz_row`), and small groups over some others
        (`convax.ops.conv.cpu.grouped`); elsewhere it reaches only the windows it lies in.

    References:
        Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    return _conv("conv", x, kernel, bias, stride, padding, dilation, groups, padding_mode)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> jax.Array:
    r"""Convolve in the true sense: `conv` with the kernel flipped along every axis.

    .. math:: y_{n,i,o} = b_o + \sum_{u,c} x_{n,\,si+d(K-1-u)-p,\,c}\; k_{u,c,o}

    On one channel, with stride 1 and padding "FULL", it is the convolution of two sequences,
    :math:`(x * k)_i = \sum_u x_{i-u} k_u`, which commutes: x * k = k * x, and associates. Those two
    properties, that cross-correlation lacks, are what the flip is for; a network, which learns its
    kernels, has no use for it.

    Args:
        x: input, ``(N, *spatial, Ci)`` with one to three spatial axes, floating point.
        kernel: weights, ``(*window, Ci // groups, Co)``, dtype of `x`.
        bias: ``(Co,)``, dtype of `x`, or None.
        stride: as for `conv`, like `padding`, `dilation` and `groups`.
        padding: see `conv`.
        dilation: see `conv`.
        groups: see `conv`.
        padding_mode: see `conv`.

    Returns:
        ``(N, *spatial_out, Co)``, dtype of `x`; its shape is that of `conv`.

    Raises:
        ValueError: as for `conv`.
        TypeError: as for `conv`.

    Example:
        >>> x, k = (jnp.array(a).reshape(1, -1, 1) for a in ([1.0, 2.0, 3.0], [1.0, 10.0]))
        >>> convolve(x, k.reshape(-1, 1, 1), padding="FULL").ravel()
        Array([ 1., 12., 23., 30.], dtype=float32)
        >>> convolve(k, x.reshape(-1, 1, 1), padding="FULL").ravel()
        Array([ 1., 12., 23., 30.], dtype=float32)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    kernel = lax.rev(kernel, tuple(range(kernel.ndim - 2)))
    return _conv("convolve", x, kernel, bias, stride, padding, dilation, groups, padding_mode)


def depthwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    padding_mode: PaddingMode = "zeros",
) -> jax.Array:
    r"""Correlate each channel with its own M kernels: `conv` with as many groups as channels.

    .. math:: y_{n,i,\,cM+m} = b_{cM+m} + \sum_u x_{n,\,si+du-p,\,c}\; k_{u,\,0,\,cM+m}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        kernel: weights, ``(*window, 1, C M)``, dtype of `x`.
        bias: ``(C M,)``, dtype of `x`, or None.
        stride: as for `conv`, like `padding` and `dilation`.
        padding: see `conv`.
        dilation: see `conv`.
        padding_mode: see `conv`.

    Returns:
        ``(N, *spatial_out, C M)``, dtype of `x`.

    Raises:
        ValueError: as for `conv`.
        TypeError: as for `conv`.

    Example:
        >>> x = jnp.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])[None]
        >>> depthwise_conv(x, jnp.ones((2, 1, 2)), padding="VALID")[0]
        Array([[ 3., 30.],
               [ 5., 50.]], dtype=float32)

    References:
        Howard et al., MobileNets, arXiv:1704.04861, equation 3.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    _check_depthwise("depthwise_conv", x, kernel)
    name = "depthwise_conv"
    return _conv(name, x, kernel, bias, stride, padding, dilation, x.shape[-1], padding_mode)


def separable_conv(
    x: jax.Array,
    depthwise_kernel: jax.Array,
    pointwise_kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    padding_mode: PaddingMode = "zeros",
) -> jax.Array:
    r"""Convolve by depth and by point: `depthwise_conv` in space, then a 1x1 `conv` over channels.

    .. math:: y_{n,i,o} = b_o + \sum_{c,m} w_{cM+m,\,o}
        \sum_u x_{n,\,si+du-p,\,c}\; k_{u,\,0,\,cM+m}

    It is the convolution whose kernel is the product of the two, with K^2 C M + C M Co weights in
    two dimensions instead of K^2 C Co.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        depthwise_kernel: k, ``(*window, 1, C M)``, dtype of `x`.
        pointwise_kernel: w, ``(1, ..., 1, C M, Co)``, dtype of `x`.
        bias: ``(Co,)``, dtype of `x`, or None.
        stride: of the depthwise convolution, as for `conv`, like `padding` and `dilation`.
        padding: see `conv`.
        dilation: see `conv`.
        padding_mode: see `conv`.

    Returns:
        ``(N, *spatial_out, Co)``, dtype of `x`.

    Raises:
        ValueError: as for `conv`, or the pointwise kernel has a window.
        TypeError: as for `conv`.

    Example:
        >>> x = jnp.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])[None]
        >>> separable_conv(x, jnp.ones((2, 1, 2)), jnp.ones((1, 2, 1)), padding="VALID").ravel()
        Array([33., 55.], dtype=float32)

    References:
        Chollet, Xception, arXiv:1610.02357; Howard et al., MobileNets, arXiv:1704.04861.
    """
    x, depthwise, pointwise = map(jnp.asarray, (x, depthwise_kernel, pointwise_kernel))
    _check_depthwise("separable_conv", x, depthwise)
    if any(k != 1 for k in pointwise.shape[:-2]):
        raise ValueError(
            f"separable_conv: the pointwise kernel has a window: got {pointwise.shape}, need "
            f"{(*(1,) * (x.ndim - 2), depthwise.shape[-1], '...')}; give the window to the "
            f"depthwise kernel, which comes first"
        )
    name = "separable_conv"
    y = _conv(name, x, depthwise, None, stride, padding, dilation, x.shape[-1], padding_mode)
    return _conv(name, y, pointwise, bias, 1, "VALID", 1, 1, "zeros")


def conv_output_shape(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Return the shape of `conv(x, kernel)`, from the shapes of both; raises as `conv` does.

    Example:
        >>> conv_output_shape((8, 28, 28, 1), (5, 5, 1, 6), padding="VALID")
        (8, 24, 24, 6)
    """
    name = "conv_output_shape"
    geometry = resolve_conv(name, input_shape, kernel_shape, stride, padding, dilation, groups)
    return (input_shape[0], *geometry.output, kernel_shape[-1])


def _conv(name, x, kernel, bias, stride, padding, dilation, groups, padding_mode) -> jax.Array:
    geometry = resolve_conv(name, x.shape, kernel.shape, stride, padding, dilation, groups)
    if padding_mode != "zeros":
        x = pad_spatial(name, x, geometry.padding, padding_mode)
        geometry = resolve_conv(name, x.shape, kernel.shape, stride, "VALID", dilation, groups)
    check_same_dtype(name, "x", x, "kernel", kernel)
    return add_bias(name, x, bind(conv_p, x, kernel, geometry), bias)


def _check_depthwise(name, x, kernel):
    """Raise ValueError unless ranks and channels fit; the message knows no groups."""
    if x.ndim not in (3, 4, 5) or kernel.ndim != x.ndim:
        check_shapes(name, x.shape, kernel.shape, 1)  # which says what ranks are wanted
    *window, one, many = kernel.shape
    C = x.shape[-1]
    if one == 1 and C and many % C == 0:
        return
    if one == 1 and x.shape[1] and many % x.shape[1] == 0:
        remedy = "x looks channels first, write jnp.moveaxis(x, 1, -1)"
    elif one == C:
        remedy = f"write kernel.reshape{(*window, 1, one * many)}"
    else:
        remedy = f"make the kernel {(*window, 1, C)}, or a multiple of that"
    raise ValueError(
        f"{name}: channels do not match: got x {x.shape} and kernel {kernel.shape}, need a kernel "
        f"(*window, 1, C * M) with C={C}; {remedy}"
    )
