"""The tables of all that a config names: architectures, layers, losses, optimizers, schedules.

Each is derived from the signature of a function when it is first asked for. A config names a few,
and is validated by a schema of these alone (`narrow`); where it names what does not exist, and for
the JSON Schema, by one with all of them (`complete`). What is registered (`training.plugins`) is
among them; a function that took the place of another of its name has a table of its own.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar, Union, get_args

from pydantic import Discriminator, Field, Tag, create_model, model_validator

from ...model import ARCHITECTURES, LAYERS, Layer
from ..optim.from_optax import PREFIX, is_off, optimizers_for
from ..optim.schedules.join import parts_of
from ..optim.schedules.schedules import SCHEDULES
from ..plugins.tables import AUGMENTATIONS, CALLBACKS, METRICS, SOURCES, OwnMetric, OwnSource
from ..tasks.registry import TASKS
from ..tasks.spec import GIVEN, LossSpec
from .augment import Augment
from .from_signature import choice, table
from .given import Given
from .groups import Group
from .loss import all_losses, loss_table
from .sources import OWN, Source
from .table import Duration, PositiveFloat, Table

Root = TypeVar("Root", bound=Table)

SEQUENCE = "sequence"
# Beside every optimizer; its learning rate is the schedule's peak.
_COMMON: dict[str, Any] = {
    "learning_rate": (PositiveFloat, ...),
    "clip_norm": (Optional[PositiveFloat], None),  # noqa: UP045
    "clip_value": (Optional[PositiveFloat], None),  # noqa: UP045
    "groups": (list[Group], []),
}
# Later additions to the optimizers, off unless asked for.
_OFF = ("amsgrad", "mu_dtype", "dampening", "maximize")
# Of layers, what a config cannot have: evaluation and prediction fill up their last batch.
_UNFIT = {"batch_norm": ("track_running_stats",)}
_PLACE = Annotated[float, Field(gt=0, lt=1)] | Duration | None
_PART: dict[str, Any] = {"until": (_PLACE, None), "scale": (PositiveFloat, 1.0)}
_RISE: dict[str, Any] = {"warmup": (Annotated[float, Field(ge=0, lt=1)] | Duration, 0.0)}


Functions = tuple[tuple[str, Any], ...]  # by name; what a table is derived from


class _Named(NamedTuple):
    """All that a schema has tables for."""

    architectures: Functions
    layers: Functions
    losses: Functions
    optimizers: Functions
    schedules: Functions
    parts: Functions  # of a sequence of schedules
    sources: Functions  # those that were registered, as the augmentations
    augmentations: Functions
    callbacks: Functions  # likewise
    metrics: Functions
    tasks: tuple[str, ...]


def complete(root: type[Root], raw: Any = None) -> type[Root]:
    """Return `root`, the schema of a whole config, with every table that can be named.

    Of a config as it was read, `raw`, also what it names of optax's optimizers, and what it has of
    what was given in Python.
    """
    optimizers = optimizers_for(_name_in(raw, "optimizer"))
    tables: list[Mapping[str, Any]] = [ARCHITECTURES, LAYERS, all_losses(), optimizers]
    tables += [_with_sequence(), SCHEDULES, SOURCES, AUGMENTATIONS, CALLBACKS, METRICS]
    named = {0: "model", 2: "loss", 3: "optimizer", 4: "schedule"}
    given = [place for place, table in named.items() if _name_in(raw, table) == GIVEN]
    for place in [*given, *([7] if _gives_augmentation(raw) else [])]:
        tables[place] = {**tables[place], GIVEN: None}
    return _schema(root, _Named._make([*(tuple(table.items()) for table in tables), tuple(TASKS)]))


def _name_in(raw: Any, table: str) -> Any:
    """Return the name in a table of a config as it was read, if that is there."""
    found = raw.get(table) if isinstance(raw, dict) else None
    return found.get("name") if isinstance(found, dict) else None


def narrow(root: type[Root], raw: Any) -> type[Root]:
    """Return `root` with the tables that `raw` names; all of them where one does not exist."""
    try:
        model, schedule, source = raw["model"], raw["schedule"], raw["data"]["source"]
        layers = () if "name" in model else _known((m["type"] for m in model["layers"]), LAYERS)
        steps = schedule["parts"] if schedule["name"] == SEQUENCE else ()
        custom = (raw.get("augment") or {}).get("custom", ())
        named = _Named(
            _known([model["name"]], ARCHITECTURES) if "name" in model else (),
            layers,
            _known([raw["loss"]["name"]], all_losses()),
            _known([raw["optimizer"]["name"]], optimizers_for(raw["optimizer"]["name"])),
            _known([schedule["name"]], _with_sequence()),
            _known((part["name"] for part in steps), SCHEDULES),
            _known([source], SOURCES) if source in SOURCES else (),
            _known((entry["name"] for entry in custom), AUGMENTATIONS),
            _known((entry["name"] for entry in raw.get("callbacks") or ()), CALLBACKS),
            _known((entry["name"] for entry in raw.get("metrics") or ()), METRICS),
            tuple(TASKS),
        )
    except (KeyError, TypeError, AttributeError):  # not there, not a table, or not a name
        return complete(root, raw)
    if not (named.architectures or layers):  # a list of no layers
        return complete(root, raw)
    return _schema(root, named)


def _gives_augmentation(raw: Any) -> bool:
    try:
        return any(entry["name"] == GIVEN for entry in raw["augment"]["custom"])
    except (KeyError, TypeError):
        return False


def _with_sequence() -> dict[str, Any]:
    return {**SCHEDULES, SEQUENCE: None}


def _known(names: Iterable[str], known: Mapping[str, Any]) -> Functions:
    """Return what has the names, each once, in order; a KeyError for one that does not exist."""
    return tuple((n, None if n == GIVEN else known[n]) for n in sorted(set(names)))


@cache
def _schema(root: type[Root], named: _Named) -> type[Root]:
    schedules = [
        _sequence(named.parts) if name == SEQUENCE else _table(_schedule, name, build)
        for name, build in named.schedules
    ]
    optimizers = [_table(_optimizer, *pair) for pair in named.optimizers]
    fields: dict[str, Any] = {
        "model": (_model(named.architectures, named.layers), ...),
        "loss": (choice("name", (_table(_loss, *pair) for pair in named.losses)), ...),
        "optimizer": (choice("name", optimizers), ...),
        "schedule": (choice("name", schedules), ...),
    }
    if named.sources:
        own = [_source(*pair) for pair in named.sources]
        fields["data"] = (Annotated[Union[Source, *own], Field(discriminator="source")], ...)
    if named.augmentations:
        fields["augment"] = (Optional[_augment(named.augmentations)], None)  # noqa: UP045
    if named.callbacks:
        kinds = choice("name", (_plain_table(*pair) for pair in named.callbacks))
        fields["callbacks"] = (Optional[list[kinds]], None)  # noqa: UP045
    if named.metrics:
        kinds = choice("name", (_metric(*pair) for pair in named.metrics))
        fields["metrics"] = (Optional[list[kinds]], None)  # noqa: UP045
    task = root.model_fields.get("task")
    own_tasks = task is not None and set(named.tasks) > set(get_args(task.annotation))
    if task is not None and own_tasks:
        fields["task"] = (Literal[named.tasks], task.default)
    if named.metrics or own_tasks:
        fields["early_stopping"] = _stopping_by_any(root)
    return create_model(root.__name__, __base__=root, __doc__=root.__doc__, **fields)


def _table(derive: Callable[[str, Any], type[Table]], name: str, function: Any) -> type[Table]:
    """Derive the table of a function; of what was given in Python it is always the same."""
    return Given if name == GIVEN else derive(name, function)


def _model(architectures: Functions, layers: Functions) -> Any:
    tables = {name: _table(_architecture, name, build) for name, build in architectures}
    if layers:
        tables["layers"] = _layers(layers)
    if len(tables) == 1:
        return next(iter(tables.values()))
    tagged = tuple(Annotated[table, Tag(tag)] for tag, table in tables.items())
    return Annotated[Union[tagged], Discriminator(_model_tag)]  # noqa: UP007


def _model_tag(value: Any) -> str | None:
    """Return which of the model tables is meant; None is reported as an unknown name."""
    if not isinstance(value, dict):
        return getattr(value, "name", "layers")
    return value.get("name", "layers" if "layers" in value else None)


@cache
def _architecture(name: str, build: Callable[..., Any]) -> type[Table]:
    return table("name", name, build, try_with=partial(_try_layer, build))


@cache
def _layer(name: str, build: Callable[..., Any]) -> type[Table]:
    left_out = _UNFIT.get(name, ())
    return table("type", name, build, left_out=left_out, try_with=partial(_try_layer, build))


def _try_layer(build: Callable[..., Any], **keywords: Any) -> None:
    if not isinstance(made := build(**keywords), Layer):
        raise ValueError(f"returned {type(made).__name__}, need a model.Layer")


@cache
def _loss(name: str, about: tuple[LossSpec, str]) -> type[Table]:
    return loss_table(name, *about)


@cache
def _optimizer(name: str, make: Callable[..., Any]) -> type[Table]:
    optional: Collection[str] = _OFF
    if name.startswith(PREFIX):
        optional = [key for key, p in inspect.signature(make).parameters.items() if is_off(p)]
    return table("name", name, make, explicit=True, optional=optional, **_COMMON)


@cache
def _schedule(name: str, build: Callable[..., Any], part: bool = False) -> type[Table]:
    """Derive the table of a schedule; one without a warm-up of its own has one in front."""
    rise = {} if "warmup" in parts_of(build) else _RISE
    return table("name", name, build, explicit=True, **rise, **(_PART if part else {}))


@cache
def _source(name: str, source: OwnSource) -> type[Table]:
    """Derive the table of a source that was registered; reading is not tried."""
    found = table("source", name, source.read, try_with=lambda **_: None, **OWN)
    found.labels = (source.labels,)  # type: ignore[attr-defined] -- a class variable
    return found


def _metric(name: str, metric: OwnMetric) -> type[Table]:
    first_two = tuple(inspect.signature(metric.measure).parameters)[:2]
    return _plain_table(name, metric.measure, first_two)


def _stopping_by_any(root: type[Table]) -> Any:
    """Return the field ``early_stopping`` whose metric may have any name; `Config` checks it."""
    base: Any = root.model_fields["early_stopping"].annotation
    metric: Any = (str, base.model_fields["metric"].default)
    made = create_model(base.__name__, __base__=base, __doc__=base.__doc__, metric=metric)
    return (made, made())


@cache
def _augment(augmentations: Functions) -> type[Table]:
    """Derive ``[augment]`` with augmentations that were registered; none is tried."""
    kinds = choice(
        "name",
        (_table(_augmentation, name, change) for name, change in augmentations),
    )
    custom: Any = (list[kinds], [])
    return create_model("Augment", __base__=Augment, __doc__=Augment.__doc__, custom=custom)


def _augmentation(name: str, change: Callable[..., Any]) -> type[Table]:
    return _plain_table(name, change, ("key", "image"))


@cache
def _plain_table(
    name: str, function: Callable[..., Any], given: tuple[str, ...] = ()
) -> type[Table]:
    """Derive the table of a function that is not tried; the program gives some parameters."""
    return table("name", name, function, left_out=given, try_with=lambda **_: None)


def _layers(layers: Functions) -> type[Table]:
    kinds = choice("type", (_layer(*pair) for pair in layers))
    listed: Any = (Annotated[list[kinds], Field(min_length=1)], ...)
    text = "A network spelled out layer by layer."
    return create_model("Layers", __base__=Table, __doc__=text, layers=listed)


def _sequence(schedules: Functions) -> type[Table]:
    kinds = choice("name", (_schedule(*pair, part=True) for pair in schedules))
    parts: Any = (Annotated[list[kinds], Field(min_length=2)], ...)
    text = "Schedules one after the other; see `training.optim.schedules.join`."
    return create_model("Sequence", __base__=_Sequence, __doc__=text, parts=parts)


class _Sequence(Table):
    name: Literal["sequence"]
    parts: Any

    @model_validator(mode="after")
    def _ends_are_stated(self):
        stated = [part.until is not None for part in self.parts]
        if stated != [True] * (len(stated) - 1) + [False]:
            raise ValueError(
                'parts need until, e.g. until = "10%", except the last, which ends with the run'
            )
        return self
