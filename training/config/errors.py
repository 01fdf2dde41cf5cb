"""What is wrong with a config, in lines that a person can act on: key, complaint, remedy."""

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from datetime import date, time
from typing import Annotated, Any, Literal, NamedTuple, Union

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ..common.errors import ConvaxError
from .renamed import renamed_key, renamed_value

Loc = tuple[int | str, ...]


class ConfigError(ConvaxError, ValueError):
    """One line for each thing wrong in a config: file, key, what is wrong, and the remedy."""


class OldConfigError(ConfigError):
    """A config has keys or values under the names of an earlier version of convax."""


class Problems(NamedTuple):
    """What is wrong with a config."""

    lines: list[str]  # one for each key
    old: bool  # whether a key or value has the name of an earlier version


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'near'?`` where something is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def problems(error: ValidationError, raw: dict[str, Any], root: type[BaseModel]) -> Problems:
    """Return a line for each key that is wrong; a misspelled key is not also called missing."""
    lines: dict[str, str] = {}
    misspelled: set[str] = set()
    missing: dict[str, str] = {}
    old = False
    for item in error.errors():
        path, table, hint = _resolve(item["loc"], root)
        key = _dotted(path)
        kind = item["type"]
        if kind == "extra_forbidden":
            known, new = list(table.model_fields), renamed_key(path)
            if new is not None and new in known:
                old = True
                lines[key] = f"{key}: is called {new}; write {_dotted([*path[:-1], new])}"
                misspelled.add(_dotted([*path[:-1], new]))
                continue
            near = did_you_mean(str(path[-1]), known)
            lines[key] = f"{key}: unknown key{near or '; known here: ' + ', '.join(known)}"
            misspelled.update(_dotted([*path[:-1], k]) for k in known if f"'{k}'" in near)
        elif kind == "missing":
            missing[key] = f"{key}: missing; {_remedy(key, table.model_fields[path[-1]])}"
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            key, line, renamed = _wrong_tag(path, item, hint)
            lines[key], old = line, old or renamed
        elif kind == "value_error" and isinstance(item["input"], dict):
            key = _dotted([*path, *_named_in(item)])
            lines[key] = f"{key}: {_complaint(item)}"
        elif key in lines:
            if _complaint(item) not in lines[key]:
                lines[key] = lines[key].replace("; got", f" or {_complaint(item)}; got", 1)
        else:
            lines[key] = f"{key}: {_complaint(item)}" + _got(item)
    others = [line for key, line in missing.items() if key not in misspelled]
    return Problems([*lines.values(), *others], old)


def missing_keys(
    error: ValidationError, root: type[BaseModel]
) -> Iterator[tuple[list[int | str], FieldInfo]]:
    """Yield the path of each key that is missing, and what is known of it."""
    for item in error.errors():
        if item["type"] == "missing":
            path, table, _ = _resolve(item["loc"], root)
            yield path, table.model_fields[path[-1]]


def _dotted(path: Iterable[int | str]) -> str:
    return ".".join(map(str, path)) or "config"


def _resolve(loc: Loc, root: type[BaseModel]) -> tuple[list[int | str], Any, Any]:
    """Return the keys that lead to an error, the table that holds the last of them, and its type.

    Pydantic mixes into a location which member of a union it tried; a person never wrote that.
    """
    path: list[int | str] = []
    table, hint = root, root
    for item in loc:
        arms = _arms(hint)
        tagged = [arm for arm in arms if _is_table(arm) and item in _tags(arm)]
        if isinstance(item, int):
            path.append(item)
            hint = next((typing.get_args(arm)[0] for arm in arms if typing.get_args(arm)), Any)
        elif tagged and len(arms) > 1:
            hint = tagged[0]
        elif len(arms) == 1 and _is_table(arms[0]):
            table = arms[0]
            path.append(item)
            hint = table.model_fields[item].annotation if item in table.model_fields else Any
        else:
            break
    return path, table, hint


def _arms(hint: Any) -> list[Any]:
    """Return the members of a type that may be a union, without None and annotations."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _arms(typing.get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return [arm for member in typing.get_args(hint) for arm in _arms(member)]
    return [] if hint is type(None) else [hint]


def _is_table(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _tags(table: type[BaseModel]) -> tuple[Any, ...]:
    """Return the names that choose this table: those of its key of names, or that key itself."""
    key = _tag_key(table)
    annotation = table.model_fields[key].annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else (key,)


def _tag_key(table: type[BaseModel]) -> str:
    """Return the key by whose value a table is chosen, or by whose presence: then its first."""
    for key, field in table.model_fields.items():
        names = typing.get_args(field.annotation) or [None]
        if field.is_required() and all(isinstance(name, str) for name in names):
            return key
    return next(iter(table.model_fields))


def _wrong_tag(path: list[int | str], item: ErrorDetails, hint: Any) -> tuple[str, str, bool]:
    """Return the key of a table that does not say, or says wrongly, which kind it is; and the line.

    And whether it is an old name.
    """
    key, written = _dotted(path), item["input"]
    tables = [arm for arm in _arms(hint) if _is_table(arm)]
    if not isinstance(written, dict):
        return key, f"{key}: should be a table; got {_written(written)}", False
    # Most tables are chosen by the value of a key, some by its presence.
    firsts = list(dict.fromkeys(map(_tag_key, tables)))
    tag, *present = firsts
    names = [name for table in tables for name in _tags(table) if name not in present]
    listed = "one of " + ", ".join(f'"{name}"' for name in names)
    if tag in written and (new := renamed_value([*path, tag], written[tag])):
        return f"{key}.{tag}", f"{key}.{tag}: {written[tag]!r} is called {new}", True
    if tag in written:
        near = did_you_mean(str(written[tag]), names)
        line = f"{key}.{tag}: should be {listed}; got {_written(written[tag])}{near}"
        return f"{key}.{tag}", line, False
    unknown = [key for key in written if not any(key in t.model_fields for t in tables)]
    for first in firsts:
        if near := difflib.get_close_matches(first, unknown, n=1):
            line = f"{key}.{near[0]}: unknown key; did you mean {first!r}?"
            return f"{key}.{near[0]}", line, False
    others = "".join(f", or {key}.{first} = [...]" for first in present)
    line = f"{key}.{tag}: missing; write {key}.{tag} = {listed}{others}"
    return f"{key}.{tag}", line, False


# What is wrong with one value, by pydantic's type of the error and its context.
COMPLAINTS = {
    "model_type": "should be a table",
    "model_attributes_type": "should be a table",
    "dict_type": "should be a table",
    "list_type": "should be a valid list",
    "string_type": "should be a valid string",
    "int_type": "should be a valid integer",
    "float_type": "should be a valid number",
    "bool_type": "should be a valid boolean",
    "finite_number": "should be a finite number",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be greater than or equal to {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be less than or equal to {le}",
    "literal_error": "should be {expected}",
    "too_short": "should have at least {min_length} item(s), not {actual_length}",
    "too_long": "should have at most {max_length} item(s), not {actual_length}",
    "string_too_short": "should have at least {min_length} character(s)",
    "value_error": "{error}",
}


def _complaint(item: ErrorDetails) -> str:
    """Return what is wrong with a value; an error that is not in the list is told as it is."""
    text = COMPLAINTS.get(item["type"])
    if text is None:
        return item["msg"]
    context = item.get("ctx", {})
    whole = {k: int(v) for k, v in context.items() if isinstance(v, float) and v.is_integer()}
    return text.format(**context | whole)  # 1, not 1.0


def _named_in(item: ErrorDetails) -> list[str]:
    """Return the first key of a table that one of our messages about the whole of it speaks of.

    It begins with the name of the function that complains, which may be that of a key, too.
    """
    table = item["input"]
    message = str(item.get("ctx", {})["error"])
    words = re.findall(r"\w+", message.removeprefix(f"{table.get('name', table.get('type'))}: "))
    return [word for word in words if word in table][:1]


def need_text(error: ValidationError, root: type[BaseModel]) -> set[str]:
    """Return the keys, dotted, whose values are no text where nothing but text would do."""
    kinds: dict[str, set[str]] = {}
    for item in error.errors():
        kind = item["type"] if isinstance(item["input"], _SCALARS) else "no scalar"
        kinds.setdefault(_dotted(_resolve(item["loc"], root)[0]), set()).add(kind)
    return {key for key, kind in kinds.items() if kind == {"string_type"}}


_SCALARS = (int, float, date, time)  # True and False are of int


def _got(item: ErrorDetails) -> str:
    value, kind = item["input"], item["type"]
    got = f"; got {_written(value)}"
    if kind == "string_type" and isinstance(value, _SCALARS):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'{got}; write "{text}"' if len(text) < 80 else got
    if isinstance(value, str) and isinstance(_parsed(value), _PLAIN.get(kind, ())):
        return f"{got}; write {value} without quotes"
    return got


_PLAIN = {"int_type": int, "float_type": (int, float), "bool_type": bool}


def _parsed(text: str) -> Any:
    """Return what TOML takes a text for where it has no quotes; None for nothing."""
    try:
        return tomllib.loads(f"value = {text}").get("value")
    except (ValueError, RecursionError):
        return None


def _written(value: Any) -> str:
    """Return a value as a message shows it."""
    if isinstance(value, (date, time)):
        return value.isoformat()
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; tables within tables
        return "something very long"


def _remedy(key: str, field: FieldInfo) -> str:
    """Return what to write where a key is missing."""
    arms = _arms(field.annotation)
    if any(_is_table(arm) or typing.get_origin(arm) is dict for arm in arms):
        return f"add a table [{key}]"
    if field.examples:
        return f"write {key} = {field.examples[0]!r}, say"
    return f"write {key} = " + " or ".join(dict.fromkeys(_type_name(arm) for arm in arms))


def _type_name(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in typing.get_args(hint))
    if origin is list:
        return f"a list of {_type_name(_arms(typing.get_args(hint)[0])[0])}s"
    return {int: "integer", float: "number", str: "text in quotes", bool: "true or false"}[hint]
