"""The input gradient of few channels on CPU: each row as one vector, each tap row as a matrix.

Along one row, correlation with a kernel row is multiplication by a banded matrix

    y[j, o] = sum_{w,c} x[w, c] T[w, c, j, o],    T[w, c, j, o] = k[w - j, c, o] for 0 <= w - j < KW

and so the input gradient of a stride-1 convolution is the sum of KH products with the transposed
matrices, computed as one. Most of T is zeros that are multiplied all the same: W / KW times the
work, at the speed of a large matrix product instead of that of a convolution over a handful of
channels.

As zeros are multiplied too, an infinity or NaN in the gradient spreads over its whole row.
"""

import jax
import jax.numpy as jnp

from ..geometry import Geometry
from .im2col import times
from .microbatch import in_lots

_ROWS = 4096  # at once


def rows_fit(geometry: Geometry) -> bool:
    """Whether the convolution is one that `rows_input_grad` can do."""
    return (
        len(geometry.size) == 2
        and geometry.stride == geometry.dilation == (1, 1)
        and geometry.groups == 1
    )


def rows_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx: each row of g times the transposed matrices, added up where their rows were."""
    KH, KW, Ci, Co = k.shape
    N, Ho, Wo, _ = g.shape
    H, W = Ho + KH - 1, Wo + KW - 1  # of the padded input
    band = jnp.moveaxis(_band(k, W, Wo), (3, 4), (0, 1)).reshape(Wo * Co, KH * W * Ci)

    def some(g):
        parts = times(g, band).reshape(*g.shape[:2], KH, W * Ci)
        shifted = [jnp.pad(parts[:, :, u], ((0, 0), (u, KH - 1 - u), (0, 0))) for u in range(KH)]
        return sum(shifted[1:], shifted[0])

    gx = in_lots(some, g.reshape(N, Ho, Wo * Co), _ROWS // Ho).reshape(N, H, W, Ci)
    (top, _), (left, _) = geometry.padding
    return gx[:, top : top + geometry.size[0], left : left + geometry.size[1]]


def _band(k: jax.Array, W: int, Wo: int) -> jax.Array:
    """T, ``(KH, W, Ci, Wo, Co)``.

    A kernel row followed by zeros up to length W + 1, repeated Wo times and cut into pieces of
    length W, moves to the right by one in each piece.
    """
    KH, KW, Ci, Co = k.shape
    row = jnp.pad(k, ((0, 0), (0, W + 1 - KW), (0, 0), (0, 0)))
    rows = jnp.broadcast_to(row[:, None], (KH, Wo, W + 1, Ci, Co))
    band = rows.reshape(KH, Wo * (W + 1), Ci, Co)[:, : Wo * W].reshape(KH, Wo, W, Ci, Co)
    return jnp.moveaxis(band, 1, 3)
