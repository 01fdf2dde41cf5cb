"""The switch between the implementations of an operation; see `implementation`.

On CPU many operations have implementations of their own, which compute the same values in another
way (`ops.conv.cpu`). When a result looks odd, or speeds are to be compared, the switch chooses:

    auto    the default, what is fastest on each platform: "native" on CPU where the package
            convax-kernels is installed, else "cpu"
    native  the kernels of convax-kernels for convolutions on CPU (`ops.conv.native`), and what
            "cpu" does for all else; without that package a warning, and "cpu"
    native-direct  as native, without Winograd's algorithm, which rounds more
    cpu     own implementations in XLA's operations on CPU, XLA's own elsewhere
    xla     XLA's own operations on every platform, with JAX's derivatives where it has some
    jaxpr   the same, without this package's primitives in the traced program: for tools that read
            programs and know JAX's own primitives alone, such as converters

    CONVAX_LOWERING=xla convax train ...         for a process

    with ops.implementation("xla"):              for a block
        ...

The choice is part of JAX's trace context: `jax.jit` keeps the programs of each choice apart, and
none of them is thrown away.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import jax

Implementation = Literal["auto", "native", "native-direct", "cpu", "xla", "jaxpr"]
_VARIABLE = "CONVAX_LOWERING"
_RENAMED = {"fast": "cpu", "plain": "xla", "lax": "jaxpr"}
_chosen = jax.make_user_context(default_value=None)


@contextmanager
def implementation(name: Implementation) -> Iterator[None]:
    """Choose the implementation of the operations that this thread traces within the block.

    Args:
        name: one of those above; in "jaxpr", derivatives of convolutions are XLA's too.

    Raises:
        ValueError: it is none of them.

    Example:
        >>> with implementation("xla"):
        ...     print(uses_xla())
        True

    Note:
        A function compiled ahead of time, ``jax.jit(f).lower(x).compile()``, keeps the
        implementation it was made with.
    """
    with _chosen(_checked("implementation", name)):
        yield


def uses_xla() -> bool:
    """Return whether operations are to be XLA's own, with primitives of ours or without."""
    return current_implementation() in ("xla", "jaxpr")


def uses_jaxpr() -> bool:
    """Return whether operations are to be traced without primitives of ours."""
    return current_implementation() == "jaxpr"


def current_implementation() -> Implementation:
    """Return the name of the implementation that this thread traces with."""
    return _chosen.value or _checked(_VARIABLE, os.environ.get(_VARIABLE) or "auto")


def _checked(what: str, name) -> Implementation:
    """Return `name`, or raise ValueError unless it is one of the implementations."""
    if name not in get_args(Implementation):
        new = f"; write {_RENAMED[name]!r}" if name in _RENAMED else ""
        *others, last = map(repr, get_args(Implementation))
        raise ValueError(
            f"{what}: unknown implementation: got {name!r}, need {', '.join(others)} or {last}{new}"
        )
    return name
