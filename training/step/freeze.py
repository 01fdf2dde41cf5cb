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


def freeze_statistics(new: Any, old: Any, frozen: Frozen) -> Any:
    """Return the `new` state after a step, in which what is frozen is as in the `old`."""
    return map_named(lambda path, before, after: before if frozen(path) else after, old, new)
