"""Convolution of few channels on CPU: each row of an image as one vector, each tap row as a matrix.

Along one row, correlation with a kernel row is multiplication by a banded matrix

    y[j, o] = sum_{w,c} x[w, c] T[w, c, j, o],    T[w, c, j, o] = k[w - j, c, o] for 0 <= w - j < KW

and so a stride-1 convolution is KH of them, one after the other in a single matrix product. Most of
T is zeros that are multiplied all the same: W / KW times the work, at the speed of a large matrix
product instead of that of a convolution over a handful of channels.

`benchmarks/conv_rows.py` measures plain / rows. On 2 cores of Zen 4 with jax 0.10.2 and 0.12.0 the
first layer of LeNet-5, 1 -> 6 channels 5x5 at 32x32, gives 2.0, and the input gradient of its
second, 6 <- 16 channels 5x5 at 14x14, 2.2 to 3.3. The conditions below are read off its table.

As zeros are multiplied too, an infinity or NaN in the input spreads over its whole row.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .conv_geometry import Geometry
from .dtype import wide


def rows_pay_for_conv(geometry: Geometry, k_shape: tuple[int, ...]) -> bool:
    """Whether `rows_conv` is the faster form, by the measurements above."""
    *_, Ci, Co = k_shape
    return _applies(geometry) and Ci == 1 and Co <= 16 and geometry.size[1] <= 64


def rows_pay_for_input_grad(geometry: Geometry, k_shape: tuple[int, ...]) -> bool:
    """Whether `rows_input_grad` is the faster form, by the measurements above."""
    *_, Ci, Co = k_shape
    return _applies(geometry) and Co <= 16 and Ci * geometry.size[1] <= 128


def rows_conv(x: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """y = dT/dg."""
    KH, _, Ci, Co = k.shape
    Ho, Wo = geometry.output
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *_pairs(geometry), (0, 0, 0)))
    N, _, W, _ = x.shape
    rows = x.reshape(N, -1, W * Ci)
    rows = jnp.concatenate([rows[:, u : u + Ho] for u in range(KH)], axis=-1)
    y = _times(rows, _band(k, W, Wo).reshape(KH * W * Ci, Wo * Co))
    return y.reshape(N, Ho, Wo, Co)


def rows_input_grad(g: jax.Array, k: jax.Array, *, geometry: Geometry) -> jax.Array:
    """gx = dT/dx: each row of g times the transposed matrices, added up where their rows were."""
    KH, KW, Ci, Co = k.shape
    N, Ho, Wo, _ = g.shape
    H, W = Ho + KH - 1, Wo + KW - 1  # of the padded input
    band = jnp.moveaxis(_band(k, W, Wo), (3, 4), (0, 1)).reshape(Wo * Co, KH * W * Ci)
    parts = _times(g.reshape(N, Ho, Wo * Co), band).reshape(N, Ho, KH, W * Ci)
    shifted = [jnp.pad(parts[:, :, u], ((0, 0), (u, KH - 1 - u), (0, 0))) for u in range(KH)]
    gx = sum(shifted[1:], shifted[0]).reshape(N, H, W, Ci)
    (top, _), (left, _) = geometry.padding
    return gx[:, top : top + geometry.size[0], left : left + geometry.size[1]]


def _applies(geometry: Geometry) -> bool:
    return (
        len(geometry.size) == 2
        and geometry.stride == geometry.dilation == (1, 1)
        and geometry.groups == 1
    )


def _pairs(geometry: Geometry) -> list[tuple[int, int, int]]:
    return [(low, high, 0) for low, high in geometry.padding]


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


def _times(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """Matrix product over the last axis; types below float32 are added up in float32."""
    y = lax.dot_general(
        rows, matrix, (((2,), (0,)), ((), ())), preferred_element_type=wide(rows.dtype)
    )
    return y.astype(rows.dtype)
