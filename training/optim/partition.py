"""Other optimizers for other parameters, chosen by the parameter's path; or none: frozen."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..common.pytree_paths import (
    expression_problem,
    map_named,
    matches,
    named_leaves,
    nothing_matches,
)
from ..common.text import plain_line
from .optimizer import Optimizer


def partition(groups: Mapping[str, Optimizer | None], default: Optimizer | None) -> Optimizer:
    """Give each parameter the optimizer of the first regular expression that matches its path.

    Args:
        groups: an optimizer, ours or optax's, for each regular expression; it is held against the
            whole path (`re.fullmatch`), as in `ops.l2`. None freezes what matches: its updates are
            zero, and nothing is remembered about it.
        default: the optimizer of all that no expression matches.

    Returns:
        An `Optimizer`, or optax's type where it has one of optax's; its state is a tuple with the
        state of each optimizer that has parameters, in which the parameters of the others do not
        occur. Keywords of `update`, such as optax's `value`, reach each optimizer.

    Raises:
        ValueError: an expression is none (here), or matches no parameter (in `init`).

    Example:
        >>> from convax.training.optim.optimizer import apply_updates, sgd
        >>> optimizer = partition({"stem/.*": None, ".*/bias": sgd(1.0)}, sgd(0.1))
        >>> params = {"stem": {"kernel": 1.0}, "head": {"kernel": 1.0, "bias": 1.0}}
        >>> params = jax.tree.map(jnp.array, params)
        >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
        >>> jax.tree.map(float, apply_updates(params, updates))["head"]["bias"]
        0.0
        >>> jax.tree.map(float, apply_updates(params, updates))["stem"]
        {'kernel': 1.0}

    Note:
        Anything that looks at the whole gradient, such as `clip_by_global_norm`, belongs in front:
        ``optax.chain(clip_by_global_norm(1.0), partition(...))``. A group sees itself.
        The gradient of what is frozen is computed and then ignored, and counts in that norm;
        `freeze.stop_gradient_on` spares it.
        Unlike `optax.partition` it takes regular expressions, and the state has each parameter
        under its own path, with nothing for what is frozen.
    """
    for pattern in groups:
        if problem := expression_problem(pattern):
            raise ValueError(
                f"partition: bad pattern: got {plain_line(pattern, 80)!r}, need a regular "
                f"expression ({problem}); write '.*/bias', for example"
            )
    optimizers = [*groups.values(), default]
    labeled = partition_by_label(
        lambda path: next((i for i, p in enumerate(groups) if matches(p, path)), len(groups)),
        lambda i: optimizers[i],
    )

    def init(params):
        paths = [path for path, _ in named_leaves(params)]
        for pattern in groups:
            if problem := nothing_matches(pattern, paths):
                raise ValueError(f"partition: {problem}")
        return labeled.init(params)

    kind: Any = Optimizer
    if not all(one is None or isinstance(one, Optimizer) for one in optimizers):
        import optax

        # optax.chain and others give keywords such as value= to this type alone.
        kind = optax.GradientTransformationExtraArgs
    return kind(init, labeled.update)


def partition_by_label(
    label: Callable[[str], Hashable], make: Callable[[Any], Optimizer | None]
) -> Optimizer:
    """Give each parameter the optimizer ``make(label(path))``; equal labels share one.

    Each sees the tree with None in place of the parameters that are not its own, which to JAX are
    no leaves at all: their names stay, and nothing is kept for them.
    """

    def parts(tree):
        """Label -> the optimizer and how to take its part of a tree; in order of appearance."""
        labels = list(dict.fromkeys(label(path) for path, _ in named_leaves(tree)))
        made = ((one, make(one)) for one in labels)
        return [(one, optimizer) for one, optimizer in made if optimizer is not None]

    def part(one, tree):
        return map_named(lambda path, leaf: leaf if label(path) == one else None, tree)

    def init(params):
        return tuple(optimizer.init(part(one, params)) for one, optimizer in parts(params))

    def update(grads, state, params=None, **extra_args):
        trained = parts(grads)
        if len(state) != len(trained):
            raise ValueError(
                f"partition: wrong number of states: got {len(state)}, need {len(trained)}; "
                "pass the state that this optimizer's init or update returned"
            )
        states, updates = [], jax.tree.map(jnp.zeros_like, grads)
        for (one, optimizer), old in zip(trained, state, strict=True):
            its_params = None if params is None else part(one, params)
            moved, new = _extensible(optimizer).update(
                part(one, grads), old, its_params, **extra_args
            )
            updates = _overlaid(updates, moved)
            states.append(new)
        return updates, tuple(states)

    return Optimizer(init, update)


def _extensible(optimizer):
    """Return an optimizer that ignores the keywords that it does not know, as ours do."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    import optax

    return optax.with_extra_args_support(optimizer)


def _overlaid(tree, part):
    """Lay the leaves of `part` over `tree`; where `part` has None the tree's stay."""
    return jax.tree.map(
        lambda new, old: old if new is None else new, part, tree, is_leaf=lambda x: x is None
    )
