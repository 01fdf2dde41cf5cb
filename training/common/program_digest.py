"""The SHA-256 of what a function computes: of its traced program, whatever its source is."""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...ops.common.implementation import implementation


def program_digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Trace a function, and return the SHA-256 of its program and of the constants in it.

    Two functions that compute the same, operation by operation, have one digest, whichever
    `ops.implementation` is chosen; another number, operation or order of them is another. A later
    JAX may trace the same function otherwise.

    Args:
        function: of arrays, traceable.
        arguments: arrays, or their shapes and dtypes.

    Example:
        >>> x = jax.ShapeDtypeStruct((3,), "float32")
        >>> twice = [program_digest(lambda x: factor * x, x) for factor in (2.0, 2.0)]
        >>> twice[0] == twice[1], twice[0] == program_digest(lambda x: 3.0 * x, x)
        (True, False)
    """
    with implementation("cpu"):  # one for all: which is chosen is part of the trace
        closed = jax.make_jaxpr(function)(*arguments)
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(closed)).encode())
    for constant in _constants(closed):
        array = np.asarray(_plain(constant))
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _constants(closed: Any) -> Iterator[Any]:
    """Yield the constants of a closed program, and of those within it."""
    yield from getattr(closed, "consts", ())
    for equation in getattr(closed, "jaxpr", closed).eqns:
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _constants(inner)


def _plain(constant: Any) -> Any:
    is_key = isinstance(constant, jax.Array) and jnp.issubdtype(constant.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(constant) if is_key else constant
