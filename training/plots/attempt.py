"""A figure that cannot be drawn is a warning that names it: nothing else is lost by it."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ..common.text import plain_line

_LOG = logging.getLogger(__name__)
Drawn = TypeVar("Drawn")


def attempt(name: str, draw: Callable[[], Drawn], otherwise: Drawn) -> Drawn:
    """Return what `draw` returns; where it fails, for whatever reason, warn and return the other.

    Args:
        name: of the figure.
        draw: draws it.
        otherwise: returned in place of it.
    """
    try:
        return draw()
    except Exception as error:
        warn_of(name, error)
        return otherwise


def draw_each(figures: Mapping[str, Callable[[], Path | list[Path]]]) -> list[Path]:
    """Draw figures one by one, whether or not those before could be drawn.

    Args:
        figures: by name, a function that draws one, or some, and returns the files.

    Returns:
        The files that were written.
    """
    written: list[Path] = []
    for name, draw in figures.items():
        found = attempt(name, draw, [])
        written += found if isinstance(found, list) else [found]
    return written


def warn_of(name: str, error: Exception) -> None:
    """Log that a figure could not be drawn, and why."""
    name, reason = (plain_line(text, 200) for text in (name, str(error).partition("\n")[0]))
    _LOG.warning(f"figures: {name} could not be drawn: {type(error).__name__}: {reason}")
