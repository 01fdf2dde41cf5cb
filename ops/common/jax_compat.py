"""JAX's unstable corners, for the whole project: no other file imports what JAX may move.

`jax.core`, `jax.interpreters`, `jax.extend` and `jax._src` promise no stability. What of them the
project needs is named here once, so that a new JAX asks for changes in this file alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Primitive  # pyright: ignore
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

__all__ = [
    "ClosedJaxpr",
    "Jaxpr",
    "Primitive",
    "Tracer",
    "ad",
    "batching",
    "inner_jaxprs",
    "is_exported",
    "is_shared_out",
    "like_varying",
    "match_varying_axes",
    "mlir",
]


def is_exported(ctx: mlir.LoweringRuleContext) -> bool:
    """Return whether what is lowered is to run elsewhere: `jax.export`.

    Args:
        ctx: what a lowering rule is given.
    """
    return ctx.module_context.lowering_parameters.for_export


def is_shared_out(ctx: mlir.LoweringRuleContext) -> bool:
    """Return whether the compiler cuts what is lowered up among devices, with no mesh to go by.

    Args:
        ctx: what a lowering rule is given.
    """
    devices = getattr(ctx.module_context.axis_context, "num_devices", 1)
    return devices > 1 and ctx.avals_in[0].sharding.mesh.empty  # pyright: ignore


def inner_jaxprs(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """Yield the programs that an equation calls: jit, custom derivatives, scan, cond ...

    Args:
        params: of the equation.
    """
    for value in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, (Jaxpr, ClosedJaxpr))


def match_varying_axes(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return `a`, marked inside `shard_map` as varying over every mesh axis that `b` varies over.

    Two operands of a primitive, or what enters a loop and what leaves it, must vary alike.

    Args:
        a: an array of any shape.
        b: an array of any shape, whose varying axes are looked up.

    Returns:
        An array of the shape and values of `a`; outside `shard_map` `a` itself.
    """
    missing = jax.typeof(b).mat.varying - jax.typeof(a).mat.varying
    return lax.pcast(a, tuple(missing), to="varying") if missing else a


def like_varying(shape: tuple[int, ...], a: jax.Array) -> jax.ShapeDtypeStruct:
    """Describe an array of a shape and the dtype of `a` that varies over the mesh axes of `a`.

    Args:
        shape: of the array that is described.
        a: an array of any shape.
    """
    of = jax.typeof(a)
    sharding = NamedSharding(of.sharding.mesh, P())  # within shard_map there is no other mesh
    return jax.ShapeDtypeStruct(shape, a.dtype, sharding=sharding, manual_axis_type=of.mat)  # pyright: ignore
