"""Images read between their pixels: bilinear, and to the nearest for masks."""

import jax.numpy as jnp
from jax import Array

from .. import IGNORED


def sample(x: Array, rows: Array, columns: Array, fill: Array | float = 0.0) -> Array:
    r"""Interpolate each image bilinearly at places of its own.

    .. math:: y_p = \sum_{i,j} (1 - |r_p - i|)_+\, (1 - |c_p - j|)_+\; x_{i,j}

    Every pixel of the plane around the image is `fill`.

    Args:
        x: ``(N, H, W, C)``.
        rows, columns: r and c, the places in pixels, the first pixel's middle at 0:
            ``(N, Ho, Wo)``, or with 1 for Ho or Wo where all rows or columns have the same.
        fill: a number, or one for each channel, ``(1, 1, 1, C)``.

    Returns:
        ``(N, Ho, Wo, C)``, dtype of `x`; added up in float32. At whole places it is `x` itself.

    Note:
        PyTorch's `grid_sample` with bilinear mode and zeros, at places in pixels. Four gathers, of
        the pixels around each place, are the fastest form on CPU: `benchmarks/augment.py` has
        others.
    """
    N, H, W, C = x.shape
    around = jnp.broadcast_to(jnp.asarray(fill, jnp.float32), (N, H + 2, W + 2, C))
    bordered = around.at[:, 1:-1, 1:-1].set(x.astype(jnp.float32))
    # Beyond the border all is alike; so far out, also the place itself may be brought nearer.
    rows, columns = jnp.clip(rows + 1, 0, H + 1), jnp.clip(columns + 1, 0, W + 1)
    top, left = jnp.clip(jnp.floor(rows), 0, H), jnp.clip(jnp.floor(columns), 0, W)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    i, j, n = (
        top.astype(jnp.int32),
        left.astype(jnp.int32),
        jnp.arange(N, dtype=jnp.int32)[:, None, None],
    )

    def at(i: Array, j: Array) -> Array:
        return bordered.at[n, i, j].get(mode="promise_in_bounds")

    above = (1 - right) * at(i, j) + right * at(i, j + 1)
    below = (1 - right) * at(i + 1, j) + right * at(i + 1, j + 1)
    return ((1 - down) * above + down * below).astype(x.dtype)


def sample_masks(masks: Array, rows: Array, columns: Array) -> Array:
    """Read the class at the pixel nearest to each place; `IGNORED` outside. See `sample`.

    Args:
        masks: ``(N, H, W)``.

    Returns:
        ``(N, Ho, Wo)``, dtype of `masks`.
    """
    N, H, W = masks.shape
    i, j = (jnp.floor(place + 0.5).astype(jnp.int32) for place in (rows, columns))
    inside = (i >= 0) & (i < H) & (j >= 0) & (j < W)
    n = jnp.arange(N, dtype=jnp.int32)[:, None, None]
    nearest = masks.at[n, jnp.clip(i, 0, H - 1), jnp.clip(j, 0, W - 1)]
    found = nearest.get(mode="promise_in_bounds")
    return jnp.where(inside, found, jnp.asarray(IGNORED, masks.dtype))
