"""A square without content."""

import jax
import jax.numpy as jnp
from jax import Array

from .. import IGNORED


def cutout(key: Array, x: Array, masks: Array | None, *, size: int) -> tuple[Array, Array | None]:
    """Set a square of each image to 0, its middle anywhere: it may reach beyond.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None; there, the square is `IGNORED`.
        size: its side, in pixels.

    References:
        DeVries & Taylor, arXiv:1708.04552.
    """
    N, H, W, _ = x.shape
    middles = jax.random.randint(key, (2, N), 0, jnp.array([[H], [W]], jnp.int32), jnp.int32)
    top, left = middles - size // 2
    hidden = boxes((H, W), top, left, size, size)
    x = jnp.where(hidden[..., None], jnp.zeros((), x.dtype), x)
    if masks is not None:
        masks = jnp.where(hidden, jnp.asarray(IGNORED, masks.dtype), masks)
    return x, masks


def boxes(
    size: tuple[int, int], top: Array, left: Array, height: Array | int, width: Array | int
) -> Array:
    """Return a mask of each image's box, ``(N, H, W)`` truth values.

    Args:
        size: H and W.
        top, left: of each box, ``(N,)``; the box may reach beyond the image.
        height, width: ``(N,)``, or a number for all.
    """

    def along(length: int, start: Array, extent: Array | int) -> Array:
        pixels = jnp.arange(length, dtype=jnp.int32)[None]
        return (pixels >= start[:, None]) & (pixels < (start + extent)[:, None])

    rows, columns = along(size[0], top, height), along(size[1], left, width)
    return rows[:, :, None] & columns[:, None, :]
