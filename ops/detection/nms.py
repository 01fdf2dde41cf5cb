"""Non-maximum suppression: of boxes that overlap, the one with the best score stays.

With the boxes in order of their scores, and m_ij true where box i, being before j, in its group and
valid, overlaps j by more than the threshold, the boxes that stay are the k with

    k_j = valid_j and not any_i (k_i and m_ij)

There is one such k, as k_j depends on k_i with i < j alone. Two ways lead to it, both exact:

    rounds    start with k = valid and put k into the right side until nothing changes: as many
              rounds as the longest chain of boxes that suppress each other, 3 to 10 in practice,
              each a product of a vector and a matrix. For accelerators
    rows      from one kept box to the next, in order, each clearing what it overlaps: work and
              memory for the rows of m that are looked at, not for all of m. For CPU

For converters (`ops.implementation("jaxpr")`), to whose formats a loop until nothing changes is
foreign, the rounds are written out, `ROUNDS` of them: exact unless a longer chain is there.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..common.checks import check_scalar
from ..common.dtypes import accum_dtype, check_floating
from ..common.implementation import uses_jaxpr, uses_xla
from ..common.jax_compat import match_varying_axes
from ..common.padding import is_int
from .boxes import as_boxes, box_iou

ROUNDS = 16


class Kept(NamedTuple):
    """What `nms` gives: best first, the rows that are not valid last."""

    indices: jax.Array  # (max_output,) int32; 0 where not valid
    valid: jax.Array  # (max_output,) bool


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    iou_threshold: float,
    max_output: int | None = None,
    valid: jax.Array | None = None,
    groups: jax.Array | None = None,
) -> Kept:
    """Suppress boxes that overlap one with a better score: greedy non-maximum suppression, exact.

    In descending order of scores, and of equal scores the lower index first, a box is kept if no
    kept box of its group before it overlaps it by an IoU above the threshold.

    Args:
        boxes: ``(R, 4)`` as x1, y1, x2, y2, floating point.
        scores: ``(R,)``, floating point; a box whose score is NaN counts as not valid.
        iou_threshold: the largest IoU of two boxes that are both kept, >= 0; from 1 on all valid
            boxes are kept.
        max_output: how many boxes to return at most, the best; None for R.
        valid: ``(R,)`` truth values, False for padding; None where all boxes are valid.
        groups: ``(R,)`` integers, classes or levels: boxes suppress those of their own group only;
            None for one group.

    Returns:
        `Kept` of indices, int32, and valid, each ``(max_output,)``: best first; fewer than
        `max_output` kept boxes are followed by rows of index 0 that are not valid.

    Raises:
        ValueError: arrays not of these shapes, or a threshold or `max_output` out of range.
        TypeError: boxes or scores that are not floating point, `valid` that is no truth values,
            `groups` that are no integers.

    Example:
        >>> boxes = jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [8.0, 0.0, 9.0, 1.0]])
        >>> nms(boxes, jnp.array([0.6, 0.9, 0.7]), iou_threshold=0.5)
        Kept(indices=Array([1, 2, 0], dtype=int32), valid=Array([ True,  True, False], dtype=bool))

    Note:
        torchvision's `nms`, and with groups its `batched_nms`, which shifts the boxes of each class
        by an offset where this compares classes, and so loses digits of the coordinates. It
        compares float32 with the threshold in float64: an IoU that is the threshold in float32 may
        be suppressed there, and is kept here. There is no derivative: gather boxes and scores by
        the indices. Memory, but on CPU: a few arrays of R R elements, so take the best few thousand
        with `lax.top_k` before.

    References:
        Felzenszwalb et al., Object detection with discriminatively trained part-based models, 2010.
        As a fixed point: Zheng et al., Cluster-NMS, arXiv:2005.03572.
    """
    boxes, scores, valid = _scored("nms", boxes, scores, valid)
    R = len(scores)
    check_scalar(
        *("nms", "iou_threshold", iou_threshold, lambda t: t >= 0),
        *("iou_threshold >= 0", "write iou_threshold=0.5, for example"),
    )
    size = _output_size("nms", max_output, R)
    if groups is not None:
        groups = jnp.asarray(groups)
        _check_integers(groups, R)

    order = _best_first(scores, valid)
    in_order = _InOrder(boxes[order], None if groups is None else groups[order])
    threshold = jnp.asarray(iou_threshold, boxes.dtype)
    # No IoU is above 1, whatever rounding makes of it.
    threshold = jnp.where(threshold < 1, threshold, jnp.full_like(threshold, jnp.inf))
    keep = _suppress(lax.stop_gradient(in_order), valid[order], threshold)
    place = lax.iota(jnp.int32, R)
    rank, kept = lax.top_k(jnp.where(keep, R - place, jnp.zeros_like(place)), min(size, R))
    found, indices = rank > 0, order[kept]
    indices = jnp.where(found, indices, jnp.zeros_like(indices))
    return Kept(_pad(indices, size), _pad(found, size))


class _InOrder(NamedTuple):
    """Boxes in descending order of their scores, or one of them."""

    boxes: jax.Array  # (R, 4)
    groups: jax.Array | None  # (R,)

    def overlaps(self, others: "_InOrder", threshold) -> jax.Array:
        """Return (R, R'), true where two of a group overlap by more than the threshold."""
        hit = box_iou(self.boxes, others.boxes) > threshold
        if self.groups is None or others.groups is None:
            return hit
        return hit & (self.groups[:, None] == others.groups[None, :])


def _suppress(in_order: _InOrder, valid, threshold):
    """Return which of the boxes are kept."""
    valid = match_varying_axes(valid, in_order.boxes)

    def rounds(in_order, valid, threshold):
        return suppress_in_rounds(in_order.overlaps(in_order, threshold), valid)

    # A batch is one image after the other: together all would wait for the one that keeps most.
    @jax.custom_batching.sequential_vmap
    def rows(in_order, valid, threshold):
        def row(i):
            one = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, i, 1), in_order)
            return one.overlaps(in_order, threshold)[0]

        return suppress_by_rows(row, valid)

    if uses_jaxpr():
        return suppress_in_fixed_rounds(in_order.overlaps(in_order, threshold), valid)
    if uses_xla():
        return rounds(in_order, valid, threshold)
    return lax.platform_dependent(in_order, valid, threshold, cpu=rows, default=rounds)


def suppress_by_rows(row: Callable[[jax.Array], jax.Array], valid: jax.Array) -> jax.Array:
    """Go from one kept box to the next, each clearing what it overlaps.

    Args:
        row: from the index of a box, in descending order of scores, to (R,) truth values: the boxes
            that it overlaps.
        valid: (R,) truth values.

    Returns:
        (R,) truth values: which boxes are kept.
    """
    R = len(valid)
    place = lax.iota(jnp.int32, R)
    first_of = lambda keep: jnp.min(jnp.where(keep, place, R))  # noqa: E731

    def visit(state):
        i, keep = state
        later = place > i
        keep &= ~(row(i) & later)
        return first_of(keep & later), keep

    _, keep = lax.while_loop(lambda state: state[0] < R, visit, (first_of(valid), valid))
    return keep


def suppress_in_rounds(overlapping: jax.Array, valid: jax.Array) -> jax.Array:
    """Iterate to the fixed point.

    Args:
        overlapping: (R, R) truth values, of boxes in descending order of scores.
        valid: (R,) truth values.

    Returns:
        (R,) truth values: which boxes are kept.
    """
    round_of = _make_round(overlapping, valid)

    def step(state):
        keep, _ = state
        return round_of(keep), keep

    # As if nothing had been kept before: one round at least, unless no box is valid.
    first = valid, match_varying_axes(jnp.zeros_like(valid), valid)
    keep, _ = lax.while_loop(lambda state: jnp.any(state[0] != state[1]), step, first)
    return keep


def suppress_in_fixed_rounds(overlapping: jax.Array, valid: jax.Array) -> jax.Array:
    """Make `ROUNDS` rounds; arguments and result as in `suppress_in_rounds`."""
    round_of, keep = _make_round(overlapping, valid), valid
    for _ in range(ROUNDS):
        keep = round_of(keep)
    return keep


def _make_round(overlapping, valid):
    """Return the function from k to the next k: float32 counts of what suppresses each box."""
    place = lax.iota(jnp.int32, len(valid))
    before = place[:, None] < place[None, :]
    m = (overlapping & before & valid[:, None]).astype(jnp.float32)
    # Counts of ones are exact in any precision of the product, as far as 0 is 0.
    return lambda keep: valid & (keep.astype(jnp.float32) @ m == 0)


# -------------------------------------------------------------------------------------- soft


class Rescored(NamedTuple):
    """What `soft_nms` gives: in the order of choice, the rows that are not valid last."""

    indices: jax.Array  # (max_output,) int32; 0 where not valid
    scores: jax.Array  # (max_output,), as they were when chosen; 0 where not valid
    valid: jax.Array  # (max_output,) bool


def soft_nms(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    method: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    max_output: int | None = None,
    valid: jax.Array | None = None,
) -> Rescored:
    r"""Lower the scores of boxes that overlap a better one, instead of dropping them.

    `max_output` times the box i with the best score is chosen, and each other score s_j becomes

    .. math:: s_j\, e^{-\mathrm{IoU}_{ij}^2 / \sigma} \quad \text{(gaussian)}, \qquad
        s_j\, (1 - \mathrm{IoU}_{ij}\, [\mathrm{IoU}_{ij} > t]) \quad \text{(linear)}

    Args:
        boxes: ``(R, 4)`` as x1, y1, x2, y2, floating point.
        scores: ``(R,)``, floating point, non-negative; a box whose score is NaN is not valid.
        method: "gaussian" or "linear".
        sigma: of "gaussian", positive.
        iou_threshold: t, of "linear", >= 0.
        max_output: how many boxes to choose at most; None for R.
        valid: ``(R,)`` truth values, False for padding; None where all boxes are valid.

    Returns:
        `Rescored` of indices, int32, scores, and valid, each ``(max_output,)``, in the order of
        choice.

    Raises:
        ValueError: arrays not of these shapes, an unknown `method`, or a number out of range.
        TypeError: boxes or scores that are not floating point, `valid` that is no truth values.

    Example:
        >>> boxes = jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0], [8.0, 0.0, 9.0, 1.0]])
        >>> kept = soft_nms(boxes, jnp.array([0.9, 0.8, 0.7]), method="linear", max_output=2)
        >>> kept.indices, kept.scores
        (Array([0, 2], dtype=int32), Array([0.9, 0.7], dtype=float32))

    Note:
        Differentiable in scores and boxes through the factors, but not in the choice. torchvision
        has no such function.

    References:
        Bodla et al., Soft-NMS, arXiv:1704.04503.
    """
    boxes, scores, valid = _scored("soft_nms", boxes, scores, valid)
    R = len(scores)
    if method not in ("gaussian", "linear"):
        raise ValueError(
            f"soft_nms: unknown method: got {method!r}, need 'gaussian' or 'linear'; write "
            f"method='gaussian'"
        )
    check_scalar(
        *("soft_nms", "sigma", sigma, lambda s: s > 0, "sigma > 0"),
        "write sigma=0.5, for example",
    )
    check_scalar(
        *("soft_nms", "iou_threshold", iou_threshold, lambda t: t >= 0),
        *("iou_threshold >= 0", "write iou_threshold=0.3, for example"),
    )
    size = _output_size("soft_nms", max_output, R)
    place = lax.iota(jnp.int32, R)
    iou = box_iou(boxes, boxes)

    def choose(state, _):
        scores, left = state
        i = jnp.argmax(jnp.where(left, scores, -jnp.inf)).astype(jnp.int32)
        overlap = iou[i]
        if method == "gaussian":
            factor = jnp.exp(-jnp.square(overlap) / sigma)
        else:
            factor = 1 - jnp.where(overlap > iou_threshold, overlap, 0)
        found = left[i]
        chosen = jnp.where(found, i, 0), jnp.where(found, scores[i], 0), found
        left &= place != i
        return (jnp.where(left, scores * factor, scores), left), chosen

    scores = match_varying_axes(jnp.where(valid, scores, 0), iou)
    valid = match_varying_axes(valid, iou)
    _, chosen = lax.scan(choose, (scores, valid), length=min(size, R))
    return Rescored(*(_pad(a, size) for a in chosen))


# ---------------------------------------------------------------------------- parts and checks


def _best_first(scores, valid):
    """Return the order of descending scores: of equal ones the lower index first, invalid last."""
    s = jnp.where(scores == 0, jnp.zeros_like(scores), scores)  # -0.0, which sorts below 0.0
    _, order = lax.top_k(jnp.where(valid, s, jnp.full_like(s, -jnp.inf)), len(s))
    return order


def _pad(a, size):
    # Not `jnp.pad`: converters cannot pad arrays with a batch of any size in front.
    if size == len(a):
        return a
    return jnp.concatenate([a, jnp.zeros_like(a, shape=(size - len(a),))])


def _scored(name, boxes, scores, valid):
    """Return boxes and scores in float32 at least, and valid without the NaN of scores."""
    boxes, scores = as_boxes(name, "boxes", boxes), jnp.asarray(scores)
    check_floating(name, "scores", scores)
    if boxes.ndim != 2 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"{name}: shapes do not match: got boxes {boxes.shape} and scores {scores.shape}, need "
            f"(R, 4) and (R,); write jax.vmap for a batch of images"
        )
    if not scores.size:
        raise ValueError(
            f"{name}: no boxes: got boxes {boxes.shape}, need at least one; write "
            f"jnp.zeros((1, 4)) with valid=jnp.zeros(1, bool) where there is none"
        )
    given = jnp.ones(scores.shape, bool) if valid is None else jnp.asarray(valid)
    if given.dtype != bool:
        raise TypeError(
            f"{name}: valid is no truth values: got {given.dtype}, need bool; write "
            f"valid.astype(bool)"
        )
    if given.shape != scores.shape:
        raise ValueError(
            f"{name}: valid does not match: got shape {given.shape}, need {scores.shape}; give one "
            f"truth value per box"
        )
    return boxes, scores.astype(accum_dtype(scores.dtype)), given & ~jnp.isnan(scores)


def _output_size(name, max_output, R):
    if max_output is None:
        return R
    if not is_int(max_output) or max_output < 1:
        raise ValueError(
            f"{name}: bad max_output: got {max_output!r}, need an integer >= 1; write "
            f"max_output=100, for example"
        )
    return int(max_output)


def _check_integers(groups, R):
    if not jnp.issubdtype(groups.dtype, jnp.integer):
        raise TypeError(
            f"nms: groups are not integers: got {groups.dtype}, need class indices; write "
            f"groups.astype(jnp.int32)"
        )
    if groups.shape != (R,):
        raise ValueError(
            f"nms: groups do not match: got shape {groups.shape}, need {(R,)}; give one class per "
            f"box"
        )
