"""What a box is to be trained on: the object that it stands for, and whether it is sampled.

Neither matching nor sampling has a derivative: what they give are integers and truth values.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..common.checks import check_key, check_scalar
from ..common.padding import is_int
from .boxes import as_boxes, box_area, box_iou, over_area, overlaps

_TIE = (
    1e-6  # IoUs that differ by less, relatively, are equal: which is larger is chance of rounding
)


# ---------------------------------------------------------------------------------- matching


class Matches(NamedTuple):
    """What `match_boxes` gives."""

    indices: jax.Array  # (A,) int32: the object with the largest IoU, the first of equals
    labels: jax.Array  # (A,) int32: 1 the object, 0 background, -1 neither


def match_boxes(
    objects: jax.Array,
    boxes: jax.Array,
    *,
    high_threshold: float,
    low_threshold: float,
    min_positive_iou: float | None = None,
    valid: jax.Array | None = None,
    ignored: jax.Array | None = None,
    ignored_overlap: float = 0.7,
) -> Matches:
    r"""Match boxes to the objects of an image by their IoU.

    With q_a the largest IoU of box a with a valid object, -1 where there is none,

    .. math:: \text{label}_a = \begin{cases} 1 & q_a \ge t_\text{high} \\
        0 & q_a < t_\text{low} \\ -1 & \text{between} \end{cases}

    If `min_positive_iou` is a number, an object that no box overlaps by the high threshold still
    gets boxes: those whose IoU with it is the largest of all boxes, above zero and at least that
    number, get label 1, and keep their own best object as index. At last, a box of label 0 of whose
    area at least the share `ignored_overlap` is inside one ignored object gets label -1.

    Args:
        objects: ``(M, 4)`` as x1, y1, x2, y2, floating point.
        boxes: ``(A, 4)``, floating point: anchors or proposals.
        high_threshold: the least IoU of a positive box, in (0, 1].
        low_threshold: a box below is background; in [0, high_threshold].
        min_positive_iou: the least IoU by which an object's best box is positive; None for no such
            boxes.
        valid: ``(M,)`` truth values, False for padding; None where all objects are valid.
        ignored: ``(M,)`` truth values: crowds and the like, neither to be found nor background;
            they match no box.
        ignored_overlap: the share of a box's area, in (0, 1].

    Returns:
        `Matches` of indices ``(A,)`` in 0 ... M - 1 and labels ``(A,)``, both int32. Without a
        valid object all labels are 0, unless ignored, and all indices 0.

    Raises:
        ValueError: arrays not of these shapes, no row for an object, or a threshold out of range.
        TypeError: boxes that are not floating point, masks that are not truth values.

    Example:
        >>> objects = jnp.array([[0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]])
        >>> boxes = jnp.array([[0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 6.0, 6.0], [8.0, 8.0, 12.0, 9.0]])
        >>> match_boxes(objects, boxes, high_threshold=0.7, low_threshold=0.3)
        Matches(indices=Array([0, 0, 1], dtype=int32), labels=Array([1, 0, 0], dtype=int32))
        >>> match_boxes(
        ...     objects, boxes, high_threshold=0.7, low_threshold=0.3, min_positive_iou=0.0
        ... ).labels
        Array([1, 0, 1], dtype=int32)

    Note:
        `min_positive_iou=0` is the paper's rule and torchvision's `allow_low_quality_matches`, but
        for objects that meet no box: their IoUs tie at 0, and torchvision makes every box positive.
        mmdetection's default is 0.3. IoUs that differ by less than a millionth of themselves tie.
        There is no derivative. Memory: a few arrays of M A numbers.

    References:
        Ren et al., Faster R-CNN, arXiv:1506.01497, section 3.1.2.
    """
    name = "match_boxes"
    objects = _rows(name, "objects", objects, "(M, 4)")
    boxes = _rows(name, "boxes", boxes, "(A, 4)")
    if not len(objects):
        raise ValueError(
            f"{name}: no row for an object: got objects {objects.shape}, need at least one; write "
            f"jnp.zeros((1, 4)) with valid=jnp.zeros(1, bool) for an image without objects"
        )
    _check_share(name, "high_threshold", high_threshold, 0.7)
    _check_share(name, "ignored_overlap", ignored_overlap, 0.7)
    need = f"0 <= low_threshold <= high_threshold = {high_threshold}"
    check_scalar(
        *(name, "low_threshold", low_threshold, lambda t: 0 <= t <= high_threshold),
        *(need, "write low_threshold=0.3, for example"),
    )
    if min_positive_iou is not None:
        check_scalar(
            *(name, "min_positive_iou", min_positive_iou, lambda t: 0 <= t <= 1),
            *("0 <= min_positive_iou <= 1, or None", "write min_positive_iou=0.3, for example"),
        )
    valid = _mask(name, "valid", valid, len(objects), default=True)
    ignored = _mask(name, "ignored", ignored, len(objects), default=False)
    wanted = (valid & ~ignored)[:, None]

    iou = jnp.where(wanted, box_iou(objects, boxes), -1)  # (M, A)
    best = jnp.max(iou, axis=0)
    labels = jnp.where(best >= high_threshold, 1, jnp.where(best < low_threshold, 0, -1))
    if min_positive_iou is not None:
        top = jnp.max(iou, axis=1, keepdims=True, initial=-1)
        good = wanted & (top > 0) & (top >= min_positive_iou)
        rescued = jnp.any(good & (iou >= top * (1 - _TIE)), axis=0)
        labels = jnp.where(rescued, 1, labels)
    inside = overlaps(objects[:, None], boxes[None]).intersection
    covered = over_area(inside, jnp.broadcast_to(box_area(boxes), inside.shape)) >= ignored_overlap
    inside_ignored = jnp.any(covered & (valid & ignored)[:, None], axis=0)
    labels = jnp.where((labels == 0) & inside_ignored, -1, labels)
    return Matches(jnp.argmax(iou, axis=0).astype(jnp.int32), labels.astype(jnp.int32))


# ---------------------------------------------------------------------------------- sampling


class Sample(NamedTuple):
    """What `sample_balanced` gives; positives first, the rows that are not valid last."""

    indices: jax.Array  # (num_samples,) int32, without repetition where valid; 0 where not
    valid: jax.Array  # (num_samples,) bool
    positive: jax.Array  # (num_samples,) bool


def sample_balanced(
    labels: jax.Array, *, num_samples: int, positive_fraction: float, key: jax.Array
) -> Sample:
    r"""Draw boxes to train on: positives up to a share, and background to fill up.

    .. math:: n_+ = \min(\lfloor \text{share} \cdot n \rfloor, |\{a : l_a = 1\}|), \qquad
        n_- = \min(n - n_+, |\{a : l_a = 0\}|)

    Each subset of these sizes is equally likely: every box gets a random number of 31 bits, and the
    boxes with the largest are drawn.

    Args:
        labels: ``(A,)`` integers: 1 positive, 0 background; boxes of any other label are not drawn.
        num_samples: n.
        positive_fraction: the largest share of positives, in [0, 1].
        key: of `jax.random`, another one for each image and step.

    Returns:
        `Sample` of indices, valid and positive, each ``(num_samples,)``: the positives, then the
        background, then rows that are not valid where there are fewer candidates.

    Raises:
        ValueError: `labels` are not (A,), `num_samples` or `positive_fraction` is out of range.
        TypeError: `labels` are not integers, or `key` is no key.

    Example:
        >>> labels = jnp.array([0, 1, -1, 0])
        >>> sample = sample_balanced(
        ...     labels, num_samples=4, positive_fraction=0.5, key=jax.random.key(0)
        ... )
        >>> sample.positive
        Array([ True, False, False, False], dtype=bool)
        >>> sample.valid
        Array([ True,  True,  True, False], dtype=bool)

    Note:
        The numbers are those of torchvision's `BalancedPositiveNegativeSampler`, the choice is
        another. There is no derivative.

    References:
        Girshick, Fast R-CNN, arXiv:1504.08083, section 2.3.
    """
    labels = _check_labels("sample_balanced", labels)
    _check_sample("sample_balanced", num_samples, positive_fraction)
    return _sample(
        labels, num_samples, positive_fraction, check_key("sample_balanced", key, optional=False)
    )


def sample_mask(
    labels: jax.Array, *, num_samples: int, positive_fraction: float, key: jax.Array
) -> jax.Array:
    """Draw as `sample_balanced` does with the same key, and mark what is drawn.

    Args:
        labels: ``(A,)`` integers: 1 positive, 0 background; boxes of any other label are not drawn.
        num_samples: how many to draw.
        positive_fraction: the largest share of positives, in [0, 1].
        key: of `jax.random`, another one for each image and step.

    Returns:
        ``(A,)`` truth values, at most `num_samples` of them True.

    Raises:
        ValueError: `labels` are not (A,), `num_samples` or `positive_fraction` is out of range.
        TypeError: `labels` are not integers, or `key` is no key.

    Example:
        >>> labels = jnp.array([0, 1, -1, 0])
        >>> sample_mask(labels, num_samples=4, positive_fraction=0.5, key=jax.random.key(0))
        Array([ True,  True, False,  True], dtype=bool)
    """
    labels = _check_labels("sample_mask", labels)
    _check_sample("sample_mask", num_samples, positive_fraction)
    drawn = _sample(
        labels, num_samples, positive_fraction, check_key("sample_mask", key, optional=False)
    )
    return jnp.zeros(labels.shape, bool).at[drawn.indices].max(drawn.valid)


def _sample(labels, n, positive_fraction, key):
    A = len(labels)
    keys = jax.random.split(key)
    P, positives = _largest(labels == 1, min(int(n * positive_fraction), A), keys[0])
    Q, negatives = _largest(labels == 0, min(n, A), keys[1])
    room = n - jnp.sum(P, dtype=jnp.int32)
    valid = jnp.concatenate([P, Q & (lax.iota(jnp.int32, len(Q)) < room)])
    indices = jnp.concatenate([positives, negatives])
    order = jnp.argsort(~valid, stable=True)[:n]
    missing = n - len(order)  # fewer boxes than samples
    indices, valid, positive = (
        jnp.pad(a[order], (0, missing))
        for a in (
            jnp.where(valid, indices, 0),
            valid,
            valid & (lax.iota(jnp.int32, len(valid)) < len(P)),
        )
    )
    return Sample(indices, valid, positive)


def _largest(candidates, k, key):
    """Return which of the k draws are candidates, and the indices of the k draws."""
    bits = (jax.random.bits(key, candidates.shape, jnp.uint32) >> 1).astype(jnp.int32)
    top, indices = lax.top_k(jnp.where(candidates, bits, -1), k)
    return top >= 0, indices


# ------------------------------------------------------------------------------------ checks


def _rows(name, what, boxes, need):
    boxes = as_boxes(name, what, boxes)
    if boxes.ndim != 2:
        raise ValueError(
            f"{name}: {what} are no list of boxes: got shape {boxes.shape}, need {need}; write "
            f"jax.vmap for a batch of images"
        )
    return boxes


def _mask(name, what, mask, M, default):
    if mask is None:
        return jnp.full(M, default)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"{name}: {what} are no truth values: got {mask.dtype}, need bool; write "
            f"{what}.astype(bool)"
        )
    if mask.shape != (M,):
        raise ValueError(
            f"{name}: {what} do not match: got shape {mask.shape}, need {(M,)}; give one truth "
            f"value per object"
        )
    return mask


def _check_share(name, what, value, example):
    check_scalar(
        *(name, what, value, lambda t: 0 < t <= 1),
        *(f"0 < {what} <= 1", f"write {what}={example}, for example"),
    )


def _check_labels(name, labels):
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name}: labels are not integers: got {labels.dtype}, need 1, 0 or -1; write "
            f"labels.astype(jnp.int32)"
        )
    if labels.ndim != 1:
        raise ValueError(
            f"{name}: labels are no list: got shape {labels.shape}, need (A,); write jax.vmap for "
            f"a batch of images"
        )
    return labels


def _check_sample(name, num_samples, positive_fraction):
    if not is_int(num_samples) or num_samples < 1:
        raise ValueError(
            f"{name}: bad num_samples: got {num_samples!r}, need an integer >= 1; write "
            f"num_samples=256, for example"
        )
    check_scalar(
        *(name, "positive_fraction", positive_fraction, lambda f: 0 <= f <= 1),
        *("0 <= positive_fraction <= 1", "write positive_fraction=0.5, for example"),
    )
