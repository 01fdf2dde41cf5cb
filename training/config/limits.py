"""How large a config may be: what is larger is a mistake, or takes minutes to say what is wrong."""

import re
from typing import Any

from .errors import ConfigError

MOST_BYTES = 500_000
MOST_PARTS = 100  # of a key, a.b.c: to parse it takes with the square of them
MOST_VALUES = 10_000
MOST_DEPTH = 32  # tables in one another
MOST_POINTS = 1000  # of a sweep; each is a run

_PART = rb"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    rb"(?<![\w-])" + _PART + rb"(?:[ \t]*+\.[ \t]*+" + _PART + rb"){%d}" % MOST_PARTS
)


def check_text(text: bytes, where: str) -> None:
    """Raise `ConfigError` unless the text of a config is small enough to be parsed in a second.

    Args:
        text: the file, or a byte more of it than `MOST_BYTES`.
        where: names it in errors.
    """
    if len(text) > MOST_BYTES:
        raise _too_large(where, f"more than {MOST_BYTES:,} bytes")
    if _LONG_KEY.search(text):
        raise _too_large(where, f"a key of more than {MOST_PARTS} parts")


def check_values(raw: dict[str, Any], where: str) -> None:
    """Raise `ConfigError` unless a config as it was read has few enough values, tables included."""
    level: list[Any] = [raw]
    count = 0
    for _ in range(MOST_DEPTH):
        level = [
            value
            for table in level
            for value in (table.values() if isinstance(table, dict) else table)
        ]
        count += len(level)
        if count > MOST_VALUES:
            raise _too_large(where, f"more than {MOST_VALUES:,} values")
        level = [value for value in level if isinstance(value, (dict, list, tuple))]
    if level:
        raise _too_large(where, f"more than {MOST_DEPTH} tables or lists in one another")


def check_points(count: int) -> None:
    """Raise `ConfigError` unless a sweep has few enough points to be trained."""
    if count > MOST_POINTS:
        shown = f"{count:,}" if count < 10**9 else "more than 1,000,000,000"
        raise ConfigError(
            f"sweep: {shown} points, need at most {MOST_POINTS:,}, each of which is a run; take "
            'fewer values, or draw some of them with method = "random"'
        )


def _too_large(where: str, what: str) -> ConfigError:
    return ConfigError(f"{where}: too large for a config: {what}; take fewer")
