"""Anchors: the boxes that a proposal network starts from, the same in every cell of a map."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..common.dtypes import accum_dtype
from ..common.padding import is_int
from .boxes import as_boxes


def cell_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], *, rounded: bool = True
) -> np.ndarray:
    r"""Make the anchors of one cell, with their centers at the origin.

    .. math:: w = s / \sqrt r, \quad h = s \sqrt r, \quad
        \left( -\tfrac w2, -\tfrac h2, \tfrac w2, \tfrac h2 \right)

    Args:
        sizes: s, roots of areas in pixels, positive.
        aspect_ratios: r, height over width, positive.
        rounded: whether to round coordinates to whole pixels, halves to even.

    Returns:
        ``(A, 4)`` as x1, y1, x2, y2 with A = ratios times sizes, for each ratio each size: a NumPy
        array of float32, a constant of a program.

    Raises:
        ValueError: no sizes or ratios, or one that is not positive.

    Example:
        >>> cell_anchors([16, 32], [1.0])
        array([[ -8.,  -8.,   8.,   8.],
               [-16., -16.,  16.,  16.]], dtype=float32)

    Note:
        The same as torchvision's `AnchorGenerator.generate_anchors`, to the bit. detectron2 does
        not round, and has for each size each ratio.

    References:
        Ren et al., Faster R-CNN, arXiv:1506.01497.
    """
    s = _positive("sizes", sizes)
    root = np.sqrt(_positive("aspect_ratios", aspect_ratios))
    w, h = (np.outer(a, s).ravel() for a in (1 / root, root))
    anchors = np.stack([-w, -h, w, h], axis=1) / np.float32(2)
    return np.round(anchors) if rounded else anchors


def grid_anchors(
    map_size: Sequence[int],
    strides: Sequence[int],
    cells: np.ndarray | jax.Array,
    *,
    offset: float = 0.0,
) -> jax.Array:
    r"""Repeat the anchors of a cell at each position of a feature map.

    .. math:: g_{(i w + j) A + a} = c_a +
        \left( (j + o)\, s_x, (i + o)\, s_y, (j + o)\, s_x, (i + o)\, s_y \right)

    Args:
        map_size: (h, w) of the feature map.
        strides: (sy, sx), pixels of the image for each position of the map.
        cells: c, ``(A, 4)`` as x1, y1, x2, y2, of `cell_anchors`.
        offset: o, where in its cell an anchor has its center, in strides.

    Returns:
        ``(h * w * A, 4)``, pixels: row after row, in each position its anchors; float32, or float64
        for float64.

    Raises:
        ValueError: `map_size` or `strides` are not two positive integers, or `cells` not (A, 4).
        TypeError: `cells` is not floating point.

    Example:
        >>> grid_anchors((1, 2), (16, 16), cell_anchors([16], [1.0]))
        Array([[-8., -8.,  8.,  8.],
               [ 8., -8., 24.,  8.]], dtype=float32)

    Note:
        The first center is at (0, 0), as torchvision and detectron2 have it; `offset=0.5` puts the
        anchors into the middle of their cells. A program makes the grid from counters, so that it
        carries no constant of the grid's size.
    """
    h, w = _two_ints("map_size", map_size)
    sy, sx = _two_ints("strides", strides)
    cells = as_boxes("grid_anchors", "cells", jnp.asarray(cells))
    if cells.ndim != 2:
        raise ValueError(
            f"grid_anchors: cells are no list of boxes: got shape {cells.shape}, need (A, 4); "
            f"write cell_anchors(sizes, aspect_ratios)"
        )
    dtype = accum_dtype(cells.dtype)
    y = (lax.iota(dtype, h) + dtype.type(offset)) * dtype.type(sy)
    x = (lax.iota(dtype, w) + dtype.type(offset)) * dtype.type(sx)
    y, x = jnp.broadcast_to(y[:, None], (h, w)), jnp.broadcast_to(x[None, :], (h, w))
    shifts = jnp.stack([x, y, x, y], axis=-1)
    return (shifts[:, :, None, :] + cells[None, None]).reshape(-1, 4)


def _positive(what, values):
    values = np.asarray(values, np.float32)
    if values.ndim != 1 or not values.size or not (values > 0).all():
        raise ValueError(
            f"cell_anchors: bad {what}: got {values.tolist()}, need a list of positive numbers; "
            f"write {what}=[1.0], for example"
        )
    return values


def _two_ints(what, values):
    if len(values) != 2 or not all(is_int(v) and v > 0 for v in values):
        raise ValueError(
            f"grid_anchors: bad {what}: got {values!r}, need two positive integers, of y and x; "
            f"write {what}=(16, 16), for example"
        )
    return int(values[0]), int(values[1])
