"""What the Python Imaging Library does to the tones of an image, of images in [0, 1].

As in `PIL.ImageOps` and `PIL.ImageEnhance`, and in torchvision after them.
"""

import jax.numpy as jnp
from jax import Array

from .color import blend


def sharpened(x: Array, factor: Array) -> Array:
    """Blend with the smoothed image, which keeps its outermost pixels.

    Args:
        x: ``(N, H, W, C)``, at least 3 pixels each way.
        factor: ``(N, 1, 1, 1)``; 0 is all smooth, 1 as it was, more is sharper.
    """
    H, W = x.shape[1:3]
    around = sum(x[:, i : H - 2 + i, j : W - 2 + j] for i in range(3) for j in range(3))
    inner = (around + 4 * x[:, 1:-1, 1:-1]) / 13
    return blend(x, x.at[:, 1:-1, 1:-1].set(inner), factor)


def posterized(x: Array, bits: Array) -> Array:
    """Keep the leading `bits`, ``(N, 1, 1, 1)``, of the byte that a value is."""
    step = jnp.exp2(8 - bits)
    return jnp.floor(jnp.round(255 * x) / step) * step / 255


def solarized(x: Array, threshold: Array) -> Array:
    """Invert values from the threshold, ``(N, 1, 1, 1)``, on."""
    return jnp.where(x >= threshold, 1 - x, x)


def stretched(x: Array) -> Array:
    """Stretch each channel to 0 to 1; one that is all the same stays."""
    low, high = x.min(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    flat = low == high
    return jnp.where(flat, x, (x - low) / jnp.where(flat, 1, high - low))


def equalized(x: Array) -> Array:
    r"""Equalize the histogram of each channel, as far as may be.

    .. math:: b' = \Bigl\lfloor \frac{\lfloor s/2 \rfloor + \sum_{a < b} h_a}{s} \Bigr\rfloor,
        \qquad s = \Bigl\lfloor \frac{n - h_{\max}}{255} \Bigr\rfloor

    for a byte b, of n pixels, h_a of them a, and h_max the count of the greatest byte there is. A
    channel with s = 0 stays as it is.
    """
    N, H, W, C = x.shape
    byte = jnp.round(255 * x).astype(jnp.int32).transpose(0, 3, 1, 2).reshape(N * C, H * W)
    channel = jnp.arange(N * C, dtype=jnp.int32)[:, None]
    counts = jnp.zeros((N * C, 256), jnp.int32).at[channel, byte].add(1, mode="promise_in_bounds")
    last = jnp.take_along_axis(counts, byte.max(axis=1, keepdims=True), axis=1)
    step = (H * W - last) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    table = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step == 0, jnp.arange(256, dtype=jnp.int32)[None], table)
    new = table.at[channel, byte].get(mode="promise_in_bounds").astype(x.dtype) / 255
    return new.reshape(N, C, H, W).transpose(0, 2, 3, 1)
