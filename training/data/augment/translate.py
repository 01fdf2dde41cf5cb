"""Moved by whole pixels: the random crop of a padded image."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from .. import IGNORED
from .boxes import AffineMap, scaled


def translate(
    key: Array,
    x: Array,
    masks: Array | None,
    *,
    furthest: int,
    padding_mode: Literal["zero", "reflect"] = "zero",
) -> tuple[Array, Array | None]:
    """Move each image by up to `furthest` pixels along each axis, uniformly.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None.
        furthest: in pixels.
        padding_mode: what comes in: "zero", which masks ignore, or the image's own "reflect"-ion
            without its edge, and the mask's.

    References:
        He et al., arXiv:1512.03385, section 4.2, for CIFAR-10: 4 pixels and zeros.
    """
    offsets = draw_offsets(key, len(x), furthest)
    x = _translated(x, offsets, furthest, padding_mode, 0)
    if masks is not None:
        masks = _translated(masks, offsets, furthest, padding_mode, IGNORED)
    return x, masks


def draw_offsets(key: Array, N: int, furthest: int) -> Array:
    """Draw where the window of each image begins in the padded image, ``(N, 2)``: y, x."""
    return jax.random.randint(key, (N, 2), 0, 2 * furthest + 1, jnp.int32)


def translate_map(key: Array, N: int, furthest: int) -> AffineMap:
    """Return where points of N images go, with the same key."""
    move = (furthest - draw_offsets(key, N, furthest)).astype(jnp.float32)
    one = jnp.ones(N, jnp.float32)
    return scaled(one, one, move[:, ::-1])


def _translated(
    images: Array, offsets: Array, furthest: int, padding_mode: str, fill: int
) -> Array:
    """Cut windows of the padded images, each at its own offset."""
    padding = [(furthest, furthest) if axis in (1, 2) else (0, 0) for axis in range(images.ndim)]
    if padding_mode == "reflect":
        padded = jnp.pad(images, padding, mode="reflect")
    else:
        padded = jnp.pad(images, padding, constant_values=fill)

    def window(image: Array, offset: Array) -> Array:
        start = (offset[0], offset[1], *(jnp.int32(0),) * (images.ndim - 3))
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(window)(padded, offsets)
