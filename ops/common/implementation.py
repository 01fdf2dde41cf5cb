"""Whether operations take their fast forms on CPU, or plain `lax`: a switch for the curious.

The fast forms compute the same values by other roads (`conv_cpu`). When a result looks odd, or a
speed is to be compared, the switch turns every one of them off:

    CONVAX_LOWERING=plain convax train ...         for a process

    with ops.lowering("plain"):                    for a block
        ...

A third kind, "lax", is for tools that read programs and know JAX's own operations alone, such as
converters: the same plain forms, with no primitive of ours around them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import jax

Lowering = Literal["fast", "plain", "lax"]
_VARIABLE = "CONVAX_LOWERING"
_chosen: Lowering | None = None


@contextmanager
def lowering(kind: Lowering) -> Iterator[None]:
    """Within the block, compile operations in their fast forms, as plain `lax`, or trace them so.

    What was compiled before is compiled anew, inside the block and behind it, in all threads: JAX's
    caches are cleared, as they know nothing of this switch. To compare both forms, compile ahead of
    time: ``jax.jit(f).lower(x).compile()`` keeps the form it was made in.

    Args:
        kind: "fast", "plain" or "lax"; in the last, derivatives of convolutions are XLA's too.

    Raises:
        ValueError: it is none of them.

    Example:
        >>> with lowering("plain"):
        ...     print(is_plain())
        True
    """
    global _chosen
    before = _chosen
    _chosen = _checked(kind, "lowering")
    jax.clear_caches()
    try:
        yield
    finally:
        _chosen = before
        jax.clear_caches()


def is_plain() -> bool:
    """Whether operations are to be compiled as plain `lax`."""
    return _kind() != "fast"


def is_lax() -> bool:
    """Whether operations are to be traced as plain `lax`, without primitives."""
    return _kind() == "lax"


def _kind() -> Lowering:
    return _chosen or _checked(os.environ.get(_VARIABLE, "fast"), _VARIABLE)


def _checked(kind, name: str) -> Lowering:
    if kind not in get_args(Lowering):
        raise ValueError(f"{name}: got {kind!r}, need 'fast', 'plain' or 'lax'")
    return kind
