"""A part of the image, enlarged to the whole."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from .boxes import AffineMap, scaled
from .interpolate import sample, sample_masks


def crop(
    key: Array, x: Array, masks: Array | None, *, scale: Sequence[float], ratio: Sequence[float]
) -> tuple[Array, Array | None]:
    """Crop a box of random area, shape and place, and resize it to the image's size.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None.
        scale: the least and the greatest share of the image's area, uniform.
        ratio: the least and the greatest width by height of the box, uniform in its logarithm.

    Note:
        torchvision's `RandomResizedCrop`, with boxes that need not begin and end at whole pixels. A
        side that would be longer than the image's is the image's, where torchvision draws again.

    References:
        Szegedy et al., arXiv:1409.4842, section 6.
    """
    top, left, height, width = _boxes(key, x.shape[:3], scale, ratio)
    H, W = x.shape[1:3]
    rows, columns = _places(top, height, H)[:, :, None], _places(left, width, W)[:, None, :]
    enlarged = sample(x, rows, columns)
    return enlarged, None if masks is None else sample_masks(masks, rows, columns)


def crop_map(
    key: Array, shape: tuple[int, int, int], scale: Sequence[float], ratio: Sequence[float]
) -> AffineMap:
    """Return where points of images ``(N, H, W)`` go, with the same key."""
    top, left, height, width = _boxes(key, shape, scale, ratio)
    sx, sy = shape[2] / width, shape[1] / height
    return scaled(sx, sy, jnp.stack([-left * sx, -top * sy], axis=-1))


def _boxes(
    key: Array, shape: tuple[int, ...], scale: Sequence[float], ratio: Sequence[float]
) -> tuple[Array, Array, Array, Array]:
    """Draw top, left, height and width of each box, ``(N,)``, in pixels."""
    N, H, W = shape
    draws = jax.random.uniform(key, (4, N), jnp.float32)
    area = (scale[0] + (scale[1] - scale[0]) * draws[0]) * (H * W)
    low, high = (jnp.log(jnp.float32(end)) for end in ratio)
    aspect = jnp.exp(low + (high - low) * draws[1])
    height = jnp.clip(jnp.sqrt(area / aspect), 1, H)
    width = jnp.clip(jnp.sqrt(area * aspect), 1, W)
    return (H - height) * draws[2], (W - width) * draws[3], height, width


def _places(start: Array, length: Array, size: int) -> Array:
    """Return the places at which pixels are read, ``(N, size)``: not outside the box."""
    middles = (jnp.arange(size, dtype=jnp.float32) + 0.5)[None] * (length / size)[:, None]
    within = jnp.clip(middles, 0.5, length[:, None] - 0.5)
    return jnp.clip(start[:, None] + within - 0.5, 0, size - 1)
