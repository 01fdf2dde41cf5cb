"""Occlusion: how much of a score goes when a patch of the image is covered."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..model import Layer
from ..model.layer import Params, State
from .integrated_gradients import broadcast
from .target import Target, scores


def occlusion(
    net: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    *,
    window: int,
    stride: int | None = None,
    fill: Any = 0.0,
    at_once: int = 16,
) -> Array:
    r"""Compute the loss of score at each pixel: the mean over the patches P that cover it.

    .. math:: M_{ij} = \frac{1}{|\{P \ni (i, j)\}|} \sum_{P \ni (i, j)}
        \big(S_k(x) - S_k(x \text{ with } P \text{ covered})\big)

    No gradient is involved, so nothing is said of changes too small to see.

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        target: see `scores`.
        window: the side of a patch, in pixels.
        stride: from one patch to the next; half of `window` by default. A last patch along each
            axis ends where the image does.
        fill: what covers, broadcast to `x`; zero is the mean color where inputs are normalized.
        at_once: patches in one call of the network, which bounds the memory.

    Returns:
        ``(N, *spatial)``: positive where the class needs what is there, negative where that speaks
        against it.

    Raises:
        ValueError: a patch larger than the image, or a number less than 1; a `fill` that does not
            fit; and as `scores`.

    References:
        Zeiler & Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901,
        section 4.2.
    """
    spatial = x.shape[1:-1]
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= window <= min(spatial):
        raise ValueError(f"occlusion: window: got {window}, need 1 to {min(spatial)}")
    if min(stride, at_once) < 1:
        raise ValueError(f"occlusion: got stride {stride}, at_once {at_once}, need 1 or more")
    cover = broadcast("occlusion", "fill", fill, x)
    covers = [_covers(n, window, stride) for n in spatial]  # (patches, pixels) along each axis
    places = np.stack(np.meshgrid(*(np.arange(len(c)) for c in covers), indexing="ij"), axis=-1)

    def score(x: Array) -> Array:
        return scores(net.apply(params, state, x, train=False)[0], target)

    def score_without(place: Array) -> Array:
        along = [jnp.asarray(c)[at] for c, at in zip(covers, place, strict=True)]
        covered = reduce(jnp.multiply.outer, along)[None, ..., None]
        return score(jnp.where(jnp.broadcast_to(covered > 0, x.shape), cover, x))

    flat = jnp.asarray(places.reshape(-1, len(spatial)))
    drops = score(x)[None] - jax.lax.map(score_without, flat, batch_size=min(at_once, len(flat)))
    return _spread(drops.reshape(*places.shape[:-1], len(x)), covers)


def _covers(pixels: int, window: int, stride: int) -> np.ndarray:
    """Return ``(patches, pixels)``: 1 where a patch covers a pixel."""
    starts = np.unique([*range(0, pixels - window, stride), pixels - window])[:, None]
    at = np.arange(pixels)
    return ((at >= starts) & (at < starts + window)).astype(np.float32)


def _spread(drops: Array, covers: list[np.ndarray]) -> Array:
    """Average over the patches at each pixel: ``(*patches, N) -> (N, *pixels)``."""
    for cover in covers:  # one axis after the other: first in, last out
        mean = cover / cover.sum(axis=0)
        drops = jnp.tensordot(drops, jnp.asarray(mean, drops.dtype), ((0,), (0,)))
    return drops
