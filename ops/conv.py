"""Convolution and its two gradients, for one to three spatial axes, channels last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .conv_primitive import Geometry, bind, conv_p, input_grad_p, kernel_grad_p
from .window import Padding, resolve_windows


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
    """Cross-correlation of `x` with `kernel`, channels last."""
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    geometry = _geometry("conv", x.shape, kernel.shape, stride, padding, dilation, groups)
    _same_dtype("conv", "x", x, "kernel", kernel)
    y = bind(conv_p, x, kernel, geometry)
    if bias is None:
        return y
    bias = jnp.asarray(bias)
    _same_dtype("conv", "x", x, "bias", bias)
    if bias.shape != kernel.shape[-1:]:
        raise ValueError(
            f"conv: wrong bias shape: got {bias.shape} with kernel {kernel.shape}, need "
            f"{kernel.shape[-1:]}; give one bias per output channel"
        )
    return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


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
    """Gradient of <g, conv(x, kernel)> in x, for an x of shape `input_shape`."""
    g, kernel = jnp.asarray(g), jnp.asarray(kernel)
    name = "conv_input_grad"
    geometry = _geometry(name, input_shape, kernel.shape, stride, padding, dilation, groups)
    _same_dtype(name, "g", g, "kernel", kernel)
    _output_matches(name, g.shape, (input_shape[0], *geometry.output, kernel.shape[-1]))
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
    """Gradient of <g, conv(x, kernel)> in kernel, for a kernel of shape `kernel_shape`."""
    x, g = jnp.asarray(x), jnp.asarray(g)
    name = "conv_kernel_grad"
    geometry = _geometry(name, x.shape, kernel_shape, stride, padding, dilation, groups)
    _same_dtype(name, "x", x, "g", g)
    _output_matches(name, g.shape, (x.shape[0], *geometry.output, kernel_shape[-1]))
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
    """Shape of `conv(x, kernel)` from the shapes of `x` and `kernel`."""
    name = "conv_output_shape"
    geometry = _geometry(name, input_shape, kernel_shape, stride, padding, dilation, groups)
    return (input_shape[0], *geometry.output, kernel_shape[-1])


def _geometry(name, x_shape, k_shape, stride, padding, dilation, groups) -> Geometry:
    x_shape, k_shape = tuple(x_shape), tuple(k_shape)
    if len(x_shape) != len(k_shape) or len(k_shape) not in (3, 4, 5):
        raise ValueError(
            f"{name}: wrong rank: got x {x_shape} and kernel {k_shape}, need x (N, *spatial, Ci) "
            f"and kernel (*window, Ci // groups, Co) with the same one to three spatial axes; "
            f"write x[None] if the batch axis is missing"
        )
    _, *size, Ci = x_shape
    *window, Cig, Co = k_shape
    if groups < 1 or Ci % groups or Co % groups:
        raise ValueError(
            f"{name}: groups must divide the channels: got groups={groups!r} with x {x_shape} and "
            f"kernel {k_shape}, need a positive divisor of Ci={Ci} and of Co={Co}; write groups=1 "
            f"for a full convolution"
        )
    if Cig * groups != Ci:
        hint = (
            "x looks channels first: write jnp.moveaxis(x, 1, -1)"
            if x_shape[1] == Cig * groups
            else f"make the kernel {(*window, Ci // groups, Co)}"
        )
        raise ValueError(
            f"{name}: channels do not match: got x {x_shape} and kernel {k_shape} with "
            f"groups={groups}, need x.shape[-1] == kernel.shape[-2] * groups; {hint}"
        )
    windows = resolve_windows(
        name, size, window, stride=stride, padding=padding, dilation=dilation
    )
    return Geometry(tuple(size), tuple(window), groups=groups, **windows._asdict())


def _same_dtype(name, a_name, a, b_name, b):
    if not jnp.issubdtype(a.dtype, jnp.floating):
        raise TypeError(
            f"{name}: {a_name} is not floating point: got {a.dtype}, need a float dtype; write "
            f"{a_name}.astype(jnp.float32)"
        )
    if a.dtype != b.dtype:
        raise TypeError(
            f"{name}: dtypes differ: got {a_name} {a.dtype} and {b_name} {b.dtype}, need one "
            f"dtype; write {b_name}.astype({a_name}.dtype)"
        )


def _output_matches(name, got, need):
    if tuple(got) != need:
        raise ValueError(
            f"{name}: g has the wrong shape: got {tuple(got)}, need {need}, the shape of "
            f"conv(x, kernel); pass the same stride, padding, dilation and groups as to conv"
        )
