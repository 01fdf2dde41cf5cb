"""The two gradients of convolution, as functions of their own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ..common.dtypes import check_same_dtype
from ..common.padding import Padding
from .geometry import resolve_conv
from .primitive import bind, input_grad_p, kernel_grad_p


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
    r"""Compute the gradient of <g, conv(x, kernel)> in x, the transposed convolution of `g`.

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
    geometry = resolve_conv(name, input_shape, kernel.shape, stride, padding, dilation, groups)
    check_same_dtype(name, "g", g, "kernel", kernel)
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
    r"""Compute the gradient of <g, conv(x, kernel)> in kernel.

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
    geometry = resolve_conv(name, x.shape, kernel_shape, stride, padding, dilation, groups)
    check_same_dtype(name, "x", x, "g", g)
    _check_output(name, g.shape, (x.shape[0], *geometry.output, kernel_shape[-1]))
    return bind(kernel_grad_p, x, g, geometry)


def _check_output(name, got, need):
    if tuple(got) != tuple(need):
        raise ValueError(
            f"{name}: g has not the shape of conv(x, kernel): got {tuple(got)}, need {need}; pass "
            f"the stride, padding, dilation and groups that conv had"
        )
