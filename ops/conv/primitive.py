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

`vmap` needs little more. A batch axis on one operand folds into an axis that the other operand does
not have. Batch axes on both, as of many networks in one program, lead both arrays of a primitive
that is `stacked`, and what is said above holds for each element of the stack (`ops.conv.batching`).

Each is lowered to XLA's own convolution (`ops.conv.xla`), and on CPU to the fastest of several
implementations (`ops.conv.cpu`); on a mesh, to one for each device (`ops.conv.spmd`). Native
kernels are of this machine and know nothing of other devices: programs that are exported never call
them, nor do those that the compiler cuts up among devices by itself.

References:
    Dumoulin & Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from ..common.implementation import current_implementation, uses_jaxpr
from ..common.jax_compat import (
    Primitive,
    ad,
    batching,
    is_exported,
    is_shared_out,
    match_varying_axes,
    mlir,
)
from .batching import fold_batch_axis, stacked_as_groups, stacked_on_cpu, unfold_batch_axis
from .cpu.dispatch import cpu_conv, cpu_input_grad, cpu_kernel_grad
from .geometry import Geometry
from .spmd import on_mesh
from .xla import xla_conv, xla_input_grad, xla_kernel_grad

# ------------------------------------------------------------------------------ the primitives

conv_p = Primitive("convax_conv")
input_grad_p = Primitive("convax_conv_input_grad")
kernel_grad_p = Primitive("convax_conv_kernel_grad")
_XLA: dict[Primitive, Callable[..., jax.Array]] = {}  # what each computes, in XLA's own terms


def bind(primitive: Primitive, a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    """Apply one of the three primitives; inside `shard_map`, let both operands vary alike.

    The chosen `ops.implementation` is a parameter of what is traced; under "jaxpr" there is no
    primitive, but what it computes in XLA's own operations.

    Args:
        primitive: `conv_p`, `input_grad_p` or `kernel_grad_p`.
        a: its first operand: x, g or x.
        b: its second operand: k, k or g, dtype of `a`.
        geometry: of the convolution.

    Returns:
        y, gx or gk.
    """
    if uses_jaxpr():
        return _XLA[primitive](a, b, geometry=geometry)
    a, b = match_varying_axes(a, b), match_varying_axes(b, a)
    impl = current_implementation()
    return primitive.bind(a, b, geometry=geometry, stacked=False, implementation=impl)


def _batch(primitive, roles, sole_batch_axes, args, dims, *, geometry, stacked, implementation):
    """Fold a batch axis of one operand into another axis; make batch axes of both a stack."""
    bind = partial(primitive.bind, geometry=geometry, implementation=implementation)
    B = next(a.shape[dim] for a, dim in zip(args, dims, strict=True) if dim is not None)
    if None in dims:
        axis = sole_batch_axes[dims[0] is None]
        fold = partial(fold_batch_axis, axis=axis, geometry=geometry, stacked=stacked)
        args = [
            a if dim is None else fold(jnp.moveaxis(a, dim, 0), role)
            for a, dim, role in zip(args, dims, roles[:2], strict=True)
        ]
        out = bind(*args, stacked=stacked)
        return unfold_batch_axis(out, B, roles[2], axis, geometry, stacked), 0
    args = [jnp.moveaxis(a, dim, 0) for a, dim in zip(args, dims, strict=True)]
    if stacked:  # a stack of stacks
        args = [a.reshape(-1, *a.shape[2:]) for a in args]
    out = bind(*args, stacked=True)
    return (out.reshape(B, -1, *out.shape[1:]) if stacked else out), 0


def _define(
    primitive: Primitive,
    roles: str,  # of the operands and the result
    sole_batch_axes: tuple[str, str],  # for a batch of the first, of the second operand alone
    shape: Callable,
    xla: Callable,
    cpu: Callable,
):
    """Give a primitive its type rule, its lowerings, its eager evaluation and its `vmap`."""

    def abstract_eval(a, b, *, geometry, stacked, implementation):
        del implementation
        sharding = a.sharding
        if roles[2] == "k":  # the batch, which may be sharded, is summed over
            sharding = jax.NamedSharding(sharding.mesh, jax.P(*(None,) * a.ndim))
        B = a.shape[:stacked]
        out = (*B, *shape(a.shape[stacked:], b.shape[stacked:], geometry))
        return a.update(shape=out, sharding=sharding, weak_type=False)

    @partial(jax.jit, static_argnames=("geometry", "stacked", "implementation"))
    def compiled(a, b, **parameters):
        return primitive.bind(a, b, **parameters)

    def evaluate(a, b, **parameters):
        with jax.disable_jit(False):  # under `disable_jit` a primitive would call itself for ever
            return compiled(a, b, **parameters)

    def lower(impl, impl_of_stack, a, b, *, geometry, stacked):
        if not stacked:
            return on_mesh(impl, roles, a, b, geometry=geometry)
        if a.shape[0] == 0:
            return jnp.zeros((0, *shape(a.shape[1:], b.shape[1:], geometry)), a.dtype)
        return on_mesh(partial(impl_of_stack, roles), roles, a, b, geometry=geometry, batch_ndim=1)

    def lower_to_xla(a, b, *, implementation, **parameters):
        del implementation
        return lower(xla, partial(stacked_as_groups, xla), a, b, **parameters)

    def lower_on_cpu(a, b, *, implementation, **parameters):
        if implementation == "xla":
            return lower_to_xla(a, b, implementation=implementation, **parameters)
        impl = partial(cpu, implementation=implementation)
        return lower(impl, partial(stacked_on_cpu, impl, xla), a, b, **parameters)

    def cpu_rule(ctx, a, b, *, implementation, **parameters):
        if implementation != "xla" and (is_exported(ctx) or is_shared_out(ctx)):
            implementation = "cpu"
        return on_cpu(ctx, a, b, implementation=implementation, **parameters)

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(abstract_eval)
    to_mlir = partial(mlir.lower_fun, multiple_results=False)
    mlir.register_lowering(primitive, to_mlir(lower_to_xla))
    on_cpu = to_mlir(lower_on_cpu)
    mlir.register_lowering(primitive, cpu_rule, platform="cpu")
    batching.primitive_batchers[primitive] = partial(_batch, primitive, roles, sole_batch_axes)
    _XLA[primitive] = xla


_define(
    conv_p,
    "xkg",
    ("N", "Co"),
    lambda x, k, geo: (x[0], *geo.output, k[-1]),
    xla_conv,
    cpu_conv,
)
_define(
    input_grad_p,
    "gkx",
    ("N", "Ci"),
    lambda g, k, geo: (g[0], *geo.size, k[-2] * geo.groups),
    xla_input_grad,
    cpu_input_grad,
)
_define(
    kernel_grad_p,
    "xgk",
    ("Ci", "Co"),
    lambda x, g, geo: (*geo.window, x[-1] // geo.groups, g[-1]),
    xla_kernel_grad,
    cpu_kernel_grad,
)

# The transpose in each operand, given the cotangent of the result.
ad.defbilinear(
    conv_p,
    lambda g, x, k, **parameters: input_grad_p.bind(g, k, **parameters),
    lambda g, x, k, **parameters: kernel_grad_p.bind(x, g, **parameters),
)
ad.defbilinear(
    input_grad_p,
    lambda x, g, k, **parameters: conv_p.bind(x, k, **parameters),
    lambda x, g, k, **parameters: kernel_grad_p.bind(x, g, **parameters),
)
ad.defbilinear(
    kernel_grad_p,
    lambda k, x, g, **parameters: input_grad_p.bind(g, k, **parameters),
    lambda k, x, g, **parameters: conv_p.bind(x, k, **parameters),
)
