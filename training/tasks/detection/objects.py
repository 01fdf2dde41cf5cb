"""The objects of an image on the host, true and found, in pixels of the image itself."""

from typing import Any, NamedTuple

import jax
import numpy as np

from ....model.detection.structures import Detections, GroundTruth
from ...data import ImageNote
from ...data.detection.objects import as_xywh
from ...data.detection.rle import encode_mask
from ...data.placement import Placement
from .masks import Rle, as_bytes, cut_mask, encode_pasted


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
        place: where the image file lies in what the network sees.

    Returns:
        The rows that are there, clipped to the image, those without area left out; equal scores in
        the order of their classes.

    Example:
        >>> one = Detections(np.array([[8.0, 4, 80, 20]]), np.array([0.9]), np.array([2]))
        >>> found_in(one, Placement((30, 30), placed=(30, 60))).boxes
        array([[ 4.,  4., 30., 20.]])
    """
    boxes, clipped, there = _boxes_in(detections, place)
    scores, classes = np.asarray(detections.scores), np.asarray(detections.classes)
    order = np.lexsort((classes, -scores))  # stable
    order = order[there[order]]
    masks: tuple[Rle, ...] = ()
    if detections.masks is not None:
        each = (np.asarray(detections.masks[i]) for i in order)
        pasted = (encode_pasted(m, boxes[i], place.size) for m, i in zip(each, order, strict=True))
        masks = tuple(pasted)
    return FoundObjects(clipped[order], scores[order], classes[order], masks)


def in_image(detections: Detections, place: Placement) -> Detections:
    """Return the detections of an image in pixels of its file, clipped to it.

    Args:
        detections: of one image, without the images' axis, on the host.
        place: where the image file lies in what the network sees.

    Returns:
        As many rows. Those without area in the image are empty, and the last; a mask is that of
        the clipped box.

    Example:
        >>> two = Detections(np.array([[70.0, 0, 80, 9], [8, 4, 80, 20]]), *np.ones((2, 2), int))
        >>> in_image(two, Placement((30, 30), placed=(30, 60))).boxes.tolist()
        [[4.0, 4.0, 30.0, 20.0], [0.0, 0.0, 0.0, 0.0]]
    """
    boxes, clipped, there = _boxes_in(detections, place)
    order = np.argsort(~there, kind="stable")
    moved: Any = detections._replace(boxes=clipped.astype(np.float32))  # pyright: ignore
    if moved.masks is not None:
        cut = [cut_mask(*each) for each in zip(moved.masks, boxes, clipped, strict=True)]
        moved = moved._replace(masks=np.stack(cut))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[order], moved.where(there))


def _boxes_in(
    detections: Detections, place: Placement
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes ``(D, 4)`` in pixels of an image file, as they are and clipped; which show."""
    seen = np.asarray(detections.boxes, np.float64)
    boxes, clipped = place.to_image(seen, clip=False), place.to_image(seen)
    shows = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    return boxes, clipped, shows & (np.asarray(detections.classes) >= 0)


def true_in(truth: GroundTruth, place: Placement, note: ImageNote | None = None) -> TrueObjects:
    """Return what is in an image file, in its own pixels.

    Args:
        truth: of one image, without the images' axis: boxes ``(M, 4)``.
        place: where the image file lies in what the network sees.
        note: of the image file. Areas and masks are those that it has; else an area is that of the
            box, and masks are those of the truth.
    """
    h, w = place.size
    there = np.flatnonzero(np.asarray(truth.classes) >= 0)
    boxes = place.to_image(np.asarray(truth.boxes, np.float64)[there], clip=False)
    areas = np.asarray(() if note is None else note.areas, np.float64)
    masks: tuple[Rle, ...] = () if note is None else note.masks
    ids = np.asarray(truth.masks)
    if not masks and ids.size:
        masks = tuple(encode_mask(ids[:h, :w] == row + 1) for row in there)
    if not len(areas):
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    classes, ignored = np.asarray(truth.classes)[there], np.asarray(truth.ignored)[there]
    return TrueObjects(boxes, classes, ignored, areas, masks, (h, w))


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
