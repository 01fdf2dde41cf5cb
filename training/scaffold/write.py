"""A recipe as TOML, each choice with its reason beside it."""

from collections.abc import Iterator, Sequence
from typing import Any

import tomli_w

from ..common.text import plain_line
from .recipe import Because, Recipe, is_tables

_COLUMN = 32  # where comments begin, as in the configs that ship
_LONGEST = 400  # characters of a comment


def to_commented_toml(recipe: Recipe, heading: Sequence[str]) -> str:
    """Write a recipe as a config.

    Args:
        recipe: all of it; in each table values stand ahead of tables.
        heading: lines of the comment at the top.
    """
    lines = [f"# {plain_line(line, _LONGEST)}".rstrip() for line in heading]
    return "\n".join([*lines, *_table(recipe, ())]) + "\n"


def _table(table: Recipe, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: its values, then the tables in it."""
    inside = []
    for key, value in table.items():
        its, why = value if isinstance(value, Because) else (value, "")
        if isinstance(its, dict) or is_tables(its):
            inside.append((key, its, why))
        else:
            yield _commented(f"{_key(key)} = {to_toml_value(its)}", why)
    for key, its, why in inside:
        name = ".".join(map(_key, (*path, key)))
        for part in its if isinstance(its, list) else [its]:
            yield ""
            yield _commented(f"[[{name}]]" if isinstance(its, list) else f"[{name}]", why)
            yield from _table(part, (*path, key))


def _commented(line: str, why: str) -> str:
    return f"{line:{_COLUMN - 1}} # {plain_line(why, _LONGEST)}" if why else line


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).rpartition(" = ")[0]


def to_toml_value(value: Any) -> str:
    """Write one value that is no table."""
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml_value, value))}]"
    return tomli_w.dumps({"key": value}).removeprefix("key = ").removesuffix("\n")
