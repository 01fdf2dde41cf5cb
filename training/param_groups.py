"""``[[optimizer.groups]]``: learning rate, weight decay and freezing by parameter path.

Each key is decided by the first group that matches the parameter's path and states it; what no
group states is as in ``[optimizer]``. So a group that spares the biases from weight decay and one
that freezes the stem do not get in each other's way.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .common.pytree_paths import matches, named_leaves, nothing_matches
from .config.errors import ConfigError
from .config.groups import Group
from .optim.optimizer import Optimizer
from .optim.partition import partition_by_label
from .step.freeze import Frozen


class Settings(NamedTuple):
    """What the groups say of one parameter; None is the optimizer's own."""

    learning_rate_scale: float | None = None
    weight_decay: float | None = None
    frozen: bool = False


def settings_of(groups: Sequence[Group], path: str) -> Settings:
    """Return the settings that `groups` state for the parameter at `path`."""
    stated: dict[str, Any] = {}
    for group in groups:
        if matches(group.match, path):
            stated = group.model_dump(exclude={"match"}, exclude_none=True) | stated
    return Settings(frozen=True) if stated.get("frozen") else Settings(**stated)


def frozen_by(groups: Sequence[Group]) -> Frozen | None:
    """Return a function of a path that tells if it is frozen; None if no group freezes."""
    if not any(group.frozen for group in groups):
        return None
    return lambda path: settings_of(groups, path).frozen


def grouped(
    groups: Sequence[Group], make: Callable[..., Optimizer], schedule: Any, **keywords: Any
) -> Optimizer:
    """Make ``make(schedule, **keywords)``, with the exceptions that groups state."""

    def of(settings: Settings) -> Optimizer | None:
        if settings.frozen:
            return None
        scale, rate, own = settings.learning_rate_scale, schedule, dict(keywords)
        if scale is not None:
            rate = lambda count: scale * schedule(count)  # noqa: E731
        if settings.weight_decay is not None:
            own["weight_decay"] = settings.weight_decay
        return make(rate, **own)

    return partition_by_label(lambda path: settings_of(groups, path), of)


def check_groups(groups: Sequence[Group], params: Any) -> None:
    """Raise unless every group matches a parameter, and something is left to train.

    Raises:
        ConfigError: a line for each group that matches nothing, with paths that are near.
    """
    paths = [path for path, _ in named_leaves(params)]
    found = [(i, nothing_matches(group.match, paths)) for i, group in enumerate(groups)]
    lines = [f"optimizer.groups.{i}.match: {problem}" for i, problem in found if problem]
    if lines:
        raise ConfigError("\n".join(lines))
    frozen = frozen_by(groups)
    if frozen and all(map(frozen, paths)):
        raise ConfigError("optimizer.groups: all parameters are frozen: nothing is left to train")
