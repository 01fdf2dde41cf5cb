"""Masks as runs of pixels, column by column, as COCO has them: ``{"size", "counts"}``."""

from typing import Any

import numpy as np

from ..errors import DataError


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return the runs of a mask ``(h, w)`` of truth values: plain values, for JSON.

    Example:
        >>> encode_mask(np.eye(4, dtype=bool))
        {'size': [4, 4], 'counts': '01400000'}
    """
    from pycocotools import mask as coco

    runs: Any = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in runs["size"]], "counts": runs["counts"].decode()}


def decode_runs(counts: str | list[Any], size: tuple[int, int], name: str) -> np.ndarray:
    """Return the mask ``(h, w)`` bool of runs, compressed to a text or as numbers.

    pycocotools reads beyond the end of damaged ones, and fills up those that are too short with
    what is in memory; so they are read here.

    Args:
        counts: the lengths of runs that are not of the mask, are of it, and so on.
        size: ``(h, w)``.
        name: what errors call it.

    Raises:
        DataError: they are no runs, or not of as many pixels.
    """
    runs = _numbers(counts) if isinstance(counts, str) else counts
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in runs)
    if not whole or sum(runs) != size[0] * size[1]:
        raise DataError(
            f"{name}: its runs of pixels are not those of a mask of {size[0]}x{size[1]}; correct "
            "its segmentation"
        )
    belongs = np.arange(len(runs)) % 2 == 1
    return np.repeat(belongs, runs).reshape(size[::-1]).T


def polygons_mask(polygons: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """Return the mask ``(h, w)`` bool of polygons, ``[x, y, x, y, ...]`` each, as COCO draws them.

    Args:
        polygons: of three points or more each, within the image.
        size: ``(h, w)``.
    """
    from pycocotools import mask

    coco: Any = mask  # which has other types than it says
    runs = coco.merge(coco.frPyObjects(polygons, *size))
    return decode_runs(runs["counts"].decode(), size, "polygons")


def _numbers(text: str) -> list[int]:
    """Return the runs of a compressed text: five bits a character, the lowest first.

    Each from the fourth on is less the one two before. An empty list where the text is none such.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) and 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return [] if shift else runs
