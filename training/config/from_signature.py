"""Tables of a config that are derived from the signatures of functions.

A keyword is written down once: as the function has it.
"""

import dataclasses
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union

import jax
from pydantic import Field, create_model, model_validator

from ..optim.schedules.common import PART
from ..optim.schedules.join import is_part, parts_of
from ..plugins.tables import hints_of
from .table import Duration, Table


def table(
    tag: str,
    name: str,
    function: Callable[..., Any],
    *,
    explicit: bool = False,
    left_out: Collection[str] = (),
    optional: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    try_with: Callable[..., Any] | None = None,
    **more: Any,
) -> type[Table]:
    """Derive the table of `function`'s keywords, told apart from others by ``tag = name``.

    Args:
        tag: the key that tells it from others.
        name: the value of that key.
        function: its keywords, with their types and defaults, are the table's.
        explicit: defaults are only suggested: a config hides no number that decides the result.
        left_out: parameters that are no part of the table.
        optional: parameters that a config does without all the same.
        defaults: to take in place of the function's own.
        try_with: is called with the values of the table, to see whether they will do; by default
            the function is.
        more: keys beside the keywords, or in place of those of their names.
    """
    hints = hints_of(function)
    fields: dict[str, Any] = {tag: (Literal[name], ...)}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in {*_EXAMPLE_ARGS, *left_out, *more}:
            continue
        default = (defaults or {}).get(parameter.name, parameter.default)
        if default is inspect.Parameter.empty:
            default = ...
        elif explicit and parameter.name not in optional:
            default = Field(examples=[default])
        elif dataclasses.is_dataclass(default):
            default = Field(default_factory=_table_of(type(default)))
        fields[parameter.name] = (_writable(hints[parameter.name]), default)
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    check: Any = model_validator(mode="after")(_accepted_by(function, try_with))
    base: type[Table] = type(name, (Table,), {"check": check})
    return create_model(name, __base__=base, __doc__=summary, **(fields | more))


@cache
def _table_of(options: type) -> type[Table]:
    """Derive the table of a dataclass of options: one within the table of a function."""
    hints = typing.get_type_hints(options)
    example = options()
    fields: dict[str, Any] = {
        field.name: (hints[field.name], getattr(example, field.name))
        for field in dataclasses.fields(options)
    }
    check: Any = model_validator(mode="after")(_accepted_by(options, None))
    base: type[Table] = type(options.__name__, (Table,), {"check": check})
    summary = (inspect.getdoc(options) or "").partition("\n")[0]
    return create_model(options.__name__, __base__=base, __doc__=summary, **fields)


def _accepted_by(
    function: Callable[..., Any], try_with: Callable[..., Any] | None
) -> Callable[[Any], Any]:
    keywords, parts = inspect.signature(function).parameters.keys(), parts_of(function)
    call = try_with or function
    accepted: set[str] = set()  # networks and losses are traced: once, however often one validates

    def check(self: Any) -> Any:
        written = {k: _plain(getattr(self, k)) for k in type(self).model_fields if k in keywords}
        unknown = any(_has_text(written[key]) for key in parts)  # until the run's length is known
        if not unknown and repr(written) not in accepted:
            call(**{k: v for k, v in _EXAMPLE_ARGS.items() if k in keywords}, **written)
            accepted.add(repr(written))
        return self

    return check


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Table) else value


def _has_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(map(_has_text, value)))


# Given by the program, not by the config; here with values to try a function on.
_EXAMPLE_ARGS = {"classes": 10, "peak": 1.0, "steps": 100}


def _writable(hint: Any) -> Any:
    """Return the part of a type that TOML can write: no callables or arrays, and parts of a run."""
    if PART in getattr(hint, "__metadata__", ()):
        return float | Duration
    if is_part(hint):
        return list[float | Duration]
    if typing.get_origin(hint) is abc.Sequence:
        return list[typing.get_args(hint)[0]]
    if dataclasses.is_dataclass(hint):
        return _table_of(typing.cast(type, hint))
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return hint
    arms = typing.get_args(hint)
    written = (a for a in arms if typing.get_origin(a) is not abc.Callable and a is not jax.Array)
    return Union[tuple(map(_writable, written))]  # noqa: UP007


def choice(tag: str, tables: Iterable[type[Table]]) -> Any:
    """Return the type of a table that is one of `tables`, told apart by the key `tag`."""
    one, *others = tables
    if not others:
        return one
    return Annotated[Union[(one, *others)], Field(discriminator=tag)]
