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

Each is lowered to XLA's own convolution (`conv_plain`), and on CPU to the fastest of several forms
(`conv_cpu`).

References:
    Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .conv_cpu import cpu_conv, cpu_input_grad, cpu_kernel_grad
from .conv_geometry import Geometry
from .conv_plain import plain_conv, plain_input_grad, plain_kernel_grad

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


def _define(primitive: Primitive, shape: Callable, lowering: Callable, on_cpu: Callable):
    """Give a primitive its type rule, its lowerings and its eager evaluation."""

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
    cpu = mlir.lower_fun(on_cpu, multiple_results=False)
    mlir.register_lowering(primitive, cpu, platform="cpu")


_define(
    conv_p,
    lambda x, k, geo: (x[0], *geo.output, k[-1]),
    plain_conv,
    cpu_conv,
)
_define(
    input_grad_p,
    lambda g, k, geo: (g[0], *geo.size, k[-2] * geo.groups),
    plain_input_grad,
    cpu_input_grad,
)
_define(
    kernel_grad_p,
    lambda x, g, geo: (*geo.window, x[-1] // geo.groups, g[-1]),
    plain_kernel_grad,
    cpu_kernel_grad,
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
