"""The objects of an image on the host, true and found, in pixels of the image itself.

What a network sees is an image at another scale, from its top left corner on: an image file's
placement is `scale`, by which its coordinates were multiplied, and `size`, its height and width.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from ....model.detection.structures import Detections, GroundTruth
from ...data.detection.rle import encode_mask
from .masks import Rle, as_bytes, encode_pasted


class Placement(Protocol):
    """Where an image file lies in what the network sees; a `training.data.ImageNote` is one."""

    @property
    def scale(self) -> tuple[float, float]: ...  # noqa: D102

    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102


class Placed(NamedTuple):
    """The placement of an image that is its own canvas, or of any other."""

    size: tuple[int, int]  # (h, w)
    scale: tuple[float, float] = (1.0, 1.0)  # (sy, sx)


class TrueObjects(NamedTuple):
    """The objects that are in an image.

    Attributes:
        boxes: ``(M, 4)`` float64, x1, y1, x2, y2.
        classes: ``(M,)`` in 0 .. K-1.
        ignored: ``(M,)`` bool: neither hit nor miss.
        areas: ``(M,)``, square pixels.
        masks: of each, run-length encoded; none where there are none.
        size: ``(h, w)`` of the image.
    """

    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray
    masks: tuple[Rle, ...]
    size: tuple[int, int]


class FoundObjects(NamedTuple):
    """The objects that a network found in an image, best first.

    Attributes:
        boxes: ``(D, 4)`` float64, x1, y1, x2, y2.
        scores: ``(D,)`` in [0, 1].
        classes: ``(D,)`` in 0 .. K-1.
        masks: of each, run-length encoded; none where the network has no mask head.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: tuple[Rle, ...] = ()

    def rows(self, which: np.ndarray) -> "FoundObjects":
        """Return those that truth values ``(D,)`` select."""
        masks = tuple(mask for mask, there in zip(self.masks, which, strict=False) if there)
        return FoundObjects(self.boxes[which], self.scores[which], self.classes[which], masks)


def found_in(detections: Detections, place: Placement) -> FoundObjects:
    """Return what was found in an image file, in its own pixels.

    Args:
        detections: of one image, without the images' axis: boxes ``(D, 4)``.
        place: of the image file.

    Returns:
        The rows that are there, clipped to the image, those without area left out; equal scores in
        the order of their classes.

    Example:
        >>> one = Detections(np.array([[8.0, 4, 80, 20]]), np.array([0.9]), np.array([2]))
        >>> found_in(one, Placed((30, 30), scale=(1.0, 2.0))).boxes
        array([[ 4.,  4., 30., 20.]])
    """
    (h, w), (sy, sx) = place.size, place.scale
    boxes = np.asarray(detections.boxes, np.float64) / (sx, sy, sx, sy)
    clipped = np.clip(boxes, 0, (w, h, w, h))
    scores, classes = np.asarray(detections.scores), np.asarray(detections.classes)
    there = (classes >= 0) & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    order = np.lexsort((classes, -scores))  # stable
    order = order[there[order]]
    masks: tuple[Rle, ...] = ()
    if detections.masks is not None:
        each = (np.asarray(detections.masks[i]) for i in order)
        masks = tuple(encode_pasted(m, boxes[i], (h, w)) for m, i in zip(each, order, strict=True))
    return FoundObjects(clipped[order], scores[order], classes[order], masks)


def true_in(truth: GroundTruth, place: Any) -> TrueObjects:
    """Return what is in an image file, in its own pixels.

    Args:
        truth: of one image, without the images' axis: boxes ``(M, 4)``.
        place: of the image file. Where it has `areas` and `masks`, as an ImageNote, they are those
            of the objects; else an area is that of the box, and masks are those of the truth.
    """
    (h, w), (sy, sx) = place.size, place.scale
    there = np.flatnonzero(np.asarray(truth.classes) >= 0)
    boxes = np.asarray(truth.boxes, np.float64)[there] / (sx, sy, sx, sy)
    areas = np.asarray(getattr(place, "areas", ()), np.float64)
    masks = tuple(getattr(place, "masks", ()))
    ids = np.asarray(truth.masks)
    if not masks and ids.size:
        masks = tuple(encode_mask(ids[:h, :w] == row + 1) for row in there)
    if not len(areas):
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    classes, ignored = np.asarray(truth.classes)[there], np.asarray(truth.ignored)[there]
    return TrueObjects(boxes, classes, ignored, areas, masks, (h, w))


def as_xywh(boxes: np.ndarray) -> np.ndarray:
    """Return boxes ``(..., 4)`` as x, y, width, height, which is COCO's way."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def overlaps(found: FoundObjects, truth: TrueObjects, *, masks: bool = False) -> np.ndarray:
    """Return the IoU ``(D, M)`` of what was found with what is there, of boxes or masks.

    With an object that is ignored it is the share of what was found that lies within.
    """
    from pycocotools.mask import iou

    if not len(found.classes) or not len(truth.classes):
        return np.zeros((len(found.classes), len(truth.classes)))
    crowds = truth.ignored.astype(np.uint8).tolist()
    rows: list[Any] = [
        [as_bytes(mask) for mask in objects.masks] if masks else as_xywh(objects.boxes)
        for objects in (found, truth)
    ]
    return np.asarray(iou(rows[0], rows[1], crowds))
