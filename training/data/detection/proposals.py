"""Regions of an image that may hold an object, for detectors that propose none themselves.

They are found without learning, and are a function of the image as it is stored and of nothing
else: so an image has the same ones in training, in an evaluation and in `predict`.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import DataError
from ..image import resize_image
from ..placement import margin

_INSTEAD = 'pip install "convax[proposals]", or write method = "sliding"'


class Proposing(NamedTuple):
    """How regions are proposed.

    Attributes:
        method: "selective_search", OpenCV's in its fast mode; "quality", in its slow one, which
            finds more; "sliding", boxes at regular places; or "file", what a file has of each
            image.
        most: of an image at most; of what is found beyond, a part is drawn.
        side: pixels of the image's longer side while it is searched.
        sides: of "sliding": roots of areas, in pixels;
        ratios: and heights over widths.
        path: of "file": an ``.npz`` of boxes ``(R, 4)``, in pixels of the image file, by its name.
        letterbox: whether an image may have a margin, which is not searched.
    """

    method: Literal["selective_search", "quality", "sliding", "file"]
    most: int = 1000
    side: int = 300
    sides: Sequence[float] = ()
    ratios: Sequence[float] = ()
    path: str | None = None
    letterbox: bool = False

    @property
    def searches(self) -> bool:
        """Return whether images are looked at."""
        return self.method in ("selective_search", "quality")


def proposing(table: Any, *, letterbox: bool) -> Proposing:
    """Return how a config has regions proposed.

    Args:
        table: ``[proposals]``.
        letterbox: whether its images may have a margin.
    """
    return Proposing(**table.model_dump(exclude_none=True), letterbox=letterbox)


def propose(image: np.ndarray, how: Proposing) -> np.ndarray:
    """Return the proposals of an image, sorted by their coordinates.

    Args:
        image: ``(H, W, C)`` uint8, as stored: C is 1 or 3.
        how: any method but "file".

    Returns:
        ``(R, 4)`` float32, x1 y1 x2 y2 in pixels of `image`, each once; R is at most ``how.most``,
        unless they are at regular places.

    Raises:
        DataError: there is no OpenCV with selective search, where that is asked for; or images
            have no proposals but those of a file.
    """
    if how.method == "sliding":
        return sliding(image.shape[:2], how.sides, how.ratios)
    if how.method == "file":
        raise DataError(
            'proposals.method = "file": it has proposals for its own images alone; propose those '
            "of others, and pass them to the predictor's function, or to what convax export writes"
        )
    found = _searched(image, how)
    if len(found) <= how.most:
        return found
    # Of the generator's raw output, which NumPy promises never to change.
    key = np.array([0, int.from_bytes(image_digest(image)[:8])], np.uint64)
    order = np.argsort(np.random.Philox(key=key).random_raw(len(found)), kind="stable")
    return found[np.sort(order[: how.most])]


def propose_batch(images: np.ndarray, how: Proposing) -> np.ndarray:
    """Return the proposals of images, ``(N, R, 4)`` float32; see `padded`.

    Args:
        images: ``(N, H, W, C)``, uint8, or floating point in [0, 1].
        how: as for `propose`.
    """
    if images.dtype != np.uint8:
        images = np.round(255 * images).astype(np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(partial(propose, how=how), images))
    return padded(found, rows_of(how, images.shape[1:3]))


def stand_ins(size: Sequence[int], how: Proposing) -> np.ndarray:
    """Return boxes in place of proposals that cannot be had, ``(R, 4)`` float32; see `padded`.

    They are at regular places, of a half, a quarter and an eighth of the image: enough to try a
    network on, not to look for objects with.

    Args:
        size: ``(H, W)``.
        how: as for `propose`; gives R alone.
    """
    boxes, rows = sliding(size, [min(size) / n for n in (2, 4, 8)], [1.0]), rows_of(how, size)
    if len(boxes) > rows:
        boxes = boxes[np.linspace(0, len(boxes) - 1, rows).round().astype(int)]
    return padded([boxes], rows)[0]


def rows_of(how: Proposing, size: Sequence[int]) -> int:
    """Return how many rows the proposals of an image ``(H, W)`` take, whatever is found."""
    return len(sliding(size, how.sides, how.ratios)) if how.method == "sliding" else how.most


def padded(found: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Return boxes of several images as one array ``(N, rows, 4)``; zeros are padding."""
    boxes = np.zeros((len(found), rows, 4), np.float32)
    for i, one in enumerate(found):
        boxes[i, : len(one)] = one
    return boxes


def image_digest(image: np.ndarray) -> bytes:
    """Compute the SHA-256 of an image ``(H, W, C)`` uint8."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image, np.uint8).data)
    return digest.digest()


def sliding(size: Sequence[int], sides: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Return boxes at regular places, half over each other, ``(R, 4)`` float32.

    Args:
        size: ``(H, W)``; a box that is longer along an axis is cut to it.
        sides: roots of areas, in pixels.
        ratios: heights over widths.

    Example:
        >>> sliding((4, 8), [4.0], [1.0]).tolist()
        [[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0], [4.0, 0.0, 8.0, 4.0]]
    """
    boxes = []
    for side in sides:
        for ratio in ratios:
            sizes = side * math.sqrt(ratio), side / math.sqrt(ratio)
            h, w = (min(length, whole) for length, whole in zip(sizes, size, strict=True))
            y, x = (_places(length, whole) for length, whole in zip((h, w), size, strict=True))
            top, left = (a.ravel() for a in np.meshgrid(y, x, indexing="ij"))
            boxes.append(np.stack([left, top, left + w, top + h], axis=-1))
    return _sorted(np.concatenate(boxes))


def _places(length: float, whole: int) -> np.ndarray:
    """Return where intervals begin that cover a whole, half a length apart or a little less."""
    steps = math.ceil(round(2 * (whole - length) / length, 6))
    return np.linspace(0, whole - length, steps + 1)


def _searched(image: np.ndarray, how: Proposing) -> np.ndarray:
    """Return what selective search finds.

    OpenCV finds the same boxes each time, but in another order: it ranks them with C's ``rand``.
    """
    cv2 = _opencv()
    inside = _without_margin(image) if how.letterbox else image
    h, w = inside.shape[:2]
    factor = how.side / max(h, w)
    size = [max(round(factor * length), 1) for length in (h, w)]
    small = resize_image(
        np.ascontiguousarray(inside[..., 0] if image.shape[2] == 1 else inside), size
    )
    color = np.stack([small] * 3, axis=-1) if small.ndim == 2 else small[..., ::-1]  # B, G, R
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(color))
    if how.method == "quality":
        search.switchToSelectiveSearchQuality()
    else:
        search.switchToSelectiveSearchFast()
    found = np.asarray(search.process(), np.float64).reshape(-1, 4)
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
    return _sorted(boxes * np.array([w / size[1], h / size[0]] * 2))


def _without_margin(image: np.ndarray) -> np.ndarray:
    """Return an image without the rows and columns at its end that letterboxing has added."""
    there = (image != margin(image.shape[2])).any(axis=2)
    h, w = (np.flatnonzero(there.any(axis=axis)).max(initial=-1) + 1 for axis in (1, 0))
    return image[:h, :w] if h and w else image


def _sorted(boxes: np.ndarray) -> np.ndarray:
    """Return each box once, in the order of the coordinates."""
    return np.unique(boxes.astype(np.float32), axis=0)


def _opencv() -> Any:
    """Import OpenCV with its contributed modules."""
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            f"proposals.method: selective search is OpenCV's, which is not installed; {_INSTEAD}"
        ) from None
    if not hasattr(cv2, "ximgproc"):
        raise DataError(
            "proposals.method: selective search is in cv2.ximgproc, which this OpenCV lacks: "
            "opencv-python and opencv-contrib-python-headless overwrite each other; uninstall "
            f"both, then {_INSTEAD}"
        )
    return cv2
