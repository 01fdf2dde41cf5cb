"""The region proposal network's arithmetic: Ren et al., arXiv:1506.01497, sections 3.1 and 3.3.

Its head (`heads.rpn_head`) gives each anchor a logit and four deltas; here anchors become proposals
and, in training, labels and targets. Functions are of one image; `jax.vmap` maps them over a batch.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array, lax

from ... import ops
from .options import RPNOptions
from .structures import GroundTruth


def anchors_on(
    maps: Sequence[tuple[int, int]], image_size: tuple[int, int], rpn: RPNOptions
) -> list[Array]:
    """Return the anchors of each map, ``(h w a, 4)`` in pixels of the image.

    Args:
        maps: heights and widths, fine to coarse.
        image_size: height and width; strides are its quotients by the maps' sizes, rounded down.
        rpn: sizes and ratios.
    """
    return [
        ops.grid_anchors(
            (h, w),
            (image_size[0] // h, image_size[1] // w),
            ops.cell_anchors(sizes, rpn.aspect_ratios),
        )
        for (h, w), sizes in zip(maps, rpn.anchor_sizes, strict=True)
    ]


def by_anchor(outputs: Mapping[str, Array], values: int) -> Array:
    """Return a head's maps as one array ``(N, A, values)``, in the order of `anchors_on`."""
    flat = [y.reshape(y.shape[0], -1, values) for y in outputs.values()]  # which may be symbolic
    return jnp.concatenate(flat, axis=1)


def propose(
    logits: Array,
    deltas: Array,
    anchors: Sequence[Array],
    image_size: tuple[int, int],
    rpn: RPNOptions,
    *,
    train: bool,
) -> tuple[Array, Array]:
    """Return the best proposals of an image, suppressed map by map.

    Args:
        logits: ``(A,)``.
        deltas: ``(A, 4)``.
        anchors: of each map.
        image_size: height and width, to which boxes are clipped.
        rpn: how many, and the thresholds.
        train: whether the numbers for training hold.

    Returns:
        ``(boxes, valid)``: ``(R, 4)`` and ``(R,)``, best first; rows that are not valid are zeros.
    """
    before = rpn.pre_nms_top_n_train if train else rpn.pre_nms_top_n_test
    after = rpn.post_nms_top_n_train if train else rpn.post_nms_top_n_test
    boxes, scores, start = [], [], 0
    for level in anchors:
        part = slice(start, start := start + len(level))
        top, indices = lax.top_k(logits[part], min(before, len(level)))
        box = ops.box_decode(deltas[part][indices], level[indices])
        box = ops.box_clip(box, image_size)
        kept = ops.nms(
            box,
            top,
            iou_threshold=rpn.nms_thresh,
            max_output=min(after, len(top)),
            valid=has_sides(box, rpn.min_size),
        )
        boxes.append(box[kept.indices])
        scores.append(jnp.where(kept.valid, top[kept.indices], -jnp.inf))
    score, best = lax.top_k(jnp.concatenate(scores), min(after, sum(map(len, scores))))
    valid = score > -jnp.inf
    return jnp.where(valid[:, None], jnp.concatenate(boxes)[best], 0), valid


def label_anchors(
    key: Array, truth: GroundTruth, anchors: Array, rpn: RPNOptions
) -> tuple[Array, Array]:
    """Say which anchors stand for an object, and sample those that the loss counts.

    Args:
        key: of the sample.
        truth: of this image, without the batch.
        anchors: ``(A, 4)``.
        rpn: thresholds and numbers.

    Returns:
        ``(labels, targets)`` as in `RPNOutput`, ``(A,)`` and ``(A, 4)``.
    """
    match = ops.match_boxes(
        truth.boxes,
        anchors,
        high_threshold=rpn.fg_iou_thresh,
        low_threshold=rpn.bg_iou_thresh,
        min_positive_iou=rpn.min_positive_iou,
        valid=truth.classes >= 0,
        ignored=truth.ignored,
    )
    sampled = ops.sample_mask(
        match.labels,
        num_samples=rpn.batch_size_per_image,
        positive_fraction=rpn.positive_fraction,
        key=key,
    )
    labels = jnp.where(sampled, match.labels, -1)
    targets = ops.box_encode(truth.boxes[match.indices], anchors)
    return labels, jnp.where((labels == 1)[:, None], targets, 0)


def has_sides(boxes: Array, least: float) -> Array:
    """Return which boxes ``(..., 4)`` have no side shorter than `least`."""
    return (boxes[..., 2:] - boxes[..., :2] >= least).all(-1)
