"""Read many files on several threads; name all at once that cannot be used, or leave some out.

What may be left out (``data.unreadable = "skip"``) are files whose bytes are no whole image: see
`UnreadableError`. Whatever else is wrong, of labels or sizes, remains an error.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from ..common.waiting import counted
from .errors import DataError, UnreadableError
from .image import quiet_pillow
from .labels import named

OnUnreadable: TypeAlias = Literal["error", "skip"]
_MOST_SHOWN = 20
_T = TypeVar("_T")


class Unreadable(NamedTuple):
    """An image file that is left out, and why."""

    file: str
    reason: str


class Kept(NamedTuple):
    """Which of many files could be read.

    Attributes:
        count: how many there were.
        indices: ``(n,)``, of those that could be, in order.
        unreadable: the others.
    """

    count: int  # type: ignore[assignment] -- tuple has a method of that name
    indices: np.ndarray
    unreadable: tuple[Unreadable, ...]

    @property
    def left_out(self) -> np.ndarray:
        """Return the indices of those that could not be read, in the order of `unreadable`."""
        return np.delete(np.arange(self.count), self.indices)


def read_each(read: Callable[[int], _T], count: int) -> list[_T]:
    """Call ``read(i)`` for all i below `count`, within `quiet_pillow`.

    Returns:
        What each call returned, in order.

    Raises:
        DataError: some files cannot be used: their errors, a line each, up to 20.
    """
    return read_readable(read, count, "error")[0]


def read_readable(
    read: Callable[[int], _T],
    count: int,
    on_unreadable: OnUnreadable,
    what: str = "decoding images",
) -> tuple[list[_T], Kept]:
    """Call ``read(i)`` as `read_each`; "skip" leaves out what raises an `UnreadableError`.

    Args:
        read: reads file i.
        count: how many there are.
        on_unreadable: what becomes of those that are no whole image.
        what: people are told while it takes long.

    Returns:
        What each call returned that is not left out, in order; and which these are.

    Raises:
        DataError: see `read_each`.
    """
    problems: dict[int, str] = {}
    left_out: dict[int, Unreadable] = {}

    def attempt(i: int) -> _T | None:
        try:
            return read(i)
        except DataError as error:  # whose traceback would keep the image in memory
            if on_unreadable == "skip" and isinstance(error, UnreadableError):
                left_out[i] = Unreadable(error.file, error.reason)
            else:
                problems[i] = str(error)
            return None
        finally:
            seen()

    workers = os.cpu_count()
    with quiet_pillow(), counted(what, count) as seen, ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(attempt, range(count)))
    if problems:
        raise DataError(_all_of([problems[i] for i in sorted(problems)]))
    indices = np.array([i for i in range(count) if i not in left_out], np.int64)
    kept = Kept(count, indices, tuple(left_out[i] for i in sorted(left_out)))
    return [found[i] for i in indices], kept  # type: ignore[misc] -- None is of those left out


def rows_kept(array: np.ndarray, kept: Kept) -> np.ndarray:
    """Return the rows of files that could be read; they are moved together in place."""
    if not kept.unreadable:
        return array
    for row, i in enumerate(kept.indices):
        array[row] = array[i]
    return array[: len(kept.indices)]


def parts_kept(counts: Mapping[str, int], kept: Kept) -> dict[str, slice]:
    """Return which rows each part has, of files that could be read.

    Args:
        counts: of the files of each part, one part behind the other.
        kept: which could be read.

    Raises:
        DataError: a part has lost all of its files.
    """
    found, before, start = {}, 0, 0
    for part, count in counts.items():
        stop = int(np.searchsorted(kept.indices, before + count))
        if count and start == stop:
            raise DataError(
                f"data.unreadable: none of the {count:,} image(s) of {part} can be read, the first "
                f"is {_left_out(kept, before - start)}; mend some, or take the part away"
            )
        found[part] = slice(start, stop)
        before, start = before + count, stop
    return found


def check_classes_kept(has: np.ndarray | None, names: Sequence[str], kept: Kept) -> None:
    """Raise where all images of a class are left out.

    Args:
        has: ``(N, K)`` bool, which classes each file that is to be trained on has, the first of all
            files; None where labels say nothing of classes.
        names: of the classes.
        kept: which files could be read.
    """
    if has is None or not kept.unreadable:
        return
    left = has[kept.indices[kept.indices < len(has)]]
    lost = np.flatnonzero(has.any(axis=0) & ~left.any(axis=0))
    if len(lost):
        files = kept.left_out[kept.left_out < len(has)]
        number = int(np.argmax(has[files][:, lost].any(axis=1)))
        raise DataError(
            f"data.unreadable: no training image of {named(names, lost)} can be read, the first "
            f"left out is {_left_out(kept, number)}; mend some, or take the class away"
        )


def _left_out(kept: Kept, number: int) -> str:
    file, reason = kept.unreadable[number]
    return f"{file} ({reason})"


def _all_of(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    lines = [f"{len(problems):,} files cannot be used:", *problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"and {len(problems) - _MOST_SHOWN:,} more")
    return "\n  ".join(lines)
