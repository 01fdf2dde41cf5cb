"""What was registered: all of it by kind and name, and what convax itself has no table of.

Imports nothing but errors of the house, so that processes which read images import no JAX.
"""

import hashlib
import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ..common.errors import ConvaxError


class RegistrationError(ConvaxError, ValueError):
    """A function cannot be registered; one line that names it and the remedy."""


class OwnSource(NamedTuple):
    """A data source that was registered."""

    read: Callable[..., Any]  # (**keywords of the config) -> training.data.Dataset
    labels: Any  # what they say of an image: `training.tasks.spec.LabelKind`


class OwnMetric(NamedTuple):
    """A figure of an evaluation that was registered."""

    measure: Callable[..., Any]  # (outputs, labels, **keywords of the config) -> number, or dict
    larger_is_better: bool


REGISTERED: dict[tuple[str, str], Callable[..., Any]] = {}  # by kind and name
SOURCES: dict[str, OwnSource] = {}
AUGMENTATIONS: dict[str, Callable[..., Any]] = {}
CALLBACKS: dict[str, Callable[..., Any]] = {}
METRICS: dict[str, OwnMetric] = {}


def is_better_larger(metric: str) -> bool:
    """Return whether a good figure of an evaluation is a large one, by its name."""
    own = METRICS.get(metric.partition(".")[0])
    return metric != "loss" if own is None else own.larger_is_better


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the parameters of a function, or of what makes an object of a class."""
    made_by: Any = function.__init__ if inspect.isclass(function) else function  # type: ignore[misc]
    return typing.get_type_hints(made_by, include_extras=True)


def without_module(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what a config names and other code has registered than the modules it names.

    Args:
        config: as tables.

    Returns:
        The SHA-256 of each function's source, by its module and name.
    """
    modules = config.get("plugins", {}).get("modules", ())
    found = {}
    for pair in _named(config):
        function = REGISTERED.get(pair)
        if function is None or _within(function.__module__, modules):
            continue
        source = _source(function)
        if pair[0] == "task":
            source += _source(function().make)
        name = f"{function.__module__}.{function.__qualname__}"
        found[name] = hashlib.sha256(source).hexdigest()
    return found


def _source(function: Any) -> bytes:
    """Return the source of a function; of one typed at a prompt what it was compiled to."""
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        parts = [getattr(code, name, None) for name in ("co_code", "co_consts", "co_names")]
        return re.sub(r" at 0x[0-9a-f]+", "", repr(parts)).encode()


def _within(module: str, modules: Collection[str]) -> bool:
    """Return whether a module is one of some, or in a package that is."""
    return any(module == name or module.startswith(f"{name}.") for name in modules)


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each function that a config names, those of convax among them."""
    model, schedule = config["model"], config["schedule"]
    if "name" in model:
        yield "architecture", model["name"]
    yield from (("layer", layer["type"]) for layer in model.get("layers", ()))
    yield "task", config["task"]
    yield "loss", config["loss"]["name"]
    yield "optimizer", config["optimizer"]["name"]
    yield "schedule", schedule["name"]
    if schedule["name"] == "sequence":
        yield from (("schedule", part["name"]) for part in schedule["parts"])
    yield "data", config["data"]["source"]
    custom = config.get("augment", {}).get("custom", ())
    yield from (("augmentation", entry["name"]) for entry in custom)
    yield from (("metric", entry["name"]) for entry in config.get("metrics", ()))
    yield from (("callback", entry["name"]) for entry in config.get("callbacks", ()))
