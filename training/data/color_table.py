"""Masks whose pixels are colors: the table that says which class each color is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..common.colors import Color, problem_with_colors
from .errors import DataError
from .labels import IGNORED


class ColorTable(NamedTuple):
    """Colors of classes.

    Attributes:
        colors: one for each class, in their order.
        ignored: those of pixels of no class.
    """

    colors: tuple[tuple[int, int, int], ...]
    ignored: tuple[tuple[int, int, int], ...] = ()


def color_table(
    colors: Sequence[Color], ignored: Sequence[Color] = (), *, classes: int
) -> ColorTable:
    """Make the table of ``data.colors`` and ``data.ignored_colors``.

    Raises:
        DataError: there is not one color for each of so many classes, one is not three numbers of 0
            to 255, or stands there twice.
    """
    if (problem := problem_with_colors(colors, ignored, classes)) is not None:
        raise DataError(f"data.colors: colors {problem}")
    every = [tuple(map(int, color)) for color in (*colors, *ignored)]
    return ColorTable(tuple(every[:classes]), tuple(every[classes:]))  # type: ignore[arg-type]


def classes_of_colors(mask: np.ndarray, table: ColorTable, name: str) -> np.ndarray:
    """Look the color of each pixel up.

    Args:
        mask: ``(H, W, 3)``, uint8.
        table: the colors.
        name: what errors call the mask.

    Returns:
        ``(H, W)``, int32: classes, or `IGNORED`.

    Raises:
        DataError: a color is not in the table; names the first pixel that has it, and all such
            colors.

    Example:
        >>> table = color_table([(0, 0, 0), (128, 0, 0)], [(224, 224, 192)], classes=2)
        >>> mask = np.array([[[128, 0, 0], [0, 0, 0], [224, 224, 192]]], np.uint8)
        >>> classes_of_colors(mask, table, "x.png").tolist()
        [[1, 0, 255]]
    """
    numbers = [*range(len(table.colors)), *(IGNORED for _ in table.ignored)]
    keys = packed(np.array((*table.colors, *table.ignored), np.int32))
    order = np.argsort(keys)
    keys, numbers = keys[order], np.array(numbers, np.int32)[order]
    wanted = packed(mask.astype(np.int32))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    unknown = keys[place] != wanted
    if unknown.any():
        row, column = np.argwhere(unknown)[0].tolist()
        others = np.unique(wanted[unknown])
        color = mask[row, column].tolist()
        more = f"; so are {len(others) - 1} more color(s)" if len(others) > 1 else ""
        raise DataError(
            f"{name}: the pixel in row {row} and column {column}, counted from 0, is {color}, "
            f"which is not among data.colors and data.ignored_colors{more}; add it to one of them, "
            "or mend the mask"
        )
    return numbers[place]


def packed(colors: np.ndarray) -> np.ndarray:
    """Return a number for each color, ``(...)`` of ``(..., 3)`` int32: ``0xRRGGBB``."""
    return (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
