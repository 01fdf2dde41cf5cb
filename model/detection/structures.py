"""The inputs and outputs of detectors: pytrees with the image in front.

The letters of shapes: N images, M objects of one at most, A anchors, R proposals, S sampled
regions, D detections, K classes. Boxes are (x1, y1, x2, y2) in pixels of the image that the network
sees, as in `convax.ops.detection`. A row that stands for nothing is marked: by class -1, or by a
label of -1.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array


class GroundTruth(NamedTuple):
    """The objects of a batch of images.

    Attributes:
        boxes: ``(N, M, 4)`` float32; zeros where there is no object.
        classes: ``(N, M)`` int32 in 0 .. K-1; -1 where there is no object.
        ignored: ``(N, M)`` bool: a crowd (COCO) or difficult (VOC), neither hit nor miss.
        masks: ``(N, H, W)`` uint8, the row of the object that a pixel belongs to, counted from 1;
            0 for none. ``(N, 0, 0)`` where there are no masks.
        proposals: ``(N, R, 4)``, regions that may have an object, found beforehand; a row without
            area is padding. They move with the image as the boxes do. None for networks that
            propose regions themselves.
    """

    boxes: Array
    classes: Array
    ignored: Array
    masks: Array
    proposals: Array | None = None


class DetectorInput(NamedTuple):
    """The input of a detector: images, and what else it is given with them.

    Attributes:
        images: ``(N, H, W, C)``.
        truth: in training, and where a loss is wanted.
        proposals: ``(N, R, 4)``, rows without area are padding; for networks that propose none.
    """

    images: Array
    truth: GroundTruth | None = None
    proposals: Array | None = None


class RPNOutput(NamedTuple):
    """Of the proposal network, and what it should have given.

    Attributes:
        logits: ``(N, A)``, that there is an object.
        deltas: ``(N, A, 4)``, from the anchor to its box.
        labels: ``(N, A)`` int32: 1 object, 0 none, -1 not sampled.
        targets: ``(N, A, 4)``; zeros where the label is not 1.
    """

    logits: Array
    deltas: Array
    labels: Array
    targets: Array


class RoIOutput(NamedTuple):
    """Of the sampled regions, and what they should have given; those with an object come first.

    Attributes:
        boxes: ``(N, S, 4)``.
        logits: ``(N, S, K + 1)``, the background first.
        deltas: ``(N, S, K + 1, 4)``.
        labels: ``(N, S)`` int32: 0 background, class + 1, -1 padding.
        targets: ``(N, S, 4)``.
        masks: ``(N, P, m, m, K + 1)``, logits of the first P regions; None without a mask head.
        mask_targets: ``(N, P, m, m)`` in [0, 1].
    """

    boxes: Array
    logits: Array
    deltas: Array
    labels: Array
    targets: Array
    masks: Array | None = None
    mask_targets: Array | None = None


class Detections(NamedTuple):
    """The detections of a batch, best first.

    Attributes:
        boxes: ``(N, D, 4)``; zeros where there is no detection.
        scores: ``(N, D)`` float32 in [0, 1]; 0 where there is none.
        classes: ``(N, D)`` int32 in 0 .. K-1; -1 where there is none.
        masks: ``(N, D, m, m)`` float32, probabilities within the box; None without a mask head.
    """

    boxes: Array
    scores: Array
    classes: Array
    masks: Array | None = None

    def of(self, i: int) -> "Detections":
        """Return what was found in one image: the rows that are there, NumPy arrays.

        Args:
            i: the number of the image.

        Returns:
            boxes ``(n, 4)``, scores and classes ``(n,)``, masks ``(n, m, m)`` or None.

        Raises:
            ValueError: these are of a single image, without the images' axis.

        Example:
            >>> boxes, scores = np.zeros((1, 2, 4)), np.array([[0.9, 0]])
            >>> Detections(boxes, scores, np.array([[2, -1]])).of(0).classes
            array([2])
        """
        if np.ndim(self.classes) != 2:
            raise ValueError(
                f"of: got classes {np.shape(self.classes)}, need (N, D): these are of one image; "
                "take the rows where classes >= 0"
            )
        there = np.asarray(self.classes[i]) >= 0
        return jax.tree.map(lambda leaf: np.asarray(leaf[i])[there], self)

    def above(self, threshold: float) -> "Detections":
        """Return the detections with a score of a threshold and more, on the host.

        The others become empty rows, so that shapes stay as they are.
        """
        return self.where(np.asarray(self.scores) >= threshold)

    def where(self, kept: np.ndarray) -> "Detections":
        """Return the detections, on the host, with those rows alone that are kept.

        Args:
            kept: bool, of the shape of the scores; the other rows become empty.
        """

        def only(leaf: Any) -> np.ndarray:
            each = kept.reshape(kept.shape + (1,) * (np.ndim(leaf) - kept.ndim))
            return np.where(each, leaf, 0)

        chosen: Any = jax.tree.map(only, self)
        return chosen._replace(classes=np.where(kept, self.classes, -1))


class DetectorOutput(NamedTuple):
    """The output of a detector.

    Attributes:
        detections: None in training.
        rpn: None without truth, and for networks that propose nothing.
        regions: None without truth.
        logits: ``(N, D, K + 1)``, of the region that each detection is at, the background first;
            zeros where there is none. None in training.
        proposals: ``(N, D, 4)``, that region: the proposal that the detection was made of; zeros
            where there is none. None in training.
    """

    detections: Detections | None = None
    rpn: RPNOutput | None = None
    regions: RoIOutput | None = None
    logits: Array | None = None
    proposals: Array | None = None
