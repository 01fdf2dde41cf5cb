"""Hyper-parameters that are numbers: rates, slopes, momenta."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .jax_compat import Tracer


def number(
    name: str, what: str, value, good: Callable[[float], bool], need: str, remedy: str, *, dtype
) -> Any:
    """`value` as a number that changes no dtype: a Python float, or a tracer cast to `dtype`.

    A tracer has no value to check yet. With `dtype` None there may be none: the number has to be
    known when the function is compiled.
    """
    traced = isinstance(value, Tracer)
    if traced and dtype is None:
        raise TypeError(
            f"{name}: {what} is traced: got {value.aval}, need a number known at compile time; "
            f"write jax.jit(..., static_argnames={what!r})"
        )
    check_scalar(name, what, value, good, need, remedy)
    return value.astype(dtype) if traced else float(value)


def check_scalar(
    name: str, what: str, value, good: Callable[[float], bool], need: str, remedy: str
) -> None:
    """Refuse what is no number or out of its range; write `good` so that NaN is refused too."""
    if isinstance(value, Tracer):
        fits = value.ndim == 0
    else:
        numbers = int | float | np.number | np.ndarray | jax.Array
        fits = isinstance(value, numbers) and np.ndim(value) == 0 and good(float(value))
    if not fits:
        got = f"an array {np.shape(value)}" if np.ndim(value) else repr(value)
        raise ValueError(f"{name}: bad {what}: got {got}, need {need}; {remedy}")


def check_key(name: str, key) -> jax.Array:
    """Refuse what is no random key of `jax.random`, nothing most of all."""
    if key is None:
        raise ValueError(
            f"{name}: no random key: got key=None with train=True, need a jax.random key, another "
            f"one for each step; write key=jax.random.key(seed), or train=False"
        )
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == jnp.uint32 and getattr(key, "ndim", 0) == 1
    if not typed and not raw:
        raise TypeError(
            f"{name}: key is no random key: got {key!r}, need one of jax.random; write "
            f"key=jax.random.key(0)"
        )
    return key
