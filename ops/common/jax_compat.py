"""JAX's unstable corners, for the whole project: no other file imports what JAX may move.

`jax.core`, `jax.interpreters`, `jax.extend` and `jax._src` promise no stability. What of them the
project needs is named here once, so that a new JAX asks for changes in this file alone.
"""

import jax
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Primitive  # pyright: ignore
from jax.interpreters import ad, batching, mlir

__all__ = [
    "ClosedJaxpr",
    "Jaxpr",
    "Primitive",
    "Tracer",
    "ad",
    "batching",
    "match_varying_axes",
    "mlir",
]


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
