"""Convolution as three JAX primitives, each the transpose of the others.

The scalar <g, conv(x, k)> is linear in each of x, k and g:

    T(x, k, g) = sum_{n,i,u,c,o}  x[n, s i + d u - p, c]  k[u, c, o]  g[n, i, o]

with i the output position, u the tap of the window, s the stride, d the dilation, p the padding
below (x is zero outside its range), and c and o the channels inside each group. Its three partial
derivatives are the three primitives:

    dT/dg = conv(x, k)         y[n, i, o]  = sum_{u,c}  x[n, s i + d u - p, c]  k[u, c, o]
    dT/dx = input_grad(g, k)   gx[n, j, c] = sum_{u,o}  g[n, (j + p - d u) / s, o]  k[u, c, o]
    dT/dk = kernel_grad(x, g)  gk[u, c, o] = sum_{n,i}  x[n, s i + d u - p, c]  g[n, i, o]

(in the second, only those u count for which s divides j + p - d u). Each is bilinear, so its
derivative in one operand is itself with that operand replaced, and the transpose of that is one of
the other two. Hence the three are closed under differentiation of any order, forward and backward.

`vmap` needs nothing new either: a batch axis on one operand folds into an axis that the other
operand does not have, and batch axes on both make one group per batch element.

The lowerings are written as convolutions with channels last in and out, the arrays transposed
explicitly. What differentiating `lax.conv_general_dilated` gives, a convolution with permuted
dimension numbers, is as fast on CPU by itself, but inside a loop or a branch falls to an emitter
up to a hundred times slower.

References:
    Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .dtype import wide


class Geometry(NamedTuple):
    """The static side of a convolution; hashable, as the parameters of a primitive must be."""

    size: tuple[int, ...]  # spatial shape of x
    window: tuple[int, ...]  # spatial shape of k
    output: tuple[int, ...]  # spatial shape of g
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int


# ------------------------------------------------------------------------- the plain lowerings


def plain_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg: x correlated with k."""
    return _channels_last_conv(
        x,
        k,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
    )


def plain_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx: g, with s - 1 zeros between its elements, correlated with the flipped kernel."""
    *_, Ci, Co = k.shape
    G = geometry.groups
    k = k.reshape(*geometry.window, Ci, G, Co // G)
    k = jnp.swapaxes(k, -3, -1).reshape(*geometry.window, Co // G, G * Ci)
    padding = []
    for i, w, o, s, d, (low, _) in zip(*geometry[:-1], strict=True):
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
        feature_group_count=G,
    )


def plain_kernel_grad(x: jax.Array, g: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gk = dT/dk: x correlated with g, the batch being the channel that is summed over."""
    N, Ci, Co, G = x.shape[0], x.shape[-1] // geometry.groups, g.shape[-1], geometry.groups
    if N == 0:  # a sum over nothing, which XLA has no convolution for
        return jnp.zeros((*geometry.window, Ci, Co), x.dtype)
    if G == 1:
        x = jnp.swapaxes(x, 0, -1)  # (Ci, *size, N)
    else:
        x = jnp.swapaxes(x.reshape(N, *geometry.size, G, Ci), 0, -1)
        x = x.reshape(Ci, *geometry.size, G * N)
    padding = []
    for i, w, o, s, d, (low, _) in zip(*geometry[:-1], strict=True):
        after = d * (w - 1) + (o - 1) * s + 1 - i - low  # so that the output has the size of k
        padding.append((low, after))
    gk = _channels_last_conv(
        x,
        jnp.moveaxis(g, 0, -2),  # (*output, N, Co)
        window_strides=geometry.dilation,
        padding=padding,
        rhs_dilation=geometry.stride,
        feature_group_count=G,
        out_sharding=_replicated(x),
    )
    return jnp.moveaxis(gk, 0, -2)  # (*window, Ci, Co)


def _channels_last_conv(lhs, rhs, **parameters):
    """Convolve NHWC with HWIO into NHWC; types below float32 are added up in float32."""
    spatial = "DHW"[5 - lhs.ndim :]
    out = lax.conv_general_dilated(
        lhs,
        rhs,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        preferred_element_type=wide(lhs.dtype),
        **parameters,
    )
    return out.astype(lhs.dtype)


def _replicated(x):
    """Under explicit sharding a sum over a sharded axis must say where its result goes."""
    sharded = any(axis is not None for axis in jax.typeof(x).sharding.spec)
    return jax.P(*(None,) * x.ndim) if sharded else None


# ------------------------------------------------------------------------------ the primitives

conv_p = Primitive("convax_conv")
input_grad_p = Primitive("convax_conv_input_grad")
kernel_grad_p = Primitive("convax_conv_kernel_grad")


def bind(primitive: Primitive, a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    """Apply one of the three primitives; inside `shard_map`, let both operands vary alike."""
    return primitive.bind(_vary_like(a, b), _vary_like(b, a), geometry=geometry)


def _vary_like(a, b):
    missing = jax.typeof(b).mat.varying - jax.typeof(a).mat.varying
    return lax.pcast(a, tuple(missing), to="varying") if missing else a


def _define(primitive: Primitive, shape: Callable, lowering: Callable):
    """Give a primitive its type rule, its lowering and its eager evaluation."""

    def abstract_eval(a, b, *, geometry):
        sharding = a.sharding
        if primitive is kernel_grad_p:  # the batch, which may be sharded, is summed over
            sharding = jax.NamedSharding(sharding.mesh, jax.P(*(None,) * a.ndim))
        out = shape(a.shape, b.shape, geometry)
        return a.update(shape=out, sharding=sharding, weak_type=False)

    @partial(jax.jit, static_argnames="geometry")
    def compiled(a, b, *, geometry):
        return primitive.bind(a, b, geometry=geometry)

    def evaluate(a, b, *, geometry):
        with jax.disable_jit(False):
            return compiled(a, b, geometry=geometry)

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(abstract_eval)
    mlir.register_lowering(primitive, mlir.lower_fun(lowering, multiple_results=False))


_define(conv_p, lambda x, k, geo: (x[0], *geo.output, k[-1]), plain_conv)
_define(input_grad_p, lambda g, k, geo: (g[0], *geo.size, k[-2] * geo.groups), plain_input_grad)
_define(
    kernel_grad_p,
    lambda x, g, geo: (*geo.window, x[-1] // geo.groups, g[-1]),
    plain_kernel_grad,
)

# The transpose in each operand, given the cotangent of the result.
ad.defbilinear(
    conv_p,
    lambda g, x, k, **geo: input_grad_p.bind(g, k, **geo),
    lambda g, x, k, **geo: kernel_grad_p.bind(x, g, **geo),
)
ad.defbilinear(
    input_grad_p,
    lambda x, g, k, **geo: conv_p.bind(x, k, **geo),
    lambda x, g, k, **geo: kernel_grad_p.bind(x, g, **geo),
)
ad.defbilinear(
    kernel_grad_p,
    lambda k, x, g, **geo: input_grad_p.bind(g, k, **geo),
    lambda k, x, g, **geo: conv_p.bind(x, k, **geo),
)


# ------------------------------------------------------------------------------------ batching

# Where each array has its batch, groups and channels once the groups are split off: x and g are
# then (N, *spatial, G, C), and k is (*window, Ci, G, Co).
_AXES = {
    "x": {"N": 0, "G": -2, "Ci": -1},
    "k": {"Ci": -3, "G": -2, "Co": -1},
    "g": {"N": 0, "G": -2, "Co": -1},
}


def _batch(primitive, roles, alone, args, dims, *, geometry):
    """Fold the batch axis into another axis, apply the primitive, and take it out again."""
    axis = "G" if None not in dims else alone[dims[0] is None]
    B = next(a.shape[dim] for a, dim in zip(args, dims, strict=True) if dim is not None)
    G = geometry.groups
    args = [
        a if dim is None else _fold(a, dim, _AXES[role][axis], G)
        for a, dim, role in zip(args, dims, roles[:2], strict=True)
    ]
    if axis == "G":
        geometry = geometry._replace(groups=B * G)
    out = primitive.bind(*args, geometry=geometry)
    return _unfold(out, B, _AXES[roles[-1]][axis], geometry.groups), 0


def _fold(a, dim, axis, groups):
    """Merge axis `dim` into `axis`, which is counted with the groups split off."""
    a = jnp.moveaxis(a, dim, 0)
    a = a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)
    at = axis % (a.ndim - 1)
    a = jnp.moveaxis(a, 0, at)
    a = a.reshape(*a.shape[:at], a.shape[at] * a.shape[at + 1], *a.shape[at + 2 :])
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _unfold(a, B, axis, groups):
    """Split a batch axis of size B out of `axis` and bring it to the front."""
    a = a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)
    at = axis % a.ndim
    a = a.reshape(*a.shape[:at], B, a.shape[at] // B, *a.shape[at + 1 :])
    a = jnp.moveaxis(a, at, 0)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


# Per primitive: the roles of its operands and its result, and the axis that takes the batch if
# only the first or only the second operand has it.
for _primitive, _roles, _alone in (
    (conv_p, "xkg", ("N", "Co")),
    (input_grad_p, "gkx", ("N", "Ci")),
    (kernel_grad_p, "xgk", ("Ci", "Co")),
):
    batching.primitive_batchers[_primitive] = partial(_batch, _primitive, _roles, _alone)
