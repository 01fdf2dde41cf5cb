"""Boxes and masks that go the way of their images: every move is an affine map of points.

Points are continuous: a pixel i covers [i, i + 1], its middle is i + 0.5. So a point x of a box is
the place x - 0.5 of `interpolate.sample`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from ....model.detection.structures import GroundTruth
from .. import IGNORED

KEPT = 0.3  # the least share of an object that is still one
SMALLEST = 2.0  # its least side, in pixels


class AffineMap(NamedTuple):
    """Where each point (x, y) of an image goes: ``matrix @ p + move``.

    Attributes:
        matrix: ``(N, 2, 2)``.
        move: ``(N, 2)``.
        turns: whether a rectangle need not stay one.
    """

    matrix: Array
    move: Array
    turns: bool = False


class Objects(NamedTuple):
    """Objects on their way.

    Attributes:
        truth: where they are, clipped to the image.
        whole: ``(N, M)``, the area that each would have if nothing of it had left the image.
    """

    truth: GroundTruth
    whole: Array

    @property
    def masks(self) -> Array | None:
        """Return the masks ``(N, H, W)``; None where there are none."""
        return self.truth.masks if self.truth.masks.size else None


def objects_of(truth: GroundTruth) -> Objects:
    """Return objects that did not move yet."""
    return Objects(truth, _areas(truth.boxes))


def follow(objects: Objects, to: AffineMap, masks: Array | None, size: tuple[int, int]) -> Objects:
    """Move objects as their images were.

    Args:
        objects: before.
        to: the map of each image.
        masks: moved with the images, ``(N, H, W)``; None where there are none.
        size: ``(H, W)``; what is outside is lost.
    """
    truth = objects.truth
    boxes = _moved(truth.boxes, to, size)
    if masks is not None and to.turns:  # the box around a turned box is too large
        boxes = extents(masks, truth.classes.shape[1])
    boxes = jnp.where(truth.classes[..., None] >= 0, boxes, 0)
    (a, b), (c, d) = (to.matrix[:, i, :, None].swapaxes(0, 1) for i in range(2))
    whole = objects.whole * jnp.abs(a * d - b * c)
    kept = truth.masks if masks is None else masks
    proposals = truth.proposals
    proposals = None if proposals is None else _moved(proposals, to, size)
    return Objects(truth._replace(boxes=boxes, masks=kept, proposals=proposals), whole)


def _moved(boxes: Array, to: AffineMap, size: tuple[int, int]) -> Array:
    """Return the boxes around boxes ``(N, M, 4)`` that were moved, clipped to the image.

    One without area becomes zeros: padding stays padding, and what was clipped to a line is gone.
    """
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    corners = jnp.stack([jnp.stack([x1, x2, x1, x2], -1), jnp.stack([y1, y1, y2, y2], -1)], axis=-2)
    (a, b), (c, d) = (to.matrix[:, i, :, None, None].swapaxes(0, 1) for i in range(2))
    right = a * corners[..., 0, :] + b * corners[..., 1, :] + to.move[:, :1, None]
    down = c * corners[..., 0, :] + d * corners[..., 1, :] + to.move[:, 1:, None]
    H, W = size
    right, down = jnp.clip(right, 0, W), jnp.clip(down, 0, H)
    ends = (right.min(axis=-1), down.min(axis=-1), right.max(axis=-1), down.max(axis=-1))
    there = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1, keepdims=True)
    return jnp.where(there, jnp.stack(ends, axis=-1), 0)


def extents(masks: Array, M: int) -> Array:
    """Return the box around the pixels of each row from 1 to M, ``(N, M, 4)``; zeros of none."""
    H, W = masks.shape[1:]
    its = masks[..., None] == jnp.arange(1, M + 1, dtype=masks.dtype).reshape(1, 1, 1, M)
    ends = []
    for axis, size in ((1, W), (2, H)):
        some = its.any(axis=axis)  # (N, size, M)
        place = jnp.arange(size, dtype=jnp.float32)[None, :, None]
        there = some.any(axis=1)
        first = jnp.where(some, place, size).min(axis=1)
        last = jnp.where(some, place + 1, 0).max(axis=1)
        ends.append((jnp.where(there, first, 0), last))
    (x1, x2), (y1, y2) = ends
    return jnp.stack([x1, y1, x2, y2], axis=-1)


def settle(objects: Objects) -> GroundTruth:
    """Return what is left: an object that hardly shows, or is tiny, is none any more.

    Its class becomes -1 and its pixels 0, as do those that came in from outside.
    """
    truth = objects.truth
    sides = truth.boxes[..., 2:] - truth.boxes[..., :2]
    shows = _areas(truth.boxes) >= KEPT * objects.whole
    there = (truth.classes >= 0) & shows & (sides >= SMALLEST).all(axis=-1)
    masks = truth.masks
    if objects.masks is not None:
        N, M = there.shape
        rows = jnp.where(there, jnp.arange(1, M + 1, dtype=masks.dtype)[None], 0)
        table = jnp.zeros((N, IGNORED + 1), masks.dtype).at[:, 1 : M + 1].set(rows)
        n = jnp.arange(N, dtype=jnp.int32)[:, None, None]
        masks = table.at[n, masks.astype(jnp.int32)].get(mode="promise_in_bounds")
    return truth._replace(
        boxes=jnp.where(there[..., None], truth.boxes, 0),
        classes=jnp.where(there, truth.classes, -1),
        ignored=truth.ignored & there,
        masks=masks,
    )


def scaled(sx: Array, sy: Array, move: Array) -> AffineMap:
    """Return the map of factors along x and along y, ``(N,)`` each, and a move ``(N, 2)``."""
    none = jnp.zeros_like(sx)
    rows = [jnp.stack([sx, none], axis=-1), jnp.stack([none, sy], axis=-1)]
    return AffineMap(jnp.stack(rows, axis=-2), move)


def flipped(turned: Array, width: int) -> AffineMap:
    """Return the map of images of which some ``(N,)`` are turned left to right."""
    sign = jnp.where(turned, jnp.float32(-1), jnp.float32(1))
    move = jnp.where(turned, jnp.float32(width), jnp.float32(0))
    return scaled(sign, jnp.ones_like(sign), jnp.stack([move, jnp.zeros_like(move)], axis=-1))


def about_middle(forward: Array, move: Array, size: tuple[int, int], *, turns: bool) -> AffineMap:
    """Return the map of `affine.warp`, whose points are seen from the middle of the image."""
    middle = jnp.array([size[1] / 2, size[0] / 2], jnp.float32)
    return AffineMap(forward, move + middle[None] - forward @ middle, turns)


def _areas(boxes: Array) -> Array:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides[..., 0] * sides[..., 1]
