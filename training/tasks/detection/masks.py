"""Masks on the host: from a grid within a box to pixels of the image, and as runs of pixels.

One mask of the image's size is in memory at a time: many at once are the commonest way to run out
of it.
"""

from typing import Any, TypeAlias

import numpy as np

from ...data.detection.rle import decode_runs, encode_mask

Rle: TypeAlias = dict[str, Any]  # {"size": [h, w], "counts": text}, as COCO's results have it
THRESHOLD = 0.5  # a pixel belongs to the object above it


def paste_mask(
    mask: np.ndarray, box: np.ndarray, size: tuple[int, int]
) -> tuple[tuple[int, int], np.ndarray]:
    """Interpolate a mask bilinearly over its box, and nowhere else.

    Args:
        mask: ``(mH, mW)``, probabilities within the box.
        box: ``(4,)``, in pixels of the image.
        size: ``(h, w)`` of the image.

    Returns:
        ``(top, left)``, and from there on the probabilities of the pixels whose middle is in the
        box, float32, as `ops.paste_masks` has them.

    Example:
        >>> (top, left), inside = paste_mask(np.ones((2, 2)), np.array([1.0, 0, 3, 2]), (2, 4))
        >>> (top, left), inside.tolist()
        ((0, 1), [[1.0, 1.0], [1.0, 1.0]])
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    (top, Y), (left, X) = _hats(y1, y2, size[0], len(mask)), _hats(x1, x2, size[1], len(mask[0]))
    return (top, left), (Y @ mask.astype(np.float32) @ X.T)


def cut_mask(mask: np.ndarray, box: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Interpolate a mask bilinearly over a part of its box.

    Args:
        mask: ``(mH, mW)``, probabilities within the box.
        box: ``(4,)``.
        part: ``(4,)``, a box within.

    Returns:
        ``(mH, mW)``, probabilities within the part; the mask itself where that is the box.

    Example:
        >>> box, right = np.array([0.0, 0, 4, 2]), np.array([2.0, 0, 4, 2])
        >>> cut_mask(np.array([[0.0, 1.0]]), box, right).tolist()
        [[0.75, 0.75]]
    """
    if np.array_equal(box, part):
        return mask
    Y, X = (
        _hats_at(_middles(part[i], part[i + 2], n), box[i], box[i + 2], n)
        for i, n in ((1, len(mask)), (0, len(mask[0])))
    )
    return Y @ mask.astype(np.float32) @ X.T


def decode_mask(runs: Rle) -> np.ndarray:
    """Return the mask ``(h, w)`` bool of runs."""
    return decode_runs(runs["counts"], runs["size"], "mask")


def encode_pasted(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> Rle:
    """Return the runs of the pixels that belong to an object.

    Args:
        mask: ``(mH, mW)``, probabilities within the box, floating point or bytes of them.
        box: ``(4,)``, in pixels of the image, unclipped.
        size: ``(h, w)`` of the image.
    """
    mask = mask / 255 if mask.dtype == np.uint8 else mask
    (top, left), inside = paste_mask(mask, box, size)
    whole = np.zeros(size, np.uint8, order="F")
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside > THRESHOLD
    return encode_mask(whole)


def as_bytes(runs: Rle) -> Any:
    """Return runs as pycocotools takes them."""
    return runs | {"counts": runs["counts"].encode()}


def _hats(low: float, high: float, pixels: int, elements: int) -> tuple[int, np.ndarray]:
    """Return the first pixel within an interval, and the weight of each element for each pixel."""
    first = min(max(int(np.ceil(low - 0.5)), 0), pixels)
    end = min(max(int(np.floor(high - 0.5)) + 1, first), pixels)
    if high <= low:
        return first, np.zeros((0, elements), np.float32)
    return first, _hats_at(np.arange(first, end) + 0.5, low, high, elements)


def _middles(low: float, high: float, elements: int) -> np.ndarray:
    """Return the middle of each of so many equal parts of an interval."""
    return low + (np.arange(elements) + 0.5) / elements * (high - low)


def _hats_at(places: np.ndarray, low: float, high: float, elements: int) -> np.ndarray:
    """Return the weight of each element of an interval that has a length, at each place."""
    u = (places - low) / max(high - low, 1e-9) * elements - 0.5
    distance = np.abs(u[:, None] - np.arange(elements))
    return np.maximum(1 - distance, 0).astype(np.float32)
