"""The input gradient of few channels on CPU: rows as vectors, kernel rows as Toeplitz matrices.

Along one row, correlation with a kernel row is multiplication by a banded Toeplitz matrix

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
from .im2col import matmul
from .microbatch import map_microbatches

_ROWS_AT_ONCE = 4096  # at once


def toeplitz_row_fits(geometry: Geometry) -> bool:
    """Return whether `toeplitz_row_input_grad` can compute the gradient."""
    return (
        len(geometry.size) == 2
        and geometry.stride == geometry.dilation == (1, 1)
        and geometry.groups == 1
    )


def toeplitz_row_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """Compute gx = dT/dx: rows of g times the transposed matrices, added up at their rows.

    Args:
        g: gradient of the output, ``(N, *output, Co)``.
        k: kernel, ``(*window, Ci // groups, Co)``, dtype of `g`.
        geometry: of the convolution.

    Returns:
        ``(N, *size, Ci)``, dtype of `g`; added up in float32 at least.
    """
    KH, KW, Ci, Co = k.shape
    N, Ho, Wo, _ = g.shape
    H, W = Ho + KH - 1, Wo + KW - 1  # of the padded input
    matrix = jnp.moveaxis(_toeplitz_matrices(k, W, Wo), (3, 4), (0, 1)).reshape(
        Wo * Co, KH * W * Ci
    )

    def multiply(g):
        parts = matmul(g, matrix).reshape(*g.shape[:2], KH, W * Ci)
        shifted = [jnp.pad(parts[:, :, u], ((0, 0), (u, KH - 1 - u), (0, 0))) for u in range(KH)]
        return sum(shifted[1:], shifted[0])

    gx = map_microbatches(multiply, g.reshape(N, Ho, Wo * Co), _ROWS_AT_ONCE // Ho).reshape(
        N, H, W, Ci
    )
    (top, _), (left, _) = geometry.padding
    return gx[:, top : top + geometry.size[0], left : left + geometry.size[1]]


def _toeplitz_matrices(k: jax.Array, W: int, Wo: int) -> jax.Array:
    """Return T, ``(KH, W, Ci, Wo, Co)``.

    A kernel row followed by zeros up to length W + 1, repeated Wo times and cut into pieces of
    length W, moves to the right by one in each piece.
    """
    KH, KW, Ci, Co = k.shape
    row = jnp.pad(k, ((0, 0), (0, W + 1 - KW), (0, 0), (0, 0)))
    rows = jnp.broadcast_to(row[:, None], (KH, Wo, W + 1, Ci, Co))
    matrix = rows.reshape(KH, Wo * (W + 1), Ci, Co)[:, : Wo * W].reshape(KH, Wo, W, Ci, Co)
    return jnp.moveaxis(matrix, 1, 3)
