"""The tables of all that a config names: architectures, layers, optimizers, schedules.

Each is derived from the signature of a function when it is first asked for. A config names a few,
and is validated by a schema of these alone (`narrow`); where it names what does not exist, and for
the JSON Schema, by one with all of them (`complete`).
"""

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal, Optional, TypeVar, Union

from pydantic import Discriminator, Field, Tag, create_model, model_validator

from ...model import ARCHITECTURES, LAYERS
from ..optim.optimizer import OPTIMIZERS
from ..optim.schedules.join import parts_of
from ..optim.schedules.schedules import SCHEDULES
from .from_signature import choice, table
from .groups import Group
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


def complete(root: type[Root]) -> type[Root]:
    """Return `root`, the schema of a whole config, with every table that can be named."""
    schedules = (*SCHEDULES, SEQUENCE)
    every = map(tuple, (ARCHITECTURES, LAYERS, OPTIMIZERS, schedules, SCHEDULES))
    return _schema(root, *every)


def narrow(root: type[Root], raw: Any) -> type[Root]:
    """Return `root` with the tables that `raw` names; all of them where one does not exist."""
    try:
        model, schedule = raw["model"], raw["schedule"]
        layers = () if "name" in model else _known((m["type"] for m in model["layers"]), LAYERS)
        architectures = _known([model["name"]], ARCHITECTURES) if "name" in model else ()
        optimizers = _known([raw["optimizer"]["name"]], OPTIMIZERS)
        steps = schedule["parts"] if schedule["name"] == SEQUENCE else ()
        parts = _known((part["name"] for part in steps), SCHEDULES)
        schedules = _known([schedule["name"]], {*SCHEDULES, SEQUENCE})
    except (KeyError, TypeError):  # not there, not a table, or not a name
        return complete(root)
    if not (architectures or layers):  # a list of no layers
        return complete(root)
    return _schema(root, architectures, layers, optimizers, schedules, parts)


def _known(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once, in order; a KeyError for one that does not exist."""
    found = set(names)
    if found - set(known):
        raise KeyError
    return tuple(sorted(found))


@cache
def _schema(
    root: type[Root],
    architectures: tuple[str, ...],
    layers: tuple[str, ...],
    optimizers: tuple[str, ...],
    schedules: tuple[str, ...],
    parts: tuple[str, ...],
) -> type[Root]:
    shapes = [_sequence(parts) if name == SEQUENCE else _schedule(name) for name in schedules]
    fields: dict[str, Any] = {
        "model": (_model(architectures, layers), ...),
        "optimizer": (choice("name", map(_optimizer, optimizers)), ...),
        "schedule": (choice("name", shapes), ...),
    }
    return create_model(root.__name__, __base__=root, __doc__=root.__doc__, **fields)


def _model(architectures: tuple[str, ...], layers: tuple[str, ...]) -> Any:
    tables = {name: _architecture(name) for name in architectures}
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
def _architecture(name: str) -> type[Table]:
    return table("name", name, ARCHITECTURES[name])


@cache
def _layer(name: str) -> type[Table]:
    return table("type", name, LAYERS[name], left_out=_UNFIT.get(name, ()))


@cache
def _optimizer(name: str) -> type[Table]:
    return table("name", name, OPTIMIZERS[name], explicit=True, optional=_OFF, **_COMMON)


@cache
def _schedule(name: str, part: bool = False) -> type[Table]:
    """Derive the table of a schedule; one without a warm-up of its own has one in front."""
    build = SCHEDULES[name]
    rise = {} if "warmup" in parts_of(build) else _RISE
    return table("name", name, build, explicit=True, **rise, **(_PART if part else {}))


def _layers(names: tuple[str, ...]) -> type[Table]:
    kinds = choice("type", map(_layer, names))
    layers: Any = (Annotated[list[kinds], Field(min_length=1)], ...)
    text = "A network spelled out layer by layer."
    return create_model("Layers", __base__=Table, __doc__=text, layers=layers)


def _sequence(names: tuple[str, ...]) -> type[Table]:
    kinds = choice("name", (_schedule(name, part=True) for name in names))
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
