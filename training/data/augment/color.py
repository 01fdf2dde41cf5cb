"""Another brightness, contrast, saturation and hue, of images in [0, 1]."""

import jax
import jax.numpy as jnp
from jax import Array


def color(
    key: Array, x: Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Array:
    """Change brightness, contrast, saturation and hue, in this order, at random.

    Each factor is uniform in ``[max(0, 1 - strength), 1 + strength]``, and the hue is turned by a
    share of the circle in ``[-hue, hue]``. A strength of 0 leaves out.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)`` in [0, 1]; C is 3, or another number, which has neither
            saturation nor hue.
        brightness, contrast, saturation, hue: the strengths.

    Note:
        torchvision's `ColorJitter`, whose order is random.
    """
    draws = jax.random.uniform(key, (4, len(x), 1, 1, 1), x.dtype)
    changes = ((brightness, brightened), (contrast, contrasted), (saturation, saturated))
    for (strength, change), draw in zip(changes, draws[:3], strict=True):
        if strength:
            low = max(0.0, 1 - strength)
            x = change(x, low + (1 + strength - low) * draw)
    return hue_turned(x, hue * (2 * draws[3] - 1)) if hue else x


def blend(one: Array, other: Array, factor: Array) -> Array:
    """Compute ``factor * one + (1 - factor) * other``, clipped to [0, 1]."""
    return jnp.clip(factor * one + (1 - factor) * other, 0, 1)


def brightened(x: Array, factor: Array) -> Array:
    """Blend with black; `factor` is ``(N, 1, 1, 1)``, here and below."""
    return blend(x, jnp.zeros_like(x), factor)


def contrasted(x: Array, factor: Array) -> Array:
    """Blend with the mean of the image's gray."""
    return blend(x, gray(x).mean(axis=(1, 2, 3), keepdims=True), factor)


def saturated(x: Array, factor: Array) -> Array:
    """Blend with the image's gray."""
    return blend(x, gray(x), factor)


def gray(x: Array) -> Array:
    """Compute the luma of ITU-R BT.601, ``(N, H, W, 1)``: 0.2989 R + 0.587 G + 0.114 B.

    Of channels that are not three, and so not red, green and blue, it is the mean.
    """
    if x.shape[-1] == 1:
        return x
    if x.shape[-1] != 3:
        return x.mean(axis=-1, keepdims=True)
    red, green, blue = (x[..., c : c + 1] for c in range(3))
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def hue_turned(x: Array, share: Array) -> Array:
    r"""Turn the hue, an angle, by a share of the circle: in the HSV model.

    With the value V, the greatest of the channels, the chroma C, V minus the least, and the hue h
    in [0, 6), red, green and blue are, for n = 5, 3, 1,

    .. math:: V - C \max\bigl(0, \min(k, 4 - k, 1)\bigr), \qquad k = (n + h) \bmod 6

    Args:
        x: ``(N, H, W, 3)`` in [0, 1].
        share: ``(N, 1, 1, 1)``; 1 is the whole circle.

    References:
        Smith, Color gamut transform pairs, SIGGRAPH 1978; the closed form is Wikipedia's, "HSL and
        HSV".
    """
    red, green, blue = (x[..., c : c + 1] for c in range(3))
    value = x.max(axis=-1, keepdims=True)
    chroma = value - x.min(axis=-1, keepdims=True)
    safe = jnp.where(chroma == 0, 1, chroma)
    sixth = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turned = sixth / 6 + share + jnp.array([5 / 6, 3 / 6, 1 / 6], x.dtype).reshape(1, 1, 1, 3)
    k = 6 * (turned - jnp.floor(turned))  # a remainder, without the slow one of floats
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)
