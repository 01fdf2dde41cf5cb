"""What a Python program gives in place of what a config names: a network, a loss, an optimizer...

The config's table then says ``name = "given"``, and holds the object while the program runs: all
that reads the config finds it there, as it finds what is registered by its name. A run does not
keep it. Whoever opens the run gives it again, and it is known again by the SHA-256 of its traced
program, which is in the run's provenance.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import PrivateAttr

from ...model import Layer
from ..tasks.spec import GIVEN
from .errors import ConfigError
from .table import Table


class Given(Table):
    """An object that was given in Python; see `training.config.given`."""

    name: Literal["given"]
    groups: ClassVar[tuple[Any, ...]] = ()  # where it is an optimizer
    _what: str = PrivateAttr("net")
    _object: Any = PrivateAttr(None)
    _sha256: str | None = PrivateAttr(None)

    @property
    def sha256(self) -> str | None:
        """Return the digest of its program, once `remember` was told."""
        return self._sha256

    @property
    def is_there(self) -> bool:
        """Return whether the object is at hand."""
        return self._object is not None

    @property
    def object(self) -> Any:
        """Return the object.

        Raises:
            ConfigError: the run was opened without it.
        """
        if self._object is None:
            call = "convax.load(RUN" if self._what == "net" else "convax.evaluate(RUN"
            raise ConfigError(_missing([self._what], call))
        return self._object

    def give(self, what: str, value: Any) -> None:
        """Hold an object, and what it is called."""
        self._what, self._object = what, value

    def remember(self, sha256: str) -> None:
        """Note the digest of its program."""
        self._sha256 = sha256


class Objects(NamedTuple):
    """What is given in Python; None where the config names it."""

    net: Any = None  # a `model.Layer`
    loss: Any = None  # ``loss(outputs, targets)``, of each example, or a `model.Layer` of both
    optimizer: Any = None  # a transformation of optax's kind, its learning rate within
    augment: Any = None  # ``augment(key, image)`` of an image (H, W, C) in [0, 1]

    def check(self) -> None:
        """Raise a ConfigError unless each is of its kind."""
        net, loss, optimizer, augment = self
        for what, value, fits, need in (
            ("net", net, isinstance(net, Layer), "a model.Layer"),
            ("loss", loss, callable(loss) or isinstance(loss, Layer), "a function or model.Layer"),
            ("optimizer", optimizer, _is_optimizer(optimizer), "an optax transformation"),
            ("augment", augment, callable(augment), "a function of a key and an image"),
        ):
            if value is not None and not fits:
                raise ConfigError(f"{what}: got {type(value).__name__}, need {need}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of those that are given."""
        return tuple(name for name, value in self._asdict().items() if value is not None)


NOTHING = Objects()


def _is_optimizer(value: Any) -> bool:
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


# The tables of a config in whose place each stands.
_TABLES: dict[str, dict[str, Any]] = {
    "net": {"model": {"name": GIVEN}},
    "loss": {"loss": {"name": GIVEN}},
    "optimizer": {"optimizer": {"name": GIVEN}, "schedule": {"name": GIVEN}},
    "augment": {"augment": {"custom": [{"name": GIVEN}]}},
}


def put_in(raw: dict[str, Any], objects: Objects) -> list[str]:
    """Put objects in place of what the tables of a config name.

    Args:
        raw: the tables of a config, not validated; they are changed.
        objects: see `attach`.

    Returns:
        A line for each, which says what it replaces.
    """
    objects.check()
    lines = []
    for what in objects.names:
        before = [f"[{t}]{_named(raw[t])}" for t in _TABLES[what] if t in raw]
        raw.update(copy.deepcopy(_TABLES[what]))
        instead = f", in place of {' and '.join(before)}" if before else ""
        lines.append(f"{what}: given in Python{instead}")
    return lines


def _named(table: Any) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return "" if name is None else f' name = "{name}"'


def attach(
    config: Any,
    objects: Objects,
    *,
    needed: Collection[str] = Objects._fields,
    call: str = "convax.resume(RUN",
) -> Any:
    """Have the tables of a config hold the objects that they stand for; return the config.

    Args:
        config: as `put_in` has made it, or of a run.
        objects: what they are.
        needed: what has to be given.
        call: the call that they are to be added to, for the error.

    Raises:
        ConfigError: one is missing that is needed, or given where the config names its own.
    """
    objects.check()
    tables = dict(given_tables(config))
    for what in objects.names:
        if what not in tables:
            raise ConfigError(f"{what}: this run has that of its config; leave {what}= out")
    if missing := [what for what in tables if what in needed and what not in objects.names]:
        raise ConfigError(_missing(missing, call))
    for what, table in tables.items():
        table.give(what, getattr(objects, what))
    return config


def _missing(names: Collection[str], call: str) -> str:
    again = ", ".join(f"{name}=..." for name in names)
    return (
        f"{', '.join(names)}: given in Python, which no run keeps; give the same again, as "
        f"{call}, {again}), or register it (convax.register) and name it in the config"
    )


def given_tables(config: Any) -> Iterator[tuple[str, Given]]:
    """Yield what is given in Python, of a config, and the table that holds it."""
    custom = () if config.augment is None else config.augment.custom
    held = [("net", config.model), ("loss", config.loss), ("optimizer", config.optimizer)]
    for what, table in [*held, *(("augment", entry) for entry in custom)]:
        if isinstance(table, Given):
            yield what, table


def given_digests(config: Any) -> dict[str, str]:
    """Return the digest of each program that was given, by ``given.net`` and the like."""
    return {f"given.{what}": t.sha256 for what, t in given_tables(config) if t.sha256 is not None}


def object_or(table: Any, otherwise: Callable[[], Any]) -> Any:
    """Return the object that a table holds; of a table of any other kind what a function makes."""
    return table.object if isinstance(table, Given) else otherwise()
