"""Which object each pixel belongs to: a map of bytes an image, painted when it is looked at."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..mask_file import resize_nearest
from ..placement import Placement
from ..streaming import Deferred
from .rle import decode_runs


class Painting(NamedTuple):
    """The masks of an image's objects, in the order in which they are painted.

    Attributes:
        placement: where the image lies on the canvas.
        masks: the runs of each, see `encode_mask`.
        rows: the row of each among the image's objects, from 1.
    """

    placement: Placement
    masks: tuple[str, ...]
    rows: tuple[int, ...]


class Painted(Deferred):
    """Maps ``(N, H, W)``: the row of the object that a pixel belongs to, from 1; 0 of none.

    Args:
        paintings: of each image, an array ``(N,)`` of objects.
        canvas: ``(H, W)``.
    """

    def __init__(self, paintings: np.ndarray, canvas: Sequence[int]):
        self._paintings, self._canvas = paintings, (int(canvas[0]), int(canvas[1]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return ``(N, H, W)``."""
        return len(self._paintings), *self._canvas

    def row(self, i: int) -> np.ndarray:
        """Paint the map of image `i`."""
        return paint(self._paintings[i], self._canvas)

    def chosen(self, index: slice | np.ndarray) -> "Painted":
        """Return some of the maps, still to be painted."""
        return Painted(self._paintings[index], self._canvas)

    def identity(self) -> bytes:
        """Compute a digest of all masks."""
        digest = hashlib.sha256(f"{self.shape}".encode())
        for painting in self._paintings:
            digest.update(json.dumps(painting).encode())
        return digest.digest()


def paint(painting: Painting, canvas: Sequence[int]) -> np.ndarray:
    """Paint the masks of an image, one over the other, as their rows: ``(H, W)``."""
    ids = np.zeros((int(canvas[0]), int(canvas[1])), np.uint8)
    size, placed = painting.placement
    inside = ids[: placed[0], : placed[1]]
    for runs, row in zip(painting.masks, painting.rows, strict=True):
        inside[resize_nearest(decode_runs(runs, size, "masks"), placed)] = row
    return ids


def as_paintings(paintings: Sequence[Painting]) -> np.ndarray:
    """Make an array of one axis, which indexes as one."""
    array = np.empty(len(paintings), object)
    for i, painting in enumerate(paintings):
        array[i] = painting
    return array
