"""Turned, moved, scaled and sheared about the middle of the image."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from .boxes import AffineMap, about_middle
from .interpolate import sample, sample_masks


def affine(
    key: Array,
    x: Array,
    masks: Array | None,
    *,
    degrees: float,
    translate: Sequence[float],
    scale: Sequence[float],
    shear: Sequence[float],
) -> tuple[Array, Array | None]:
    """Warp each image by a random affine map, every number of it drawn uniformly.

    Args:
        key: a PRNG key.
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None.
        degrees: turned by up to this, either way.
        translate: moved to the right and down, or back, by up to these shares of width and height.
        scale: the least and the greatest size, 1.0 for as it is.
        shear: by up to these degrees along x and along y, either way.

    Note:
        torchvision's `RandomAffine` with numbers instead of ranges, bilinear, except that it
        moves by whole pixels.
    """
    forward, move = _draw(key, x.shape[:3], degrees, translate, scale, shear)
    return warp(x, masks, forward, move)


def affine_map(
    key: Array,
    shape: tuple[int, int, int],
    *,
    degrees: float,
    translate: Sequence[float],
    scale: Sequence[float],
    shear: Sequence[float],
) -> AffineMap:
    """Return where points of images ``(N, H, W)`` go, with the same key."""
    forward, move = _draw(key, shape, degrees, translate, scale, shear)
    turns = bool(degrees or any(shear))
    return about_middle(forward, move, (shape[1], shape[2]), turns=turns)


def _draw(
    key: Array,
    shape: tuple[int, ...],
    degrees: float,
    translate: Sequence[float],
    scale: Sequence[float],
    shear: Sequence[float],
) -> tuple[Array, Array]:
    """Draw what `warp` is given, ``(N, 2, 2)`` and ``(N, 2)``."""
    N, H, W = shape
    draws = jax.random.uniform(key, (6, N), jnp.float32, minval=-1.0, maxval=1.0)
    angle, shear_x, shear_y = (
        jnp.deg2rad(jnp.float32(most)) * draw
        for most, draw in zip((degrees, *shear), (draws[0], *draws[4:]), strict=True)
    )
    middle, half = (scale[0] + scale[1]) / 2, (scale[1] - scale[0]) / 2
    forward = matrices(angle, middle + half * draws[3], shear_x, shear_y)
    move = jnp.stack([translate[0] * W * draws[1], translate[1] * H * draws[2]], axis=-1)
    return forward, move


def matrices(angle: Array, scale: Array, shear_x: Array, shear_y: Array) -> Array:
    r"""Compute the matrices that points (x, y) about the middle are multiplied by; y is down.

    .. math:: s \begin{pmatrix} \cos a & -\sin a \\ \sin a & \cos a \end{pmatrix}
        \begin{pmatrix} 1 & 0 \\ -\tan v & 1 \end{pmatrix}
        \begin{pmatrix} 1 & -\tan u \\ 0 & 1 \end{pmatrix}

    Args:
        angle: a, clockwise; radians like u, v: ``(N,)``.
        scale: s, ``(N,)``.
        shear_x, shear_y: u and v, ``(N,)``.

    Returns:
        ``(N, 2, 2)``.

    Note:
        The matrix of torchvision's `affine`.
    """
    cos, sin, u, v = jnp.cos(angle), jnp.sin(angle), jnp.tan(shear_x), jnp.tan(shear_y)
    a, b = cos + sin * v, -(cos + sin * v) * u - sin
    c, d = sin - cos * v, -(sin - cos * v) * u + cos
    rows = jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], axis=-2)
    return scale[:, None, None] * rows


def warp(
    x: Array, masks: Array | None, forward: Array, move: Array, fill: Array | float = 0.0
) -> tuple[Array, Array | None]:
    """Move every point p, seen from the middle of its image, to ``forward @ p + move``.

    Each new pixel is read where it came from, by the inverse.

    Args:
        x: ``(N, H, W, C)``.
        masks: ``(N, H, W)``, or None.
        forward: ``(N, 2, 2)``, of (x, y), not singular.
        move: ``(N, 2)``, to the right and down, in pixels.
        fill: what comes in, as for `sample`.
    """
    H, W = x.shape[1:3]
    down = (jnp.arange(H, dtype=jnp.float32) - (H - 1) / 2)[None, :, None]
    right = (jnp.arange(W, dtype=jnp.float32) - (W - 1) / 2)[None, None, :]
    (a, b), (c, d) = (forward[:, i, :, None, None].swapaxes(0, 1) for i in range(2))
    area = a * d - b * c
    right, down = right - move[:, :1, None], down - move[:, 1:, None]
    columns = (d * right - b * down) / area + (W - 1) / 2
    rows = (a * down - c * right) / area + (H - 1) / 2
    moved = sample(x, rows, columns, fill)
    return moved, None if masks is None else sample_masks(masks, rows, columns)
