"""Four images in one, in quarters around a point: more objects, smaller ones, other neighbors."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ....model.detection.structures import GroundTruth
from .. import IGNORED
from .boxes import Objects


def mosaic(
    key: Array, x: Array, objects: Objects, masks: Array | None, *, probability: float
) -> tuple[Array, Objects, Array | None]:
    """Put four images into one, each at half its size, with a corner at a point of its middle half.

    They are the image itself and the three before it in the batch, which is in random order as it
    is. Half a size is the mean of two by two pixels; of masks it is one of the four.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        objects: of each image, M.
        masks: ``(N, H, W)``, or None.
        probability: how many images become mosaics; the others stay as they are.

    Returns:
        x; objects, and proposals, for which there is four times as much room: 4 M; and masks.

    References:
        Bochkovskiy et al., arXiv:2004.10934; theirs has images of any size meet, and one crop.
    """
    N, H, W, C = x.shape
    h, w = H // 2, W // 2
    for_coin, for_middle = jax.random.split(key)
    coin = jax.random.bernoulli(for_coin, jnp.float32(probability), (N,))
    low = jnp.array([[H // 4], [W // 4]], jnp.int32)
    high = jnp.array([[H - H // 4 + 1], [W - W // 4 + 1]], jnp.int32)
    middle = jax.random.randint(for_middle, (2, N), low, high, jnp.int32)
    down, right = middle[0], middle[1]

    i = jnp.arange(H, dtype=jnp.int32)[None, :, None] - down[:, None, None]
    j = jnp.arange(W, dtype=jnp.int32)[None, None, :] - right[:, None, None]
    quarter = 2 * (i >= 0).astype(jnp.int32) + (j >= 0).astype(jnp.int32)
    i, j = jnp.where(i < 0, i + h, i), jnp.where(j < 0, j + w, j)
    inside = (i >= 0) & (i < h) & (j >= 0) & (j < w)
    n = (jnp.arange(N, dtype=jnp.int32)[:, None, None] - quarter) % N
    place = (n, jnp.clip(i, 0, h - 1), jnp.clip(j, 0, w - 1))

    halves = x[:, : 2 * h, : 2 * w].reshape(N, h, 2, w, 2, C).mean((2, 4), jnp.float32)
    tiles = halves.astype(x.dtype).at[place].get(mode="promise_in_bounds")
    tiled = jnp.where(inside[..., None], tiles, jnp.zeros((), x.dtype))
    x = jnp.where(coin[:, None, None, None], tiled, x)
    if masks is not None:
        ids = masks[:, : 2 * h : 2, : 2 * w : 2].at[place].get(mode="promise_in_bounds")
        own = ids + (quarter * objects.whole.shape[1]).astype(ids.dtype)
        ids = jnp.where((ids > 0) & (ids != IGNORED), own, ids)
        ids = jnp.where(inside, ids, jnp.asarray(IGNORED, ids.dtype))
        masks = jnp.where(coin[:, None, None], ids, masks)
    quarters = [_quarter(objects, q, down, right, (H, W)) for q in range(4)]
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *quarters)
    boxes, classes, ignored, whole, proposals = jax.tree.map(
        lambda leaf, alone: jnp.where(coin.reshape(N, *[1] * (leaf.ndim - 1)), leaf, alone),
        together,
        _alone(objects),
    )
    kept = objects.truth.masks if masks is None else masks
    return x, Objects(GroundTruth(boxes, classes, ignored, kept, proposals), whole), masks


# Boxes, classes, which are ignored, whole areas, and proposals.
_Leaves: TypeAlias = tuple[Array, Array, Array, Array, Array | None]


def _quarter(
    objects: Objects, quarter: int, down: Array, right: Array, size: tuple[int, int]
) -> _Leaves:
    """Return the objects of the images that are in one quarter, clipped to it."""
    (H, W), (below, beside) = size, divmod(quarter, 2)
    truth, whole = jax.tree.map(lambda leaf: jnp.roll(leaf, quarter, axis=0), objects)
    top, left = (down if below else down - H // 2), (right if beside else right - W // 2)
    none = jnp.zeros_like(top)
    least = [right if beside else none, down if below else none] * 2
    most = [
        jnp.minimum(left + W // 2, W) if beside else right,
        jnp.minimum(top + H // 2, H) if below else down,
    ] * 2
    move, low, high = (
        jnp.stack(ends, axis=-1)[:, None].astype(jnp.float32)
        for ends in ([left, top, left, top], least, most)
    )
    placed = jnp.clip(truth.boxes / 2 + move, low, high)
    boxes = jnp.where(truth.classes[..., None] >= 0, placed, 0)
    proposals = truth.proposals
    if proposals is not None:
        proposals = jnp.clip(proposals / 2 + move, low, high)
    return boxes, truth.classes, truth.ignored, whole / 4, proposals


def _alone(objects: Objects) -> _Leaves:
    """Return what `_quarter` does of images that stay as they are, with room for four times M."""

    def padded(leaf: Array, value: int = 0) -> Array:
        more = [(0, 0), (0, 3 * leaf.shape[1]), *[(0, 0)] * (leaf.ndim - 2)]
        return jnp.pad(leaf, more, constant_values=value)

    truth = objects.truth
    proposals = None if truth.proposals is None else padded(truth.proposals)
    classes = padded(truth.classes, -1)
    return padded(truth.boxes), classes, padded(truth.ignored), padded(objects.whole), proposals
