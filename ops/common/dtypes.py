"""The types of number that the functions take, and those that they accumulate in."""

import jax
import jax.numpy as jnp


def check_floating(name: str, what: str, a: jax.Array) -> None:
    """Raise TypeError for integers and booleans, of which no function here has a derivative."""
    if not jnp.issubdtype(a.dtype, jnp.floating):
        raise TypeError(
            f"{name}: {what} is not floating point: got {a.dtype}, need a float dtype; write "
            f"{what}.astype(jnp.float32)"
        )


def check_same_dtype(name: str, what: str, a: jax.Array, other: str, b: jax.Array) -> None:
    """Raise TypeError for two dtypes: which one is meant is for the caller to say."""
    check_floating(name, what, a)
    if a.dtype != b.dtype:
        raise TypeError(
            f"{name}: dtypes differ: got {what} {a.dtype} and {other} {b.dtype}, need one dtype; "
            f"write {other}.astype({what}.dtype)"
        )


def accum_dtype(dtype) -> jnp.dtype:
    """Return the dtype to accumulate in: float32, or `dtype` itself where that is wider."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)
