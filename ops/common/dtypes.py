"""Which types of number the functions take, and which they add up in."""

import jax
import jax.numpy as jnp


def check_floating(name: str, what: str, a: jax.Array) -> None:
    """Refuse integers and booleans, of which no function here has a derivative."""
    if not jnp.issubdtype(a.dtype, jnp.floating):
        raise TypeError(
            f"{name}: {what} is not floating point: got {a.dtype}, need a float dtype; write "
            f"{what}.astype(jnp.float32)"
        )


def check_same(name: str, what: str, a: jax.Array, other: str, b: jax.Array) -> None:
    """Refuse two dtypes: which one is meant is for the caller to say."""
    check_floating(name, what, a)
    if a.dtype != b.dtype:
        raise TypeError(
            f"{name}: dtypes differ: got {what} {a.dtype} and {other} {b.dtype}, need one dtype; "
            f"write {other}.astype({what}.dtype)"
        )


def wide(dtype) -> jnp.dtype:
    """The dtype to add up in: float32, or `dtype` itself where that is wider."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)
