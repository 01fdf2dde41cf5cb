"""Hyper-parameters that are numbers: rates, slopes, momenta."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .jax_compat import Tracer


def as_scalar(
    name: str, what: str, value, valid: Callable[[float], bool], need: str, remedy: str, *, dtype
) -> Any:
    """Return `value` as a number that changes no dtype: a float, or a tracer cast to `dtype`.

    A tracer has no value to check yet. With `dtype` None there may be none: the number has to be
    known when the function is compiled.

    Args:
        name: of the function whose argument it is.
        what: the name of the argument.
        value: a number, or a scalar array or tracer.
        valid: a predicate; write it so that NaN is refused too.
        need: what the predicate asks for, in words.
        remedy: what to write instead.
        dtype: of a traced result, or None.

    Raises:
        ValueError: no scalar, or out of range.
        TypeError: a tracer where the number has to be known.
    """
    traced = isinstance(value, Tracer)
    if traced and dtype is None:
        raise TypeError(
            f"{name}: {what} is traced: got {value.aval}, need a number known at compile time; "
            f"write jax.jit(..., static_argnames={what!r})"
        )
    check_scalar(name, what, value, valid, need, remedy)
    return value.astype(dtype) if traced else float(value)


def check_scalar(
    name: str, what: str, value, valid: Callable[[float], bool], need: str, remedy: str
) -> None:
    """Raise ValueError unless `value` is one number, and in range where it is known.

    Args:
        name: of the function whose argument it is.
        what: the name of the argument.
        value: a number, or a scalar array or tracer.
        valid: a predicate; write it so that NaN is refused too.
        need: what the predicate asks for, in words.
        remedy: what to write instead.
    """
    if isinstance(value, Tracer):
        fits = value.ndim == 0
    else:
        numbers = int | float | np.number | np.ndarray | jax.Array
        fits = isinstance(value, numbers) and np.ndim(value) == 0 and valid(float(value))
    if not fits:
        got = f"an array {np.shape(value)}" if np.ndim(value) else repr(value)
        raise ValueError(f"{name}: bad {what}: got {got}, need {need}; {remedy}")


def check_key(name: str, key, *, optional: bool = True) -> jax.Array:
    """Return `key`; raise ValueError for None, TypeError unless it is a key of `jax.random`.

    Args:
        name: of the function whose argument it is.
        key: what was given.
        optional: whether the function takes none with train=False, which the message says.
    """
    if key is None:
        got, remedy = (" with train=True", ", or train=False") if optional else ("", "")
        raise ValueError(
            f"{name}: no random key: got key=None{got}, need a jax.random key, another "
            f"one for each step; write key=jax.random.key(seed){remedy}"
        )
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == jnp.uint32 and getattr(key, "ndim", 0) == 1
    if not typed and not raw:
        raise TypeError(
            f"{name}: key is no random key: got {key!r}, need one of jax.random; write "
            f"key=jax.random.key(0)"
        )
    return key


def check_image_rank(name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a shape is (N, *spatial, C) with one to three spatial axes.

    Args:
        name: of the function whose argument x has this shape.
        shape: of x.
    """
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"{name}: wrong rank: got x {shape}, need (N, *spatial, C) with one to three spatial "
            f"axes; write x[None] if the batch axis is missing"
        )
