"""Where an image lies on the canvas of one size that all images of a data set are brought to.

Either all of the canvas is the image, stretched; or the image keeps its aspect and lies at the top
left, and what is left over is gray (letterbox).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MARGIN = 114  # the value of what is left over; 0 of images of one channel


class Placement(NamedTuple):
    """Where an image is; boxes are ``(x1, y1, x2, y2)`` in pixels.

    Attributes:
        size: ``(h, w)`` of the image.
        placed: the size it has on the canvas, at its top left.

    Example:
        >>> place = letterboxed((30, 60), (32, 32))
        >>> place.placed, place.scale
        ((16, 32), (0.5333333333333333, 0.5333333333333333))
        >>> place.to_image(place.to_canvas(np.array([[15.0, 0.0, 60.0, 30.0]]))).tolist()
        [[15.0, 0.0, 60.0, 30.0]]
    """

    size: tuple[int, int]
    placed: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Return ``(sy, sx)``: the two differ by rounding, or where the image is stretched."""
        return self.placed[0] / self.size[0], self.placed[1] / self.size[1]

    def to_canvas(self, boxes: np.ndarray) -> np.ndarray:
        """Return boxes ``(..., 4)`` of the image in pixels of the canvas."""
        sy, sx = self.scale
        return boxes * np.array([sx, sy, sx, sy])

    def to_image(self, boxes: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """Return boxes ``(..., 4)`` of the canvas in pixels of the image, clipped to it or not."""
        sy, sx = self.scale
        h, w = self.size
        moved = boxes / np.array([sx, sy, sx, sy])
        return np.clip(moved, 0, np.array([w, h, w, h])) if clip else moved


def place(size: Sequence[int], canvas: Sequence[int], *, letterbox: bool) -> Placement:
    """Return where an image of ``(h, w)`` lies on a canvas ``(H, W)``."""
    return letterboxed(size, canvas) if letterbox else Placement(_pair(size), _pair(canvas))


def letterboxed(size: Sequence[int], canvas: Sequence[int]) -> Placement:
    """Return the placement of an image that keeps its aspect: as large as the canvas allows.

    Args:
        size: ``(h, w)`` of the image.
        canvas: ``(H, W)``.
    """
    (h, w), (H, W) = _pair(size), _pair(canvas)
    if H * w <= W * h:  # as high as the canvas; whole numbers, rounded half up
        return Placement((h, w), (H, max((2 * w * H + h) // (2 * h), 1)))
    return Placement((h, w), (max((2 * h * W + w) // (2 * w), 1), W))


def margin(channels: int) -> int:
    """Return the value of the canvas beside an image."""
    return 0 if channels == 1 else MARGIN


def _pair(size: Sequence[int]) -> tuple[int, int]:
    return int(size[0]), int(size[1])
