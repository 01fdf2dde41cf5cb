"""Inside `shard_map`: arrays that differ from device to device, and those that do not."""

import jax
from jax import lax


def vary_like(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a`, varying over the devices wherever `b` does; outside `shard_map` `a` as it is.

    Two operands of a primitive, or what enters a loop and what leaves it, must vary alike.
    """
    missing = jax.typeof(b).mat.varying - jax.typeof(a).mat.varying
    return lax.pcast(a, tuple(missing), to="varying") if missing else a
