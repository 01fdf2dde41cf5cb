"""The native kernels as functions of arrays."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ...common.jax_compat import like_varying
from ..geometry import Axis, Geometry

Algorithm = Literal["direct", "winograd", "depthwise"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


def native_conv(
    x: jax.Array, k: jax.Array, *, geometry: Geometry, algorithm: Algorithm
) -> jax.Array:
    """Compute y = dT/dg by a native kernel.

    Args:
        x: input, ``(N, *size, Ci)``, float32, with one or two spatial axes.
        k: kernel, ``(*window, Ci // groups, Co)``, float32.
        geometry: of the convolution, with one group, or with Ci.
        algorithm: "winograd" for windows of 3 x 3 without stride or dilation, "direct" for any;
            for Ci groups and Co = Ci "depthwise", whose windows along the last axis have at most 7
            elements, a stride of at most 2, and no dilation.

    Returns:
        ``(N, *output, Co)``, float32.
    """
    shape = (x.shape[0], *geometry.output, k.shape[-1])
    return _call("conv", algorithm, geometry, (x, 1), (k, 0), (shape, 1))


def native_input_grad(
    g: jax.Array, k: jax.Array, *, geometry: Geometry, algorithm: Algorithm
) -> jax.Array:
    """Compute gx = dT/dx by a native kernel.

    Args:
        g: gradient of the output, ``(N, *output, Co)``, float32.
        k: kernel, as for `native_conv`, like `geometry` and `algorithm`.
        geometry: see `native_conv`.
        algorithm: see `native_conv`.

    Returns:
        ``(N, *size, Ci)``, float32.
    """
    shape = (g.shape[0], *geometry.size, k.shape[-2] * geometry.groups)
    return _call("input_grad", algorithm, geometry, (g, 1), (k, 0), (shape, 1))


def native_kernel_grad(
    x: jax.Array, g: jax.Array, *, geometry: Geometry, algorithm: Algorithm
) -> jax.Array:
    """Compute gk = dT/dk by a native kernel.

    Args:
        x: input, as for `native_conv`, like `geometry` and `algorithm`.
        g: gradient of the output, ``(N, *output, Co)``, float32.
        geometry: see `native_conv`.
        algorithm: see `native_conv`.

    Returns:
        ``(*window, Ci // groups, Co)``, float32.
    """
    shape = (*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1])
    return _call("kernel_grad", algorithm, geometry, (x, 1), (g, 1), (shape, 0))


def _call(kind: str, algorithm: Algorithm, geometry: Geometry, a, b, result) -> jax.Array:
    """Call a kernel with two arrays; each comes with the position of its first spatial axis."""
    axes = geometry.axes
    (a, at_a), (b, at_b), (shape, at) = a, b, result
    if len(axes) == 1:  # one row of an image
        axes = [Axis(1, 1, 1, 1, 1, (0, 0)), *axes]
        a, b = jnp.expand_dims(a, at_a), jnp.expand_dims(b, at_b)
        shape = (*shape[:at], 1, *shape[at:])
    call = jax.ffi.ffi_call(f"convax_{algorithm}_{kind}", like_varying(shape, a))
    y = call(
        a,
        b,
        stride=np.array([axis.stride for axis in axes], np.int64),
        dilation=np.array([axis.dilation for axis in axes], np.int64),
        low=np.array([axis.padding[0] for axis in axes], np.int64),
    )
    return y.reshape(*result[0])
