"""Convolution as three JAX primitives, each the transpose of the others.

The scalar <g, conv(x, k)> is linear in each of x, k and g:

    T(x, k, g) = sum_{n,i,u,c,o}  x[n, s i + d u - p, c]  k[u, c, o]  g[n, i, o]

with i the output position, u the tap in the window, s the stride, d the dilation, p the padding
below (x is zero outside its range), c and o the channels (inside each group, if there are groups).
Its three partial derivatives are the three primitives:

    dT/dg = conv(x, k)         y[n, i, o]  = sum_{u,c}  x[n, s i + d u - p, c]  k[u, c, o]
    dT/dx = input_grad(g, k)   gx[n, j, c] = sum_{u,o}  g[n, (j + p - d u) / s, o]  k[u, c, o]
    dT/dk = kernel_grad(x, g)  gk[u, c, o] = sum_{n,i}  x[n, s i + d u - p, c]  g[n, i, o]

(in the second, only those u count for which s divides j + p - d u). As each is bilinear, its
derivative in one operand is itself with that operand replaced, and the transpose of that is one of
the other two: six transposes, all at hand. Hence the set is closed under differentiation of any
order, forward and backward.

`vmap` needs nothing new either: a batched operand alone folds its batch axis into an axis that
the other operand does not have, and two batched operands make one group per batch element.

The lowerings are written as channels-last convolutions with the arrays transposed explicitly. A
convolution with permuted dimension numbers, which is what differentiating
`lax.conv_general_dilated` gives, runs on CPU at the same speed by itself, but inside a loop or a
branch falls to an emitter up to a hundred times slower.

References:
    Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
"""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


class Geometry(NamedTuple):
    """The static side of a convolution; hashable, as a parameter of a primitive must be."""

    size: tuple[int, ...]  # spatial shape of x
    window: tuple[int, ...]  # spatial shape of k
    output: tuple[int, ...]  # spatial shape of g
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


# ------------------------------------------------------------------------- the plain lowerings


def plain_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg: cross-correlation of x with k."""
    return _canonical_conv(
        x,
        k,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
    )


def plain_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx: g with s - 1 zeros between its elements, correlated with the flipped kernel."""
    rank = len(geometry.size)
    *_, Ci, Co = k.shape
    G = geometry.groups
    k = k.reshape(*geometry.window, Ci, G, Co // G)
    k = jnp.moveaxis(k, -3, -1)  # (*window, G, Co / G, Ci)
    k = jnp.moveaxis(k, -3, -2).reshape(*geometry.window, Co // G, G * Ci)
    padding = []
    for i, w, o, s, d, (low, _) in _per_axis(geometry):
        below = d * (w - 1) - low
        dilated = (o - 1) * s + 1
        padding.append((below, i + d * (w - 1) - dilated - below))
    return _canonical_conv(
        g,
        lax.rev(k, tuple(range(rank))),
        window_strides=(1,) * rank,
        padding=padding,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        feature_group_count=G,
    )


def plain_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk: x correlated with g, the batch being the channel that is summed over."""
    N, Ci, Co, G = x.shape[0], x.shape[-1], g.shape[-1], geometry.groups
    if N == 0:  # a sum over nothing; XLA has no convolution over zero channels
        return jnp.zeros((*geometry.window, Ci // G, Co), x.dtype)
    x = x.reshape(N, *geometry.size, G, Ci // G)
    x = jnp.moveaxis(jnp.moveaxis(x, 0, -2), -1, 0)  # (Ci / G, *size, G, N)
    x = x.reshape(Ci // G, *geometry.size, G * N)
    padding = []
    for i, w, o, s, d, (low, _) in _per_axis(geometry):
        dilated = (o - 1) * s + 1
        padding.append((low, d * (w - 1) + dilated - i - low))
    gk = _canonical_conv(
        x,
        jnp.moveaxis(g, 0, -2),  # (*output, N, Co)
        window_strides=geometry.dilation,
        padding=padding,
        rhs_dilation=geometry.stride,
        feature_group_count=G,
    )
    return jnp.moveaxis(gk, 0, -2)  # (*window, Ci / G, Co)


def _canonical_conv(lhs, rhs, **parameters):
    """Convolve channels last in and out; below float32, add up in float32 and round once."""
    spatial = "DHW"[-(lhs.ndim - 2) :]
    wide = jnp.promote_types(lhs.dtype, jnp.float32)
    out = lax.conv_general_dilated(
        lhs,
        rhs,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        preferred_element_type=wide,
        **parameters,
    )
    return out.astype(lhs.dtype)


def _per_axis(geometry: Geometry):
    return zip(*geometry[:-1][:3], geometry.stride, geometry.dilation, geometry.padding, strict=True)


# ------------------------------------------------------------------------------ the primitives

# The axes of the three arrays that are not spatial: where each has its batch and channels. In each
# the channel that is split by groups is the last.
_FIRST_AXIS = {"x": "N", "g": "N", "k": "C"}


def _conv_shape(x, k, geometry):
    return (x.shape[0], *geometry.output, k.shape[-1])


def _input_grad_shape(g, k, geometry):
    return (g.shape[0], *geometry.size, geometry.groups * k.shape[-2])


def _kernel_grad_shape(x, g, geometry):
    return (*geometry.window, x.shape[-1] // geometry.groups, g.shape[-1])


conv_p = Primitive("convax_conv")
input_grad_p = Primitive("convax_conv_input_grad")
kernel_grad_p = Primitive("convax_conv_kernel_grad")


def _define(primitive, shape_rule, lowering):
    def abstract_eval(a, b, *, geometry):
        return jax.core.ShapedArray(shape_rule(a, b, geometry), a.dtype)

    @partial(jax.jit, static_argnames="geometry")
    def compiled(a, b, *, geometry):
        return primitive.bind(a, b, geometry=geometry)

    def run(a, b, *, geometry):
        with jax.disable_jit(False):
            return compiled(a, b, geometry=geometry)

    primitive.def_impl(run)
    primitive.def_abstract_eval(abstract_eval)
    mlir.register_lowering(primitive, mlir.lower_fun(lowering, multiple_results=False))


_define(conv_p, _conv_shape, plain_conv)
_define(input_grad_p, _input_grad_shape, plain_input_grad)
_define(kernel_grad_p, _kernel_grad_shape, plain_kernel_grad)

ad.defbilinear(
    conv_p,
    lambda g, x, k, *, geometry: input_grad_p.bind(g, k, geometry=geometry),
    lambda g, x, k, *, geometry: kernel_grad_p.bind(x, g, geometry=geometry),
)
ad.defbilinear(
    input_grad_p,
    lambda x, g, k, *, geometry: conv_p.bind(x, k, geometry=geometry),
    lambda x, g, k, *, geometry: kernel_grad_p.bind(x, g, geometry=geometry),
)
ad.defbilinear(
    kernel_grad_p,
    lambda k, x, g, *, geometry: input_grad_p.bind(g, k, geometry=geometry),
    lambda k, x, g, *, geometry: conv_p.bind(x, k, geometry=geometry),
)


# ------------------------------------------------------------------------------------ batching

# The axes of each array once its groups are split off, spatial axes left out: x and g are
# (N, *spatial, G, C), k is (*window, Ci, G, Co).
_AXES = {
    "x": {"N": 0, "G": -2, "Ci": -1},
    "k": {"Ci": -3, "G": -2, "Co": -1},
    "g": {"N": 0, "G": -2, "Co": -1},
}


def _batch(primitive, roles, fold_alone, args, dims, *, geometry):
    """vmap: fold the batch axis into N, Ci, Co or G, apply the primitive, take it out again."""
    left, right, out = roles
    if dims[0] is None:
        axis = fold_alone[1]
    elif dims[1] is None:
        axis = fold_alone[0]
    else:
        axis = "G"
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    G = geometry.groups
    args = [
        a if d is None else _fold(a, d, _AXES[role][axis], G)
        for a, d, role in zip(args, dims, (left, right), strict=True)
    ]
    if axis == "G":
        geometry = geometry._replace(groups=size * G)
    result = primitive.bind(*args, geometry=geometry)
    return _unfold(result, size, _AXES[out][axis], G)


def _fold(a, batch_axis, axis, groups):
    """Merge the batch axis into `axis` (counted with the groups split off), outermost."""
    a = jnp.moveaxis(a, batch_axis, 0)
    a = a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)
    at = axis if axis >= 0 else a.ndim - 1 + axis
    a = jnp.moveaxis(a, 0, at)
    a = a.reshape(*a.shape[:at], a.shape[at] * a.shape[at + 1], *a.shape[at + 2 :])
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _unfold(a, size, axis, groups):
    """Undo `_fold` on a result: split the batch axis out of `axis` and bring it to the front."""
    if axis == -2:
        groups *= size
    a = a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)
    at = axis % a.ndim
    a = a.reshape(*a.shape[:at], size, a.shape[at] // size, *a.shape[at + 1 :])
    a = jnp.moveaxis(a, at, 0)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1]), 0


batching.primitive_batchers[conv_p] = partial(_batch, conv_p, ("x", "k", "g"), ("N", "Co"))
batching.primitive_batchers[input_grad_p] = partial(
    _batch, input_grad_p, ("g", "k", "x"), ("N", "Ci")
)
batching.primitive_batchers[kernel_grad_p] = partial(
    _batch, kernel_grad_p, ("x", "g", "k"), ("Ci", "Co")
)
