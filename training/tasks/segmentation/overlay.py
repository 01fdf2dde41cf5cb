"""Masks drawn over photographs, so that each region is seen on whatever is below it.

A region has the color of its class over the photograph, and around it a line in black or white,
whichever is further from what it covers. Pixels of no class are hatched in gray.
"""

import numpy as np

from ...data import IGNORED
from ...plots.pictures import pictures

TINT = 0.5  # of the classes' colors over the photograph
HATCH = (0.4, 0.8)  # the grays of pixels of no class: the ground, and the lines
_HATCHED = 0.7  # of these over the photograph
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601
_SIDE = 160  # an image of this side has lines one pixel wide


def palette(classes: int) -> np.ndarray:
    """``(classes, 3)`` uint8, a color for each class: black for the first, and told apart.

    The bits of the number are dealt out to red, green and blue from the highest down, as the
    masks of Pascal VOC have it.

    Example:
        >>> palette(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    colors = np.zeros((classes, 3), np.uint8)
    for k in range(classes):
        for bit in range(8):
            colors[k, bit % 3] |= ((k >> bit) & 1) << (7 - bit // 3)
    return colors


def overlay(images: np.ndarray, masks: np.ndarray, classes: int) -> np.ndarray:
    """Draw masks over photographs; the first class leaves them as they are.

    Args:
        images: ``(N, H, W, C)``, uint8 or of another format: see `training.plots.pictures`.
        masks: ``(N, H, W)``, classes, or `IGNORED`.
        classes: K.

    Returns:
        ``(N, H, W, 3)`` in [0, 1]. Where a region meets one of a lower class, or of none, the line
        around it is within the other, so that what is one pixel wide keeps its color.
    """
    images = pictures(images)
    photo = (np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images) / 255
    region = np.where(masks < classes, masks, 0).astype(np.int32)
    tint = palette(256)[region] / 255
    shown = np.where((region > 0)[..., None], (1 - TINT) * photo + TINT * tint, photo)
    hatched = (1 - _HATCHED) * photo + _HATCHED * _hatch(masks.shape[1:])[..., None]
    shown = np.where((masks == IGNORED)[..., None], hatched, shown)
    width = max(1, round(min(masks.shape[1:]) / _SIDE))
    line = (shown @ _LUMINANCE < 0.5).astype(shown.dtype)
    return np.where(_around(region, width)[..., None], line[..., None], shown)


def _hatch(size: tuple[int, ...]) -> np.ndarray:
    """Return diagonal lines ``(H, W)``, a third of the ground as wide as what is between them."""
    step = max(1, round(min(size) / _SIDE))
    rows, columns = np.indices(size)
    return np.where((rows + columns) // step % 4 == 0, HATCH[1], HATCH[0])


def _around(region: np.ndarray, width: int) -> np.ndarray:
    """Return which pixels are within `width` of one of a higher class, in a row or column."""
    found = np.zeros(region.shape, bool)
    for axis in (1, 2):
        for by in range(1, min(width, region.shape[axis] - 1) + 1):
            size = region.shape[axis] - by
            low = np.take(region, range(size), axis)
            high = np.take(region, range(by, by + size), axis)
            before, after = (
                tuple(slice(start, start + size) if a == axis else slice(None) for a in range(3))
                for start in (0, by)
            )
            found[before] |= high > low
            found[after] |= low > high
    return found
