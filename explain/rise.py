"""RISE and D-RISE: which parts of an image are there when a score is high, of random parts."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..model import Layer
from ..model.layer import Params, Shape, State
from .integrated_gradients import broadcast
from .target import Target, scores


def rise(
    net: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    *,
    masks: int = 1000,
    grid: int = 16,
    keep: float = 0.5,
    fill: Any = 0.0,
    at_once: int = 16,
    key: Array,
) -> Array:
    r"""Compute how much better the score is where a pixel is kept, over random masks of the image.

    .. math:: M_{ij} = \frac{\sum_m S(x \odot m + f \odot (1 - m))\; m_{ij}}{\sum_m m_{ij}}
        - \frac{1}{n} \sum_m S(x \odot m + f \odot (1 - m))

    A mask m is a coarse grid of cells that are kept or not, each by itself, enlarged bilinearly and
    shifted by a random part of a cell. With the target `similarity` this is D-RISE. No gradient is
    involved: any function of the outputs will do.

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``; each image gets the same masks.
        target: see `scores`.
        masks: n, rounded up to whole batches; the noise of the map falls as its square root.
        grid: cells along each axis; no more than there are pixels.
        keep: the probability that a cell is kept.
        fill: f, what is where nothing is kept, broadcast to `x`; zero is the mean color where
            inputs are normalized.
        at_once: masks in one call of the network, which bounds the memory.
        key: of the masks.

    Returns:
        ``(N, *spatial)``: positive where it helps the score that something is seen.

    Raises:
        ValueError: a number out of range; a `fill` that does not fit; and as `scores`.

    Note:
        The papers' maps, less the mean score, which is the same everywhere: zero is where a pixel
        says nothing. For several targets at once, which takes hardly longer than one, map over the
        target alone: ``jax.vmap(lambda box, z: rise(..., similarity(box, z), key=key))``.

    References:
        Petsiuk, Das & Saenko, RISE, arXiv:1806.07421, equation 6; Petsiuk et al., D-RISE,
        arXiv:2006.03204.
    """
    if min(masks, grid, at_once) < 1:
        raise ValueError(
            f"rise: got masks {masks}, grid {grid}, at_once {at_once}, need 1 or more of each"
        )
    if not 0 < keep < 1:
        raise ValueError(f"rise: keep: got {keep}, need a probability between 0 and 1")
    spatial = x.shape[1:-1]
    other = broadcast("rise", "fill", fill, x)
    at_once = min(at_once, masks)
    batches = math.ceil(masks / at_once)

    def score(mask: Array) -> Array:
        seen = other + mask[None, ..., None] * (x - other)
        return scores(net.apply(params, state, seen, train=False)[0], target)

    def add(sums: Any, key: Array) -> tuple[Any, None]:
        keys = jax.random.split(key, at_once)
        drawn = jax.vmap(lambda key: _mask(key, spatial, grid, keep))(keys).astype(x.dtype)
        found = jax.vmap(score)(drawn)  # (at_once, N)
        each = (jnp.tensordot(found, drawn, ((0,), (0,))), drawn.sum(0), found.sum(0))
        return jax.tree.map(jnp.add, sums, each), None

    none = (jnp.zeros(x.shape[:-1], x.dtype), jnp.zeros(spatial, x.dtype), jnp.zeros(len(x)))
    (weighted, kept, total), _ = jax.lax.scan(add, none, jax.random.split(key, batches))
    mean = (total / (batches * at_once)).reshape(-1, *[1] * len(spatial))
    kept = kept[None]
    # A pixel that no mask keeps is as good as any.
    return jnp.where(kept > 0, weighted / jnp.where(kept > 0, kept, 1), mean) - mean


def _mask(key: Array, spatial: Shape, grid: int, keep: float) -> Array:
    """Draw a mask ``(*spatial,)`` in [0, 1]."""
    cells, *shifts = jax.random.split(key, 1 + len(spatial))
    shape = tuple(min(grid, n) + 1 for n in spatial)
    mask = jax.random.bernoulli(cells, keep, shape).astype(jnp.float32)
    for n, shift in zip(
        spatial, shifts, strict=True
    ):  # one axis after the other: first in, last out
        mask = jnp.tensordot(mask, _enlarging(n, grid, shift), ((0,), (0,)))
    return mask


def _enlarging(pixels: int, grid: int, key: Array) -> Array:
    """Return ``(cells, pixels)``: the bilinear weights of the cells at each pixel, shifted."""
    count = min(grid, pixels)
    cell = math.ceil(pixels / count)
    shift = jax.random.randint(key, (), 0, cell).astype(jnp.float32)
    pixel, middle = (jnp.arange(n, dtype=jnp.float32) for n in (pixels, count + 1))
    at = (pixel + shift + 0.5) / cell - 0.5  # in cells, from the middle of the first
    distance = jnp.abs(jnp.clip(at, 0, count)[None] - middle[:, None])
    return jnp.maximum(1 - distance, 0)
