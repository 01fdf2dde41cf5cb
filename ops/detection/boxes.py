"""Boxes: area, formats, overlap, and the offsets between a box and an anchor.

Boxes are (x1, y1, x2, y2) in pixels, the last axis of an array. A box whose second corner lies
before its first has no area and meets none.
"""

from collections.abc import Sequence
from math import log
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ..common.checks import check_scalar
from ..common.dtypes import accum_dtype, check_floating

BoxFormat = Literal["xyxy", "xywh", "cxcywh", "yxyx"]
SCALE_CLAMP = log(1000 / 16)
LEAST_SIDE = 1e-6  # pixels; a side below counts as this where a logarithm or an angle is taken
_LEAST_AREA = 1e-18  # square pixels; one below is none: the derivative of 1 / area would overflow


# -------------------------------------------------------------------------- area and formats


def box_area(boxes: jax.Array) -> jax.Array:
    r"""Compute the areas of boxes.

    .. math:: \max(x_2 - x_1, 0)\, \max(y_2 - y_1, 0)

    Args:
        boxes: ``(..., 4)`` as x1, y1, x2, y2, floating point.

    Returns:
        ``(...)``, square pixels; float32, or float64 for float64.

    Raises:
        ValueError: the last axis is not of size 4.
        TypeError: `boxes` is not floating point.

    Example:
        >>> box_area(jnp.array([[0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 2.0, 9.0]]))
        Array([12.,  0.], dtype=float32)

    Note:
        torchvision's `box_area` multiplies signed sides, so that a box with both corners swapped
        has a positive area. At a side of length 0 the derivative is 1/2 of that above it.
    """
    boxes = as_boxes("box_area", "boxes", boxes)
    w, h = box_sides(boxes)
    return w * h


def box_convert(boxes: jax.Array, in_format: BoxFormat, out_format: BoxFormat) -> jax.Array:
    """Convert boxes from one format to another.

    The formats: "xyxy", two corners, as all functions here take; "xywh", a corner and the sides
    (COCO); "cxcywh", the center and the sides (YOLO); "yxyx", two corners with y first
    (TensorFlow).

    Args:
        boxes: ``(..., 4)`` in `in_format`, floating point.
        in_format: of `boxes`.
        out_format: of the result.

    Returns:
        ``(..., 4)`` in `out_format`; float32, or float64 for float64.

    Raises:
        ValueError: an unknown format, or the last axis is not of size 4.
        TypeError: `boxes` is not floating point.

    Example:
        >>> box_convert(jnp.array([1.0, 2.0, 10.0, 20.0]), "xywh", "xyxy")
        Array([ 1.,  2., 11., 22.], dtype=float32)
    """
    for what, given in (("in_format", in_format), ("out_format", out_format)):
        if given not in get_args(BoxFormat):
            raise ValueError(
                f"box_convert: unknown {what}: got {given!r}, need 'xyxy', 'xywh', 'cxcywh' or "
                f"'yxyx'; write {what}='xyxy' for two corners"
            )
    boxes = as_boxes("box_convert", "boxes", boxes)
    if in_format == out_format:
        return boxes
    a, b, c, d = _coordinates(boxes)
    corners = {
        "xyxy": lambda: (a, b, c, d),
        "xywh": lambda: (a, b, a + c, b + d),
        "cxcywh": lambda: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
        "yxyx": lambda: (b, a, d, c),
    }
    x1, y1, x2, y2 = corners[in_format]()
    out = {
        "xyxy": lambda: (x1, y1, x2, y2),
        "xywh": lambda: (x1, y1, x2 - x1, y2 - y1),
        "cxcywh": lambda: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
        "yxyx": lambda: (y1, x1, y2, x2),
    }
    return jnp.stack(out[out_format](), axis=-1)


def box_scale(boxes: jax.Array, factors: Sequence[float | jax.Array]) -> jax.Array:
    """Scale boxes with their image.

    Args:
        boxes: ``(..., 4)`` as x1, y1, x2, y2, floating point.
        factors: (sy, sx), the new height and width of the image over the old; numbers or scalars.

    Returns:
        ``(..., 4)``, x times sx and y times sy; float32, or float64 for float64.

    Raises:
        ValueError: there are not two factors, or the last axis is not of size 4.
        TypeError: `boxes` is not floating point.

    Example:
        >>> box_scale(jnp.array([1.0, 2.0, 3.0, 4.0]), (10, 100))
        Array([100.,  20., 300.,  40.], dtype=float32)
    """
    boxes = as_boxes("box_scale", "boxes", boxes)
    sy, sx = _pair("box_scale", "factors", factors, "(sy, sx), one of each axis", boxes.dtype)
    return boxes * jnp.stack([sx, sy, sx, sy]).reshape((1,) * (boxes.ndim - 1) + (4,))


def box_clip(boxes: jax.Array, image_size: Sequence[int | jax.Array]) -> jax.Array:
    """Clip boxes to an image: x to [0, W], y to [0, H].

    Args:
        boxes: ``(..., 4)`` as x1, y1, x2, y2, floating point.
        image_size: (H, W), the height and width of the image; numbers or scalars.

    Returns:
        ``(..., 4)``; float32, or float64 for float64.

    Raises:
        ValueError: `image_size` is no pair, or the last axis of `boxes` is not of size 4.
        TypeError: `boxes` is not floating point.

    Example:
        >>> box_clip(jnp.array([-3.0, 2.0, 50.0, 40.0]), (30, 60))
        Array([ 0.,  2., 50., 30.], dtype=float32)

    Note:
        The derivative is 1 inside, 0 outside, and 1/2 at an edge.
    """
    boxes = as_boxes("box_clip", "boxes", boxes)
    H, W = _pair("box_clip", "image_size", image_size, "(H, W)", boxes.dtype)
    edge = jnp.stack([W, H, W, H]).reshape((1,) * (boxes.ndim - 1) + (4,))
    return jnp.minimum(at_least(boxes, 0), edge)


# ----------------------------------------------------------------------------------- overlap


def box_iou(boxes1: jax.Array, boxes2: jax.Array) -> jax.Array:
    r"""Compute the intersection over union of each box of one array with each of another.

    .. math:: \mathrm{IoU} = \frac{I}{U}, \quad
        I = \max(\min x_2 - \max x_1, 0)\, \max(\min y_2 - \max y_1, 0), \quad
        U = A_1 + A_2 - I

    Args:
        boxes1: ``(..., N, 4)`` as x1, y1, x2, y2, floating point.
        boxes2: ``(..., M, 4)``, floating point; the leading axes are broadcast.

    Returns:
        ``(..., N, M)`` in [0, 1]; float32, or float64 where one of the two is.

    Raises:
        ValueError: an array has no axis of boxes, or the last axis is not of size 4.
        TypeError: an operand is not floating point.

    Example:
        >>> a = jnp.array([[0.0, 0.0, 2.0, 2.0]])
        >>> box_iou(a, jnp.array([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]))
        Array([[0.33333334, 0.        ]], dtype=float32)

    Note:
        0, with derivative 0, where neither box has an area (below 1e-18 counts as none);
        torchvision's is NaN there. Where edges coincide the derivative is the mean of those at
        both sides, as of all minima and maxima here.

    References:
        Jaccard, The distribution of the flora in the alpine zone, 1912.
    """
    return iou_of(overlaps(*_pairs("box_iou", boxes1, boxes2)))


def box_giou(boxes1: jax.Array, boxes2: jax.Array) -> jax.Array:
    r"""Compute the generalized IoU of each box of one array with each of another.

    .. math:: \mathrm{GIoU} = \mathrm{IoU} - \frac{C - U}{C}

    with C the area of the smallest box around both, and IoU and U as in `box_iou`.

    Args:
        boxes1: ``(..., N, 4)`` as x1, y1, x2, y2, floating point.
        boxes2: ``(..., M, 4)``, floating point; the leading axes are broadcast.

    Returns:
        ``(..., N, M)`` in [-1, 1]; float32, or float64 where one of the two is.

    Raises:
        ValueError: an array has no axis of boxes, or the last axis is not of size 4.
        TypeError: an operand is not floating point.

    Example:
        >>> a = jnp.array([[0.0, 0.0, 1.0, 1.0]])
        >>> box_giou(a, jnp.array([[3.0, 0.0, 4.0, 1.0]]))
        Array([[-0.5]], dtype=float32)

    Note:
        A quotient is 0, with derivative 0, where its divisor is no area; torchvision's is NaN.

    References:
        Rezatofighi et al., Generalized intersection over union, arXiv:1902.09630.
    """
    return giou_of(overlaps(*_pairs("box_giou", boxes1, boxes2)))


class Overlaps(NamedTuple):
    """What the measures of overlap are made of; each of the broadcast shape of both boxes."""

    intersection: jax.Array
    union: jax.Array
    outer: jax.Array  # (..., 2): the sides of the smallest box around both


def overlaps(a: jax.Array, b: jax.Array) -> Overlaps:
    """Return intersection, union and the box around both; boxes (..., 4), broadcast."""
    ax1, ay1, ax2, ay2 = _coordinates(a)
    bx1, by1, bx2, by2 = _coordinates(b)
    w = at_least(jnp.minimum(ax2, bx2) - jnp.maximum(ax1, bx1), 0)
    h = at_least(jnp.minimum(ay2, by2) - jnp.maximum(ay1, by1), 0)
    area = lambda boxes: jnp.multiply(*box_sides(boxes))  # noqa: E731
    intersection = w * h
    outer = jnp.stack(
        [
            at_least(jnp.maximum(ax2, bx2) - jnp.minimum(ax1, bx1), 0),
            at_least(jnp.maximum(ay2, by2) - jnp.minimum(ay1, by1), 0),
        ],
        axis=-1,
    )
    return Overlaps(intersection, area(a) + area(b) - intersection, outer)


def iou_of(o: Overlaps) -> jax.Array:
    """Return I / U, 0 where there is no area."""
    return over_area(o.intersection, o.union)


def giou_of(o: Overlaps) -> jax.Array:
    """Return I / U - (C - U) / C, each quotient 0 where there is no area."""
    around = o.outer[..., 0] * o.outer[..., 1]
    return iou_of(o) - over_area(around - o.union, around)


def over_area(a: jax.Array, area: jax.Array) -> jax.Array:
    """Divide by areas; 0 with derivative 0 where there is none.

    The divisor is replaced before the division: a `where` behind it would leave 0 times infinity in
    the gradient.
    """
    none = area < _LEAST_AREA
    quotient = a / jnp.where(none, jnp.ones_like(area), area)
    return jnp.where(none, jnp.zeros_like(quotient), quotient)


# ----------------------------------------------------------------------- offsets from anchors


def box_encode(
    boxes: jax.Array,
    anchors: jax.Array,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> jax.Array:
    r"""Compute the offsets (deltas) from anchors to boxes, as a network is to predict them.

    .. math:: t = \left( w_x \frac{c_x - c_x^a}{w^a},\; w_y \frac{c_y - c_y^a}{h^a},\;
        w_w \log \frac{w}{w^a},\; w_h \log \frac{h}{h^a} \right)

    Args:
        boxes: ``(..., 4)`` as x1, y1, x2, y2, floating point.
        anchors: ``(..., 4)``, floating point; broadcast against `boxes`.
        weights: of x, y, w and h, positive.

    Returns:
        ``(..., 4)``, no unit; float32, or float64 where one of the two is.

    Raises:
        ValueError: a last axis is not of size 4, or `weights` are not four positive numbers.
        TypeError: an operand is not floating point.

    Example:
        >>> box_encode(jnp.array([2.0, 0.0, 6.0, 4.0]), jnp.array([0.0, 0.0, 4.0, 4.0]))
        Array([0.5, 0. , 0. , 0. ], dtype=float32)

    Note:
        Sides below 1e-6 pixels count as 1e-6, so that a box or an anchor without width gives large
        finite numbers; torchvision's are infinite or NaN.

    References:
        Girshick et al., Rich feature hierarchies, arXiv:1311.2524, appendix C.
    """
    boxes, anchors = _both("box_encode", "boxes", boxes, "anchors", anchors)
    wx, wy, ww, wh = _weights("box_encode", weights)
    x, y, w, h = _centers(boxes, LEAST_SIDE)
    xa, ya, wa, ha = _centers(anchors, LEAST_SIDE)
    t = wx * (x - xa) / wa, wy * (y - ya) / ha, ww * jnp.log(w / wa), wh * jnp.log(h / ha)
    return jnp.stack(t, axis=-1)


def box_decode(
    deltas: jax.Array,
    anchors: jax.Array,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    *,
    scale_clamp: float = SCALE_CLAMP,
) -> jax.Array:
    r"""Apply predicted offsets to anchors: the inverse of `box_encode`.

    .. math:: c_x = \frac{d_x}{w_x} w^a + c_x^a, \quad
        w = e^{\min(d_w / w_w,\, s)}\, w^a, \quad \text{y and h alike}, \quad
        b = (c_x - \tfrac w2, c_y - \tfrac h2, c_x + \tfrac w2, c_y + \tfrac h2)

    Args:
        deltas: ``(..., 4)``, floating point.
        anchors: ``(..., 4)`` as x1, y1, x2, y2, floating point; broadcast against `deltas`, so that
            offsets for each class, ``(..., K, 4)``, take anchors ``(..., 1, 4)``.
        weights: of x, y, w and h, positive; those of `box_encode`.
        scale_clamp: s, the largest logarithm of a factor by which a side grows.

    Returns:
        ``(..., 4)`` as x1, y1, x2, y2, pixels; float32, or float64 where one of the two is.

    Raises:
        ValueError: a last axis is not of size 4, `weights` are not four positive numbers, or
            `scale_clamp` is not positive.
        TypeError: an operand is not floating point.

    Example:
        >>> box_decode(jnp.array([0.5, 0.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 4.0, 4.0]))
        Array([2., 0., 6., 4.], dtype=float32)

    Note:
        The derivative in dw and dh is 0 above the clamp. The default clamp is that of torchvision
        and detectron2, log(1000 / 16).

    References:
        Girshick et al., Rich feature hierarchies, arXiv:1311.2524, appendix C.
    """
    check_scalar(
        *("box_decode", "scale_clamp", scale_clamp, lambda s: s > 0),
        *("scale_clamp > 0", "write scale_clamp=4.135, for example"),
    )
    deltas, anchors = _both("box_decode", "deltas", deltas, "anchors", anchors)
    wx, wy, ww, wh = _weights("box_decode", weights)
    x, y, w, h = _centers(anchors, 0)
    dx, dy, dw, dh = _coordinates(deltas)
    x, y = dx / wx * w + x, dy / wy * h + y
    grown = lambda side, d: side * jnp.exp(jnp.minimum(d, jnp.full_like(d, scale_clamp)))  # noqa: E731
    w, h = grown(w, dw / ww), grown(h, dh / wh)
    return jnp.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)


# ---------------------------------------------------------------------------- parts and checks


def as_boxes(name: str, what: str, boxes: jax.Array) -> jax.Array:
    """Return boxes in float32 at least; raise unless they are floats of a last axis of size 4."""
    boxes = jnp.asarray(boxes)
    check_floating(name, what, boxes)
    if boxes.shape[-1:] != (4,):
        raise ValueError(
            f"{name}: {what} have no last axis of size 4: got shape {boxes.shape}, need (..., 4); "
            f"write jnp.stack([x1, y1, x2, y2], axis=-1)"
        )
    return boxes.astype(accum_dtype(boxes.dtype))


def at_least(x: jax.Array, least: float) -> jax.Array:
    """Return max(x, least).

    The number is made an array, here and in what is exported: the functions that jax2onnx puts in
    the place of jax.numpy's promote a number of Python to float64.
    """
    return jnp.maximum(x, jnp.full_like(x, least))


def box_sides(boxes: jax.Array, least: float = 0) -> tuple[jax.Array, jax.Array]:
    """Return the width and the height of boxes (..., 4), at least `least`."""
    x1, y1, x2, y2 = _coordinates(boxes)
    return at_least(x2 - x1, least), at_least(y2 - y1, least)


def box_centers(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return x and y of the centers of boxes (..., 4)."""
    x1, y1, x2, y2 = _coordinates(boxes)
    return (x1 + x2) / 2, (y1 + y2) / 2


def _coordinates(boxes):
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _centers(boxes, least):
    return *box_centers(boxes), *box_sides(boxes, least)


def _both(name, what, a, other, b):
    """Return two arrays of boxes in one dtype, the wider, and of one rank."""
    a, b = as_boxes(name, what, a), as_boxes(name, other, b)
    dtype, n = max(a.dtype, b.dtype, key=lambda d: d.itemsize), max(a.ndim, b.ndim)
    a, b = (boxes.reshape((1,) * (n - boxes.ndim) + boxes.shape) for boxes in (a, b))
    return a.astype(dtype), b.astype(dtype)


def _pairs(name, boxes1, boxes2):
    """Return (..., N, 1, 4) and (..., 1, M, 4)."""
    a, b = _both(name, "boxes1", boxes1, "boxes2", boxes2)
    for what, shape in (("boxes1", np.shape(boxes1)), ("boxes2", np.shape(boxes2))):
        if len(shape) < 2:
            raise ValueError(
                f"{name}: {what} have no axis of boxes: got shape {shape}, need (..., N, 4); "
                f"write {what}[None] for a single box"
            )
    return a[..., :, None, :], b[..., None, :, :]


def _pair(name, what, values, need, dtype):
    """Return two numbers as scalars of `dtype`."""
    if not isinstance(values, Sequence | jax.Array) or len(values) != 2:
        raise ValueError(
            f"{name}: {what} are not two numbers: got {values!r}, need {need}; write {what}=(a, a) "
            f"if they are equal"
        )
    return jnp.asarray(values[0], dtype), jnp.asarray(values[1], dtype)


def _weights(name, weights):
    values = tuple(float(w) for w in weights)
    if len(values) != 4 or not all(w > 0 for w in values):
        raise ValueError(
            f"{name}: bad weights: got {weights!r}, need four positive numbers, of x, y, w and h; "
            f"write weights=(10.0, 10.0, 5.0, 5.0), for example"
        )
    return values
