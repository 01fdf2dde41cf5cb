"""The three convolutions in XLA's own operations, for every platform.

They are convolutions with channels last in and out, the arrays transposed explicitly. What
differentiating `lax.conv_general_dilated` gives, a convolution with permuted dimension numbers, is
as fast on CPU by itself, but inside a loop or a branch falls to an emitter up to a hundred times
slower.
"""

import jax
import jax.numpy as jnp
from jax import lax

from ..common.dtypes import accum_dtype
from .geometry import Geometry


def xla_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute y = dT/dg: x correlated with k.

    Args:
        x: input, ``(N, *size, Ci)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(N, *output, Co)``, dtype of `x`; added up in float32 at least.
    """
    return _channels_last_conv(
        x,
        k,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
    )


def xla_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gx = dT/dx: g, dilated by the stride, correlated with the flipped kernel.

    Args:
        g: gradient of the output, ``(N, *output, Co)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `g`.
        geometry: of the convolution.

    Returns:
        ``(N, *size, Ci)``, dtype of `g`; added up in float32 at least.
    """
    k = swap_in_and_out(k, geometry.groups)
    padding = []
    for i, w, o, s, d, (low, _) in geometry.axes:
        before = d * (w - 1) - low
        after = i + low - ((o - 1) * s + 1)  # so that the output has the size of x
        padding.append((before, after))
    return _channels_last_conv(
        g,
        lax.rev(k, tuple(range(len(geometry.window)))),
        window_strides=(1,) * len(geometry.window),
        padding=padding,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
    )


def xla_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gk = dT/dk: x correlated with g, the batch being the channel summed over.

    Args:
        x: input, ``(N, *size, Ci)``.
        g: gradient of the output, ``(N, *output, Co)``, dtype of `x`.
        geometry: of the convolution.

    Returns:
        ``(*window, Ci // groups, Co)``, dtype of `x`; added up in float32 at least.
    """
    N, Ci, Co, G = x.shape[0], x.shape[-1] // geometry.groups, g.shape[-1], geometry.groups
    if N == 0:  # a sum over nothing, which XLA has no convolution for
        return jnp.zeros((*geometry.window, Ci, Co), x.dtype)
    if G == 1:
        x = jnp.swapaxes(x, 0, -1)  # (Ci, *size, N)
    else:
        x, g = (_replicate(a) for a in (x, g))  # groups and a batch shared out do not merge
        x = jnp.swapaxes(x.reshape(N, *geometry.size, G, Ci), 0, -1)
        x = x.reshape(Ci, *geometry.size, G * N)
    padding = []
    for i, w, o, s, d, (low, _) in geometry.axes:
        after = d * (w - 1) + (o - 1) * s + 1 - i - low  # so that the output has the size of k
        padding.append((low, after))
    gk = _channels_last_conv(
        x,
        jnp.moveaxis(g, 0, -2),  # (*output, N, Co)
        window_strides=geometry.dilation,
        padding=padding,
        rhs_dilation=geometry.stride,
        feature_group_count=G,
        out_sharding=_replicated_spec(x),
    )
    return jnp.moveaxis(gk, 0, -2)  # (*window, Ci, Co)


def swap_in_and_out(k: jax.Array, groups: int) -> jax.Array:
    """Swap the channels of a kernel within each group.

    Args:
        k: ``(*window, Ci // groups, Co)``.
        groups: into which Ci and Co are split.

    Returns:
        ``(*window, Co // groups, Ci)``.
    """
    *window, Ci, Co = k.shape
    k = k.reshape(*window, Ci, groups, Co // groups)
    return jnp.swapaxes(k, -3, -1).reshape(*window, Co // groups, groups * Ci)


def _channels_last_conv(lhs, rhs, **parameters):
    """Convolve NHWC with HWIO into NHWC; types below float32 are added up in float32."""
    spatial = "DHW"[5 - lhs.ndim :]
    out = lax.conv_general_dilated(
        lhs,
        rhs,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        preferred_element_type=accum_dtype(lhs.dtype),
        **parameters,
    )
    return out.astype(lhs.dtype)


def is_sharded(x: jax.Array) -> bool:
    """Return whether explicit sharding has put parts of it on several devices."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def _replicated_spec(x):
    """Return where a sum over an axis goes: explicit sharding wants that to be said."""
    return jax.P(*(None,) * x.ndim) if is_sharded(x) else None


def _replicate(x):
    return jax.sharding.reshard(x, _replicated_spec(x)) if is_sharded(x) else x
