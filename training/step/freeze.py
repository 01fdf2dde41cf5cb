"""Frozen layers: parameters that are constants of the loss, and statistics that stay.

What is frozen is a predicate on paths, for parameters and state alike: ``frozen("conv1/kernel")``.
A layer whose state is frozen also works in training with the statistics it has, as it will in
evaluation: features that were learned with these statistics stay the same features. Dropout draws
as ever.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from ..common.pytree_paths import map_named

Frozen: TypeAlias = Callable[[str], bool]


def stop_gradient_on(params: Any, frozen: Frozen) -> Any:
    """Return `params`, of which the frozen ones have no gradient: it is zero, and costs nothing.

    Use it inside the function that is differentiated.
    """
    return map_named(
        lambda path, leaf: jax.lax.stop_gradient(leaf) if frozen(path) else leaf, params
    )


def mark(state: Any, frozen: Frozen, prefix: str = "") -> Any:
    """Add a key ``frozen`` to each layer's dict in `state` whose arrays are all frozen.

    To `batch_norm` it says: normalise as in evaluation. It holds no array.
    """
    marked = {
        name: mark(part, frozen, f"{prefix}{name}/") if isinstance(part, dict) else part
        for name, part in state.items()
    }
    arrays = [name for name, part in state.items() if not isinstance(part, dict)]
    if arrays and all(frozen(prefix + name) for name in arrays):
        marked["frozen"] = ()
    return marked


def freeze_statistics(new: Any, old: Any, frozen: Frozen) -> Any:
    """Return the `new` state after a step, with frozen entries as in the `old`."""
    return map_named(
        lambda path, before, after: before if frozen(path) else after, old, _unmarked(new, old)
    )


def _unmarked(new: Any, old: Any) -> Any:
    """Return `new` without the marks: the keys that `old` has."""
    if not isinstance(old, dict):
        return new
    return {name: _unmarked(new[name], part) for name, part in old.items()}
