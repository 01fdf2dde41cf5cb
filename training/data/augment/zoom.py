"""Nearer or farther: the whole image larger or smaller, anywhere on its canvas."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from .boxes import AffineMap, scaled
from .interpolate import sample, sample_masks


def zoom(
    key: Array, x: Array, masks: Array | None, *, scale: Sequence[float]
) -> tuple[Array, Array | None]:
    """Scale each image, its aspect kept, and place it at random: all of it, or a part.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None.
        scale: the least and the greatest factor, uniform in its logarithm.

    Note:
        Large-scale jitter on a canvas of one size.

    References:
        Ghiasi et al., arXiv:2012.07177.
    """
    N, H, W, _ = x.shape
    to = zoom_map(key, (N, H, W), scale)
    s = to.matrix[:, 0, 0]
    rows = (jnp.arange(H, dtype=jnp.float32)[None] + 0.5 - to.move[:, 1:]) / s[:, None] - 0.5
    columns = (jnp.arange(W, dtype=jnp.float32)[None] + 0.5 - to.move[:, :1]) / s[:, None] - 0.5
    rows, columns = rows[:, :, None], columns[:, None, :]
    moved = sample(x, rows, columns)
    return moved, None if masks is None else sample_masks(masks, rows, columns)


def zoom_map(key: Array, shape: tuple[int, int, int], scale: Sequence[float]) -> AffineMap:
    """Draw where points of images ``(N, H, W)`` go."""
    N, H, W = shape
    draws = jax.random.uniform(key, (3, N), jnp.float32)
    low, high = (jnp.log(jnp.float32(end)) for end in scale)
    s = jnp.exp(low + (high - low) * draws[0])
    move = jnp.stack([(1 - s) * W * draws[1], (1 - s) * H * draws[2]], axis=-1)
    return scaled(s, s, move)
