"""Collect what people should know of how data was read: a line each, kept with the run."""

from collections import Counter
from collections.abc import Collection

from ..common.text import plain_line

_MOST_REASONS = 6


class Notes:
    """Lines on what a reader did: one that counts the files passed over, and any others.

    Args:
        expected: reasons that are not counted: the endings of files that are no images, but used.
    """

    def __init__(self, expected: Collection[str] = ()):
        self._expected = expected
        self._passed_over: Counter[str] = Counter()
        self._others: dict[str, None] = {}

    def pass_over(self, reason: str, count: int = 1) -> None:
        """Count files that are left aside; the reason follows their number, "(s)" for a plural."""
        if reason not in self._expected:
            self._passed_over[reason] += count

    def add(self, line: str) -> None:
        """Add a line, once."""
        self._others[line] = None

    def lines(self) -> tuple[str, ...]:
        """Return all there is to say, a line each."""
        counts = +self._passed_over
        if not counts:
            return tuple(self._others)
        common = counts.most_common(_MOST_REASONS)
        shown = [
            f"{count:,} {numbered(plain_line(reason, 120), count)}" for reason, count in common
        ]
        rest = counts.total() - sum(count for _, count in common)
        shown += [f"{rest:,} others"] if rest else []
        total = counts.total()
        line = numbered(f"{total:,} file(s) passed over: {', '.join(shown)}", total)
        return line, *self._others


def numbered(text: str, count: int) -> str:
    """Return a text with its first "(s)" as "s", or as nothing of one."""
    return text.replace("(s)", "" if count == 1 else "s", 1)
