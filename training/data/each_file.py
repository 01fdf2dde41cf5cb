"""Read many files on several threads, and name all at once that cannot be used."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .errors import DataError
from .image import quiet_pillow

_MOST_SHOWN = 20
_T = TypeVar("_T")


def read_each(read: Callable[[int], _T], count: int) -> list[_T]:
    """Call ``read(i)`` for all i below `count`, within `quiet_pillow`.

    Returns:
        What each call returned, in order.

    Raises:
        DataError: some files cannot be used: their errors, a line each, up to 20.
    """
    problems: dict[int, str] = {}

    def attempt(i: int) -> _T | None:
        try:
            return read(i)
        except DataError as error:  # whose traceback would keep the image in memory
            problems[i] = str(error)
            return None

    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(attempt, range(count)))
    if problems:
        raise DataError(_all_of([problems[i] for i in sorted(problems)]))
    return found  # type: ignore[return-value] -- None is of those that cannot be used


def _all_of(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    lines = [f"{len(problems):,} files cannot be used:", *problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"and {len(problems) - _MOST_SHOWN:,} more")
    return "\n  ".join(lines)
