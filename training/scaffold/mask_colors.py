"""Masks of colors: which there are, what they are called, and which are of no class."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import DataError, decode_mask
from ..data.archive import Place, source_of
from ..data.color_table import packed
from ..data.each_file import read_readable
from ..data.errors import UnreadableError
from ..data.mask_file import decode_color_mask
from ..data.mask_folders import MOST_COLORS
from .class_names import Named, is_background

_BORDER = 11  # pixels: what is nowhere as wide as that may be a border
_EDGES = 8  # colors that are nowhere wider than two pixels: so many are no classes
_OF_NO_CLASS = re.compile(r"void|ignored?|unlabell?ed|border|don'?t[ _]?care", re.IGNORECASE)
_BLACK, _WHITE, _VOC_BORDER = 0x000000, 0xFFFFFF, 0xE0E0C0


class Painted(NamedTuple):
    """The colors of masks.

    Attributes:
        colors: ``0xRRGGBB``, the most frequent first.
        borders: black, white or VOC's, where it is everywhere a thin line between two others.
    """

    colors: tuple[int, ...]
    borders: frozenset[int]


class _Seen(NamedTuple):
    """What one mask has: its colors, their pixels, which are wide, and which may be borders."""

    colors: np.ndarray
    counts: np.ndarray
    wide: np.ndarray
    borders: dict[int, bool]


def colors_of(pairs: Sequence[tuple[Place, Place]], where: Path) -> Painted:
    """Look at the colors of all masks.

    Args:
        pairs: images with their masks.
        where: what errors call the masks.

    Raises:
        DataError: the first mask is none of colors; there are too many colors, or so many at edges
            alone that they were made by smoothing.
    """
    decode_color_mask(source_of(pairs[0][1]), name=str(pairs[0][1]))  # a line says what is wrong

    def look(i: int) -> _Seen:
        mask = pairs[i][1]
        return _look(packed(decode_color_mask(source_of(mask), name=str(mask)).astype(np.int32)))

    seen, _ = read_readable(look, len(pairs), "skip", "looking at the colors of masks")
    colors, at = np.unique(np.concatenate([each.colors for each in seen]), return_inverse=True)
    counts = np.bincount(at, np.concatenate([each.counts for each in seen]))
    wide = np.bincount(at, np.concatenate([each.wide for each in seen])) > 0
    edges = int((~wide).sum())
    if len(colors) > MOST_COLORS or (edges >= _EDGES and edges > 2 * wide.sum()):
        raise DataError(
            f"{where}: the masks have {len(colors):,} colors, {edges:,} of them nowhere wider than "
            "two pixels: their edges are smoothed (anti-aliased), or they were saved as JPEG or "
            "resized once; make them again without, each pixel in the color of its class, as PNG"
        )
    if len(colors) < 2:
        raise DataError(f"{where}: the masks have one color alone: there is nothing to tell apart")
    thin = {
        color
        for color in (_BLACK, _WHITE, _VOC_BORDER)
        if (its := [each.borders[color] for each in seen if color in each.borders]) and all(its)
    }
    order = np.argsort(-counts, kind="stable")
    return Painted(tuple(colors[order].tolist()), frozenset(thin))


def has_levels(mask: Place) -> bool:
    """Return whether the pixels of a mask, numbers too, are colors of 8 bits."""
    try:
        decode_color_mask(source_of(mask))
    except DataError:
        return False
    return True


def _look(keys: np.ndarray) -> _Seen:
    """Look at one mask, ``(H, W)`` of `packed` colors."""
    colors, at, counts = np.unique(keys, return_inverse=True, return_counts=True)
    if len(colors) > MOST_COLORS:  # no masks, which is said once all are seen
        return _Seen(colors, counts, np.zeros(len(colors), bool), {})
    numbers = at.reshape(keys.shape).astype(np.uint8)
    across, down = keys[:, 1:] == keys[:, :-1], keys[1:] == keys[:-1]
    block = across[:-2, :-1] & across[1:-1, :-1] & across[2:, :-1]
    block &= across[:-2, 1:] & across[1:-1, 1:] & across[2:, 1:]
    block &= down[:-1, :-2] & down[1:, :-2]
    wide = np.isin(colors, keys[:-2, :-2][block]) if block.size else np.zeros(len(colors), bool)
    borders = {}
    for color in {_BLACK, _WHITE, _VOC_BORDER} & set(colors.tolist()):
        its = keys == color
        if _is_broad(its):
            borders[color] = False
        elif wide[colors != color].sum() >= 2:  # a mask with fewer regions says nothing
            borders[color] = _is_between(numbers, its)
    return _Seen(colors, counts, wide, borders)


def _is_broad(its: np.ndarray) -> bool:
    """Return whether a color is as wide anywhere as no border is."""
    return min(its.shape) < _BORDER or bool(_filtered("MinFilter", 255 * its).any())


def _is_between(numbers: np.ndarray, its: np.ndarray) -> bool:
    """Return whether nearly all pixels of a color have two others around."""
    # All but the color as 1 to 254: no more than so many others leave two values for it.
    others = np.where(numbers > numbers[its][0], numbers, numbers + 1)
    most = _filtered("MaxFilter", np.where(its, 0, others))
    least = _filtered("MinFilter", np.where(its, 255, others))
    return bool((most > least)[its].mean() >= 0.9)


def _filtered(kind: str, values: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageFilter

    image = Image.fromarray(values.astype(np.uint8))
    return np.array(image.filter(getattr(ImageFilter, kind)(_BORDER)))


def palettes_differ(pairs: Sequence[tuple[Place, Place]]) -> bool:
    """Return whether a number is of one color in one mask, and of another one in the next."""
    color_of: dict[int, int] = {}
    for _, mask in pairs:
        try:
            numbers = decode_mask(source_of(mask), name=str(mask))
            keys = packed(decode_color_mask(source_of(mask), name=str(mask)).astype(np.int32))
        except UnreadableError:  # which is left out
            continue
        except DataError:  # transparent, or of 16 bits: no palette of colors
            return False
        found, first = np.unique(numbers, return_index=True)
        its = keys.ravel()[first]
        if found[-1] > 0 and (its == found * 0x010101).all():
            return False  # levels of gray, and no palettes
        for number, color in zip(found.tolist(), its.tolist(), strict=True):
            if color_of.setdefault(number, color) != color:
                return True
    return False


def table_of_colors(
    painted: Painted, named: Named | None
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Choose the classes of colors, and their names.

    Args:
        painted: the colors.
        named: the file of names, if there is one.

    Returns:
        The keys of ``[data]``, the reasons for some, and what people should check.
    """
    names, remarks = _names(painted, named)
    ignored = _of_no_class(painted, names, named)
    classes = [color for color in _in_order(painted, names) if color not in ignored]
    unnamed = [color for color in classes if color not in names]
    own = [names.get(color, f"color_{color:06x}") for color in classes]
    file = "" if named is None else named.file
    why = "those of the colors: rename them" if unnamed else f"as {file} calls the colors"
    if unnamed and names:
        why = f"as {file} calls the colors; it lacks those called color_...: rename them"
    if unnamed:
        remarks.append(f"{len(unnamed)} class(es) are called by their colors: rename them")
    table = {"mask_kind": "classes", "classes": own, "colors": list(map(_levels, classes))}
    reasons = {
        "mask_kind": "a color is a class",
        "classes": why,
        "colors": "red, green, blue of each class, in their order",
    }
    if ignored:
        table["ignored_colors"] = list(map(_levels, ignored))
        reasons["ignored_colors"] = f"of no class: {'; '.join(ignored.values())}"
    return table, reasons, remarks


def _names(painted: Painted, named: Named | None) -> tuple[dict[int, str], list[str]]:
    """Return the names of colors by a file: by its colors, or by VOC's for its numbers."""
    if named is None:
        return {}, []
    if named.colors:
        names = dict(zip(named.colors, named.names, strict=True))
        absent = [name for color, name in names.items() if color not in painted.colors]
        remarks = [f"in {named.file}, but in no mask: {', '.join(absent)}"] if absent else []
        return {color: names[color] for color in names if color in painted.colors}, remarks
    voc = _voc_colors()[: len(named.names)]
    if set(painted.colors) - {_VOC_BORDER} <= set(voc):
        numbered = zip(voc, named.names, strict=False)
        return {color: name for color, name in numbered if color in painted.colors}, []
    return {}, [f"{named.file} has names without colors, so it does not say which is of which"]


def _of_no_class(painted: Painted, names: dict[int, str], named: Named | None) -> dict[int, str]:
    """Return which colors are ignored, and why; none where fewer than two would be left."""
    found = {}
    for color in painted.colors:
        if color in names and _OF_NO_CLASS.fullmatch(names[color]) and named is not None:
            found[color] = f"called {names[color]} in {named.file}"
        elif color in painted.borders and color not in names:
            found[color] = f"{_levels(color)} is everywhere a thin line between two others"
        elif color == _VOC_BORDER and set(painted.colors) - {color} <= set(_voc_colors()):
            found[color] = f"{_levels(color)} is Pascal VOC's, beside VOC's colors"
    return found if len(painted.colors) - len(found) >= 2 else {}


def _in_order(painted: Painted, names: dict[int, str]) -> list[int]:
    """Return colors in the order of their classes: as in the file; or black, then by frequency."""
    unnamed = [color for color in painted.colors if color not in names]
    if not names and _BLACK in unnamed:
        unnamed.insert(0, unnamed.pop(unnamed.index(_BLACK)))
    order = [*names, *unnamed]
    for color, name in names.items():
        if is_background(name):
            order.insert(0, order.pop(order.index(color)))
    return order


def _levels(color: int) -> list[int]:
    return [color >> 16, color >> 8 & 255, color & 255]


def _voc_colors() -> list[int]:
    """Return the color of each number in Pascal VOC's palette: its bits, spread over the three."""
    return [
        sum(
            ((number >> (3 * bit + part)) & 1) << (7 - bit + shift)
            for part, shift in enumerate((16, 8, 0))
            for bit in range(3)
        )
        for number in range(256)
    ]
