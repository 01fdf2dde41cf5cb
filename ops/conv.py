"""Convolution and its two gradients, for one to three spatial axes, channels last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .conv_primitive import Geometry, bind, conv_p, input_grad_p, kernel_grad_p
from .dtype import add_bias, check_same
from .window import Padding, is_int, resolve_windows


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    r"""Cross-correlation of `x` with `kernel`, channels last: what networks call convolution.

    .. math:: y_{n,i,j,o} = b_o + \sum_{u,v,c} x_{n,\,si+du-p,\,sj+dv-p,\,c}\; k_{u,v,c,o}

    with stride s, dilation d, padding p, and x zero outside its range.

    Args:
        x: input, ``(N, *spatial, Ci)`` with one to three spatial axes, floating point.
        kernel: weights, ``(*window, Ci // groups, Co)``, dtype of `x`.
        bias: ``(Co,)``, dtype of `x`, or None.
        stride: step of the window, one int for all spatial axes or one for each.
        padding: "SAME" (the output has ceil(size / stride) elements), "VALID" (none), an int, one
            int per spatial axis, or a pair (low, high) per spatial axis.
        dilation: distance between the taps of the window, one int or one per spatial axis.
        groups: split Ci and Co into this many groups, each convolved by itself; groups=Ci is a
            depthwise convolution.

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

        Differentiable to any order, forward and backward: see `convax.ops.conv_primitive`. On CPU
        a convolution of few channels may spread an infinity or NaN over a whole row of its output
        (`convax.ops.conv_rows`); elsewhere it reaches only the windows it lies in.

    References:
        Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    geometry = _geometry("conv", x.shape, kernel.shape, stride, padding, dilation, groups)
    check_same("conv", "x", x, "kernel", kernel)
    return add_bias("conv", bind(conv_p, x, kernel, geometry), bias)


def conv_input_grad(
    g: jax.Array,
    kernel: jax.Array,
    input_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    r"""Gradient of <g, conv(x, kernel)> in x, also known as transposed convolution of `g`.

    .. math:: \bar x_{n,j,c} = \sum_{u,o} g_{n,\,(j+p-du)/s,\,o}\; k_{u,c,o}

    over those u for which s divides j + p - du.

    Args:
        g: gradient of the output, ``(N, *spatial_out, Co)``.
        kernel: weights, ``(*window, Ci // groups, Co)``, dtype of `g`.
        input_shape: of x, ``(N, *spatial, Ci)``; with a stride, several inputs have one output
            shape.
        stride: as for `conv`, like `padding`, `dilation` and `groups`.
        padding: see `conv`.
        dilation: see `conv`.
        groups: see `conv`.

    Returns:
        An array of `input_shape`, dtype of `g`.

    Raises:
        ValueError: as for `conv`, or `g` has not the shape of its output.
        TypeError: `g` is not floating point, or the dtypes differ.
    """
    g, kernel = jnp.asarray(g), jnp.asarray(kernel)
    name = "conv_input_grad"
    geometry = _geometry(name, input_shape, kernel.shape, stride, padding, dilation, groups)
    check_same(name, "g", g, "kernel", kernel)
    _check_output(name, g.shape, (input_shape[0], *geometry.output, kernel.shape[-1]))
    return bind(input_grad_p, g, kernel, geometry)


def conv_kernel_grad(
    x: jax.Array,
    g: jax.Array,
    kernel_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    r"""Gradient of <g, conv(x, kernel)> in kernel.

    .. math:: \bar k_{u,c,o} = \sum_{n,i} x_{n,\,si+du-p,\,c}\; g_{n,i,o}

    Args:
        x: input, ``(N, *spatial, Ci)``.
        g: gradient of the output, ``(N, *spatial_out, Co)``, dtype of `x`.
        kernel_shape: ``(*window, Ci // groups, Co)``.
        stride: as for `conv`, like `padding`, `dilation` and `groups`.
        padding: see `conv`.
        dilation: see `conv`.
        groups: see `conv`.

    Returns:
        An array of `kernel_shape`, dtype of `x`.

    Raises:
        ValueError: as for `conv`, or `g` has not the shape of its output.
        TypeError: `x` is not floating point, or the dtypes differ.
    """
    x, g = jnp.asarray(x), jnp.asarray(g)
    name = "conv_kernel_grad"
    geometry = _geometry(name, x.shape, kernel_shape, stride, padding, dilation, groups)
    check_same(name, "x", x, "g", g)
    _check_output(name, g.shape, (x.shape[0], *geometry.output, kernel_shape[-1]))
    return bind(kernel_grad_p, x, g, geometry)


def conv_output_shape(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Shape of `conv(x, kernel)`, from the shapes of `x` and `kernel`; raises as `conv` does.

    Example:
        >>> conv_output_shape((8, 28, 28, 1), (5, 5, 1, 6), padding="VALID")
        (8, 24, 24, 6)
    """
    name = "conv_output_shape"
    geometry = _geometry(name, input_shape, kernel_shape, stride, padding, dilation, groups)
    return (input_shape[0], *geometry.output, kernel_shape[-1])


def _geometry(name, x_shape, k_shape, stride, padding, dilation, groups) -> Geometry:
    _check_shapes(name, tuple(x_shape), tuple(k_shape), groups)
    size, window = tuple(x_shape[1:-1]), tuple(k_shape[:-2])
    windows = resolve_windows(name, size, window, stride=stride, padding=padding, dilation=dilation)
    return Geometry(size, window, groups=groups, **windows._asdict())


def _check_shapes(name, x, kernel, groups):
    got = f"got x {x} and kernel {kernel} with groups={groups!r}"
    if len(x) != len(kernel) or len(x) not in (3, 4, 5):
        raise ValueError(
            f"{name}: wrong rank: {got}, need x (N, *spatial, Ci) and kernel (*window, "
            f"Ci // groups, Co) with the same one to three spatial axes; write x[None] if the "
            f"batch axis is missing, x[..., None] if the channel axis is"
        )
    Ci, Cg, Co = x[-1], kernel[-2], kernel[-1]
    if not is_int(groups) or groups < 1 or Co % groups:
        raise ValueError(
            f"{name}: bad groups: {got}, need a positive int that divides Co={Co}; write groups=1 "
            f"for a full convolution"
        )
    if Ci != Cg * groups:
        if x[1] == Cg * groups:
            remedy = "x looks channels first, write jnp.moveaxis(x, 1, -1)"
        elif Ci % groups:
            remedy = "choose groups that divide Ci"
        else:
            remedy = f"make the kernel {(*kernel[:-2], Ci // groups, Co)}"
        raise ValueError(
            f"{name}: channels do not match: {got}, need x.shape[-1] == kernel.shape[-2] * groups; "
            f"{remedy}"
        )


def _check_output(name, got, need):
    if tuple(got) != tuple(need):
        raise ValueError(
            f"{name}: g has not the shape of conv(x, kernel): got {tuple(got)}, need {need}; pass "
            f"the stride, padding, dilation and groups that conv had"
        )
