"""The second stage's arithmetic: regions sampled in training, and turned into detections.

Girshick, Fast R-CNN, arXiv:1504.08083, sections 2.3 and 3. Functions are of one image; `jax.vmap`
maps them over a batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ... import ops
from .options import RegionOptions
from .proposals import has_sides
from .structures import Detections, GroundTruth

# Of the deltas of regions: torchvision's, after py-faster-rcnn, where they were deviations.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class Sampled(NamedTuple):
    """Regions of one image for the loss: see `RoIOutput`; `objects` are rows of the truth."""

    boxes: Array
    labels: Array
    targets: Array
    objects: Array


def sample_regions(
    key: Array, proposals: Array, proposed: Array, truth: GroundTruth, roi: RegionOptions
) -> Sampled:
    """Sample regions among the proposals and the true boxes, and say what each stands for.

    Args:
        key: of the sample.
        proposals: ``(R, 4)``.
        proposed: ``(R,)``, which of them are proposals, not padding.
        truth: of this image, without the batch.
        roi: thresholds and numbers.
    """
    there = truth.classes >= 0
    boxes = jnp.concatenate([proposals, truth.boxes])
    match = ops.match_boxes(
        truth.boxes,
        boxes,
        high_threshold=roi.fg_iou_thresh,
        low_threshold=roi.bg_iou_thresh,
        valid=there,
        ignored=truth.ignored,
    )
    candidates = jnp.concatenate([proposed, there & ~truth.ignored])
    labels = jnp.where(candidates, match.labels, -1)
    if roi.min_background_iou > 0:
        wanted = there & ~truth.ignored
        best = jnp.where(wanted[:, None], ops.box_iou(truth.boxes, boxes), 0).max(axis=0)
        far = (best < roi.min_background_iou) & wanted.any()
        labels = jnp.where((labels == 0) & far, -1, labels)
    sample = ops.sample_balanced(
        labels,
        num_samples=roi.batch_size_per_image,
        positive_fraction=roi.positive_fraction,
        key=key,
    )
    boxes, objects = boxes[sample.indices], match.indices[sample.indices]
    labels = jnp.where(sample.positive, truth.classes[objects] + 1, 0)
    targets = ops.box_encode(truth.boxes[objects], boxes, BOX_WEIGHTS)
    return Sampled(
        boxes=jnp.where(sample.valid[:, None], boxes, 0),
        labels=jnp.where(sample.valid, labels, -1),
        targets=jnp.where(sample.positive[:, None], targets, 0),
        objects=objects,
    )


def detect(
    logits: Array,
    deltas: Array,
    proposals: Array,
    proposed: Array,
    image_size: tuple[int, int],
    roi: RegionOptions,
    *,
    fitted: Array | bool = False,
) -> tuple[Detections, Array, Array]:
    """Return the best detections of an image, suppressed class by class, and their regions.

    Args:
        logits: ``(R, K + 1)``, the background first.
        deltas: ``(R, K + 1, 4)``.
        proposals: ``(R, 4)``.
        proposed: ``(R,)``, which of them are proposals, not padding.
        image_size: height and width, to which boxes are clipped.
        roi: how many, and the thresholds.
        fitted: ``()``, whether the logits are margins of SVMs. A score is the softmax of logits,
            and of a margin the logistic function: it keeps the order, and is 1/2 on the boundary.

    Returns:
        Detections without masks and without the batch; of no class more than torchvision's, which
        looks at all pairs above the threshold rather than the best `roi.candidates`. And of each
        the logits of its region, ``(D, K + 1)``, and the region, ``(D, 4)``.
    """
    scores = jax.nn.softmax(logits, axis=-1)[:, 1:]
    if fitted is not False:
        scores = jnp.where(fitted, jax.nn.sigmoid(logits[:, 1:]), scores)
    R, K = scores.shape
    boxes = ops.box_decode(deltas[:, 1:], proposals[:, None], BOX_WEIGHTS)
    boxes = ops.box_clip(boxes, image_size)
    fits = proposed[:, None] & (scores > roi.score_thresh) & has_sides(boxes, roi.min_size)
    count = min(roi.candidates, R * K)
    score, pair = lax.top_k(jnp.where(fits, scores, -1).reshape(-1), count)
    region = lax.div(pair, jnp.int32(K))  # no remainder, of which converters know no batch
    box, classes = boxes.reshape(-1, 4)[pair], pair - K * region
    kept = ops.nms(
        box,
        score,
        iou_threshold=roi.nms_thresh,
        max_output=roi.detections_per_img,
        valid=score > 0,
        groups=classes,
    )
    found, there = kept.indices, kept.valid
    detections = Detections(
        boxes=jnp.where(there[:, None], box[found], 0.0),
        scores=jnp.where(there, score[found], 0.0),
        classes=jnp.where(there, classes[found], -1),
    )

    def own(of_regions: Array) -> Array:
        return jnp.where(there[:, None], of_regions[region[found]], 0.0)

    return detections, own(logits), own(proposals)
