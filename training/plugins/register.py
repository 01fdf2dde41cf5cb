"""Put a function of one's own beside those of convax, under a name that a config can write.

    import convax
    from convax import model

    @convax.register("architecture")
    def plain(classes: int, *, width: int = 8):
        layers = model.conv(width, 3), model.relu(), model.flatten(), model.dense(classes)
        return model.serial(*layers)

With ``[plugins] modules = ["my_nets"]`` in a config, beside whose file that is ``my_nets.py``, its
``[model]`` may say ``name = "plain"``, ``width = 16``.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TypeVar

from ...model import ARCHITECTURES, LAYERS
from ..optim.from_optax import PREFIX
from ..optim.optimizer import OPTIMIZERS
from ..optim.schedules.schedules import SCHEDULES
from ..tasks.registry import TASKS, listed
from ..tasks.spec import GIVEN, LabelKind, LossSpec, TaskSpec
from .tables import (
    AUGMENTATIONS,
    CALLBACKS,
    METRICS,
    REGISTERED,
    SOURCES,
    OwnMetric,
    OwnSource,
    RegistrationError,
    hints_of,
)

Kind = Literal[
    "architecture",
    "layer",
    "optimizer",
    "schedule",
    "loss",
    "data",
    "augmentation",
    "callback",
    "task",
    "metric",
]
F = TypeVar("F", bound=Callable[..., Any])


_FUNCTIONS: dict[str, MutableMapping[str, Callable[..., Any]]] = {
    "architecture": ARCHITECTURES,
    "layer": LAYERS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augmentation": AUGMENTATIONS,
    "callback": CALLBACKS,
}
# The parameters that the program gives, in their order; a config has the others.
_GIVEN: dict[str, tuple[str, ...]] = {
    "architecture": ("classes",),
    "layer": (),
    "optimizer": ("learning_rate",),
    "schedule": ("peak", "steps"),
    "loss": ("outputs", "targets"),
    "data": (),
    "augmentation": ("key", "image"),
    "callback": (),
    "metric": ("outputs", "labels"),
    "task": (),
}
# Keys that tables have besides, by kind.
_TAKEN: dict[str, tuple[str, ...]] = {
    "architecture": ("name",),
    "layer": ("type",),
    "optimizer": ("name", "clip_norm", "clip_value", "groups"),
    "schedule": ("name", "until", "scale"),
    "loss": ("name",),
    "data": ("source", "validation", "test", "stratify", "seed"),
    "augmentation": ("name",),
    "callback": ("name",),
    "metric": ("name",),
    "task": (),
}
_OUR_SOURCES = ("digits", "idx", "cifar", "folder", "csv", "npz", "masks", "coco", "voc", "yolo")
_OURS: dict[str, frozenset[str]] = {kind: frozenset(t) for kind, t in _FUNCTIONS.items()}
_OURS["schedule"] |= {"sequence"}
_OURS |= {"data": frozenset((*_OUR_SOURCES, "scenes", "memory"))}
_OURS |= {
    "metric": frozenset((*(m for spec in TASKS.values() for m in spec.metrics), "count", "split"))
}
_OURS |= {"task": frozenset(TASKS)}
_OUR_LOSSES = {task: frozenset(spec.losses) for task, spec in TASKS.items()}


def register(
    kind: Kind,
    name: str | None = None,
    *,
    task: str | Sequence[str] = "classification",
    labels: LabelKind = "class",
    compares: bool = False,
    one_class: bool = False,
    owns_params: bool = False,
    larger_is_better: bool = True,
) -> Callable[[F], F]:
    """Return a decorator that lets a config name a function.

    The config's table is derived from the function's signature: each parameter that the program
    does not give is a key, of the parameter's type, and optional where it has a default. A function
    that was registered under the same name before is replaced.

    Args:
        kind: what it is, and how it is called:

            - "architecture": ``function(classes, **keys) -> model.Layer``, named in ``[model]``;
            - "layer": ``function(**keys) -> model.Layer``, a ``type`` in ``[[model.layers]]``;
            - "optimizer": ``function(learning_rate, **keys)``, a number or a function of the step,
              to an optimizer of ours or of optax's;
            - "schedule": ``function(peak, steps, **keys)`` to a function of the step;
            - "loss": ``function(outputs, targets, *, **keys)``, of each example ``(N,)``, or with
              `compares` of the batch as a whole, ``()``; with `owns_params` it is
              ``function(**keys) -> model.Layer`` from (outputs, targets) to losses;
            - "data": ``function(**keys) -> training.data.Dataset``, a ``source`` in ``[data]``; the
              keys ``validation``, ``test`` and ``stratify`` are added;
            - "augmentation": ``function(key, image, **keys)`` of a PRNG key and one image
              (H, W, C) in [0, 1] to an image of the same shape, in ``[[augment.custom]]``;
            - "callback": ``function(**keys)``, or a class, to an object that looks on as training
              goes (`training.loop.callbacks`), in ``[[callbacks]]``;
            - "metric": ``function(outputs, labels, **keys)`` of what an evaluation keeps of a split
              (`training.tasks.task`) and its labels, to a number or a dict of numbers, in
              ``[[metrics]]``;
            - "task": ``function() -> training.tasks.spec.TaskSpec``, called at once, in ``task``.

        name: what a config writes; the function's own by default.
        task: of a loss, the task or tasks that it is for.
        labels: of data, what they say of an image, as `training.tasks.spec.TaskSpec.labels`.
        compares, one_class, owns_params: of a loss, see `training.tasks.spec.LossSpec`.
        larger_is_better: of a metric, where a run is to be judged by it.

    Raises:
        RegistrationError: an unknown kind or task, a name that convax uses itself, or a parameter
            that a config cannot give.
    """
    if callable(kind):
        raise RegistrationError('register: say of what kind it is: @convax.register("layer"), say')
    if labels not in typing.get_args(LabelKind):
        known = listed(typing.get_args(LabelKind))
        raise RegistrationError(f"register: got labels {labels!r}; need {known}")
    if kind not in _GIVEN:
        raise RegistrationError(f"register: got kind {kind!r}; need {listed(_GIVEN)}")
    tasks = (task,) if isinstance(task, str) else tuple(task)

    def add(function: F) -> F:
        called = name or function.__name__
        where = f"register: {kind} {called!r}"
        _check_signature(where, kind, function, owns_params=owns_params)
        if called in _OURS.get(kind, ()) or called == GIVEN or called.startswith(PREFIX):
            raise RegistrationError(f"{where}: convax has one of that name; choose another")
        if kind == "loss":
            entry = LossSpec(function, function, (), compares, one_class, owns_params, own=True)
            _add_loss(where, called, entry, tasks)
        elif kind == "data":
            SOURCES[called] = OwnSource(function, labels)
        elif kind == "metric":
            METRICS[called] = OwnMetric(function, larger_is_better)
        elif kind == "task":
            TASKS[called] = _task_of(where, called, function)
        else:
            _FUNCTIONS[kind][called] = function
        REGISTERED[kind, called] = function
        return function

    return add


def register_metrics(functions: Sequence[Callable[..., Any]]) -> list[str]:
    """Register metrics by the names of their functions, unless they are; return these names.

    Raises:
        RegistrationError: as `register`; or something is no function with a name.
    """
    names = []
    for function in functions:
        name = getattr(function, "__name__", "")
        if not callable(function) or not name.isidentifier():
            raise RegistrationError(
                f"metrics: got {name or type(function).__name__}, need functions with names; write "
                "def, and a list of these"
            )
        if REGISTERED.get(("metric", name)) is not function:
            register("metric")(function)
        names.append(name)
    return names


def _task_of(where: str, name: str, function: Callable[..., Any]) -> TaskSpec:
    """Return what a task is; raise unless that fits the name that it is registered under."""
    if inspect.signature(function).parameters:
        raise RegistrationError(f"{where}: takes no parameters; what it needs stands in a config")
    spec = function()
    if not isinstance(spec, TaskSpec):
        kind = type(spec).__name__
        raise RegistrationError(f"{where}: returned {kind}, need training.tasks.spec.TaskSpec")
    if spec.name != name:
        raise RegistrationError(f"{where}: its spec is called {spec.name!r}; give both one name")
    return spec._replace(losses=dict(spec.losses))  # to which others are added


def _add_loss(where: str, name: str, entry: LossSpec, tasks: Sequence[str]) -> None:
    for task in tasks:
        if task not in TASKS:
            raise RegistrationError(f"{where}: no task {task!r}; need {listed(TASKS)}")
        if name in _OUR_LOSSES.get(task, ()):
            raise RegistrationError(f"{where}: convax has one of that name; choose another")
    for task in tasks:
        losses: Mapping[str, LossSpec] = TASKS[task].losses
        typing.cast(dict[str, LossSpec], losses)[name] = entry


def _check_signature(
    where: str, kind: Kind, function: Callable[..., Any], *, owns_params: bool
) -> None:
    """Raise unless the program can give what it gives, and a config the rest."""
    parameters = inspect.signature(function).parameters
    given = () if owns_params else _GIVEN[kind]
    first = list(parameters)[: len(given)]
    by_name = kind not in ("loss", "metric")  # these are called as the task does, logits, say
    if len(first) < len(given) or (by_name and tuple(first) != given):
        raise RegistrationError(f"{where}: its first parameters should be {', '.join(given)}")
    try:
        hints = hints_of(function)
    except Exception as error:  # of any kind, of a name in an annotation
        raise RegistrationError(f"{where}: a type cannot be read: {error}") from None
    for key, parameter in list(parameters.items())[len(given) :]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise RegistrationError(
                f"{where}: *{key}: a config needs a name for each key; write them one by one"
            )
        if kind == "loss" and parameter.kind is not parameter.KEYWORD_ONLY:
            raise RegistrationError(f"{where}: {key}: write its keywords behind a *")
        if key in _TAKEN[kind]:
            raise RegistrationError(
                f"{where}: {key}: a key that every table of its kind has; call it otherwise"
            )
        if key not in hints:
            raise RegistrationError(f"{where}: {key}: needs a type, e.g. {key}: float = 1.0")
