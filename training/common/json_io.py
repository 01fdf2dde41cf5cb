"""JSON that others may have written: parsed without a surprise, whatever stands in it."""

import json
from typing import Any

DEEPEST = 64  # lists and objects in one another: far more than any file of ours has


def parse_json(content: bytes | str) -> Any:
    """Parse JSON as `json.loads`, but nothing that is nested so deeply that walks over it fail.

    Raises:
        ValueError: it is no JSON, or nested deeper than `DEEPEST`.

    Example:
        >>> parse_json('{"a": [1]}')
        {'a': [1]}
        >>> parse_json(100 * "[" + 100 * "]")
        Traceback (most recent call last):
            ...
        ValueError: more than 64 lists and objects in one another
    """
    problem = f"more than {DEEPEST} lists and objects in one another"
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError(problem) from None
    level = [values]
    for _ in range(DEEPEST + 1):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return values
    raise ValueError(problem)


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
