"""Every task there is, by its name: a line for each, and the one way to make one."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from .classification.spec import CLASSIFICATION
from .detection.spec import DETECTION, INSTANCE_SEGMENTATION
from .embedding.spec import EMBEDDING
from .multilabel.spec import MULTILABEL
from .regression.spec import REGRESSION
from .segmentation.spec import SEGMENTATION
from .spec import TaskSpec

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        CLASSIFICATION,
        SEGMENTATION,
        EMBEDDING,
        MULTILABEL,
        REGRESSION,
        DETECTION,
        INSTANCE_SEGMENTATION,
    )
}


def spec_of(name: str) -> TaskSpec:
    """Return what is known of a task by its name."""
    return TASKS[name]


def make_task(config: Any, classes: int) -> Any:
    """Return the task of a config; see `training.tasks.task.Task`.

    Args:
        config: the experiment.
        classes: how many classes, or values, the data has.
    """
    make = spec_of(config.task).make
    if isinstance(make, str):
        module, _, function = make.partition(":")
        make = getattr(import_module(module, __package__), function)
    task = make(config, classes)
    own = getattr(config, "metrics", None)
    if not own:
        return task
    make_own = import_module(".own_metrics", __package__).make_own_metrics
    return task._replace(more_metrics=make_own(own))


def tasks_where(fits: Callable[[TaskSpec], bool]) -> tuple[str, ...]:
    """Return the names of the tasks that something fits, for a message.

    Example:
        >>> tasks_where(lambda spec: spec.per_pixel)
        ('segmentation',)
    """
    return tuple(name for name, spec in TASKS.items() if fits(spec))


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, with "or" before the last.

    Example:
        >>> listed(("a", "b", "c"))
        '"a", "b" or "c"'
    """
    *others, last = (f'"{name}"' for name in names)
    return f"{', '.join(others)} or {last}" if others else last
