"""Masks of objects between their box and the image: pasted into it, and cut out of it."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ..common.dtypes import accum_dtype, check_floating
from ..common.padding import per_axis
from .bilinear import adaptive_matrix, spans
from .boxes import as_boxes

_TOGETHER = 16  # masks of the image's size that are in memory at once


def paste_masks(masks: jax.Array, boxes: jax.Array, image_size: int | Sequence[int]) -> jax.Array:
    r"""Draw the mask of each box into an image of zeros, by bilinear interpolation.

    The middle of pixel i lies at u_i of the grid of m_H elements that fills the box:

    .. math:: u_i = \frac{i + \frac12 - y_1}{y_2 - y_1}\, m_H - \frac12, \qquad
        Y_{ia} = \max(0, 1 - \lvert u_i - a \rvert), \qquad
        \mathrm{out}_{dij} = \sum_{a,b} Y_{dia}\, X_{djb}\, \mathrm{masks}_{dab}

    Args:
        masks: ``(..., D, mH, mW)``, for instance probabilities inside the boxes, floating point.
        boxes: ``(..., D, 4)`` as x1, y1, x2, y2 in pixels, floating point; the leading axes are
            those of `masks`.
        image_size: ``(H, W)`` in pixels, or one int for both.

    Returns:
        ``(..., D, H, W)``, dtype of `masks`; added up in float32 at least. A box without height or
        width gives zeros.

    Raises:
        ValueError: shapes do not fit, or a wrong `image_size`.
        TypeError: `masks` or `boxes` is not floating point.

    Example:
        >>> paste_masks(jnp.ones((1, 2, 2)), jnp.array([[1.0, 0.0, 3.0, 2.0]]), (2, 4))[0]
        Array([[0., 1., 1., 0.],
               [0., 1., 1., 0.]], dtype=float32)

    Note:
        Between the outermost elements and the edge of the box, and half an element beyond, the mask
        falls to zero, as detectron2's `paste_masks_in_image` has it by `grid_sample`. torchvision's
        rounds boxes to whole pixels and resizes a padded mask, up to a pixel beside it. The
        derivative at a kink is 0.

    References:
        He, Gkioxari, Dollar & Girshick, Mask R-CNN, arXiv:1703.06870.
    """
    masks, boxes = jnp.asarray(masks), as_boxes("paste_masks", "boxes", boxes)
    check_floating("paste_masks", "masks", masks)
    if masks.ndim < 3 or boxes.shape[:-1] != masks.shape[:-2] or 0 in masks.shape[-2:]:
        raise ValueError(
            f"paste_masks: shapes do not fit: got masks {masks.shape} and boxes {boxes.shape}, "
            f"need (..., D, mH, mW) and (..., D, 4), and no empty masks; write masks[None] and "
            f"boxes[None] for a single one"
        )
    H, W = per_axis("paste_masks", "image_size", image_size, 2)
    return _paste(masks, boxes, (H, W))


def crop_masks(
    ids: jax.Array,
    which: jax.Array,
    boxes: jax.Array,
    output_size: int | Sequence[int],
    *,
    aligned: bool = True,
) -> jax.Array:
    r"""Cut out the mask of one object for each box, as a target of the box's mask.

    .. math:: \mathrm{out}_r = \mathrm{roi\_align}([\mathrm{ids} = \mathrm{which}_r + 1], b_r)

    with adaptive sampling: about the share of a bin that the object covers.

    Args:
        ids: ``(H, W)``, integers: the object that each pixel belongs to, counted from 1.
        which: ``(R,)``, integers: the object of each box, counted from 0; negative: none.
        boxes: ``(R, 4)`` as x1, y1, x2, y2 in pixels, floating point.
        output_size: bins, ``(P, Q)`` along y and x, or one int for both.
        aligned: as for `roi_align`.

    Returns:
        ``(R, P, Q)`` in [0, 1]; float32, or float64 for boxes of float64.

    Raises:
        ValueError: shapes do not fit, or a wrong `output_size`.
        TypeError: `ids` or `which` are no integers, or `boxes` is not floating point.

    Example:
        >>> ids = jnp.array([[1, 1, 0, 0], [1, 1, 2, 2]])
        >>> crop_masks(ids, jnp.array([1]), jnp.array([[1.0, 0.0, 4.0, 2.0]]), 1)
        Array([[[0.33333334]]], dtype=float32)

    Note:
        With `aligned` False it is torchvision's `project_masks_on_boxes`, whose samples lie half a
        pixel to the lower right of where the pixels are; but differentiable in `boxes`.

    References:
        He, Gkioxari, Dollar & Girshick, Mask R-CNN, arXiv:1703.06870, section 3.1.
    """
    ids, which = jnp.asarray(ids), jnp.asarray(which)
    boxes = as_boxes("crop_masks", "boxes", boxes)
    for what, a in (("ids", ids), ("which", which)):
        if not jnp.issubdtype(a.dtype, jnp.integer):
            raise TypeError(
                f"crop_masks: {what} are no integers: got {a.dtype}, need an integer dtype; write "
                f"{what}.astype(jnp.int32)"
            )
    if ids.ndim != 2 or which.ndim != 1 or boxes.shape != (*which.shape, 4) or 0 in ids.shape:
        raise ValueError(
            f"crop_masks: shapes do not fit: got ids {ids.shape}, which {which.shape} and boxes "
            f"{boxes.shape}, need (H, W), (R,) and (R, 4), and at least one pixel; write "
            f"jax.vmap(crop_masks, (0, 0, 0, None))(ids, which, boxes, {output_size!r}) for a batch"
        )
    P, Q = per_axis("crop_masks", "output_size", output_size, 2)
    return _crop(ids, which, boxes, (P, Q), bool(aligned))


@partial(jax.jit, static_argnums=2)
def _paste(masks, boxes, image_size):
    accum = accum_dtype(masks.dtype)
    H, W = image_size
    Y = _hats(boxes[..., 1], boxes[..., 3], H, masks.shape[-2]).astype(accum)
    X = _hats(boxes[..., 0], boxes[..., 2], W, masks.shape[-1]).astype(accum)
    times = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    out = times(times(Y, masks.astype(accum)), jnp.swapaxes(X, -1, -2))
    return out.astype(masks.dtype)


def _hats(low, high, pixels, elements):
    """Return the weights of the elements of a mask for each pixel, (..., pixels, elements)."""
    empty = high <= low
    side = jnp.where(empty, 1, high - low)[..., None]
    ones = (1,) * low.ndim
    middle = jnp.arange(pixels, dtype=low.dtype).reshape(*ones, -1) + 0.5
    u = (middle - low[..., None]) / side * elements - 0.5
    distance = jnp.abs(u[..., None] - jnp.arange(elements, dtype=low.dtype).reshape(*ones, 1, -1))
    return jnp.where((distance < 1) & ~empty[..., None, None], 1 - distance, 0)


@partial(jax.jit, static_argnums=(3, 4))
def _crop(ids, which, boxes, output_size, aligned):
    ids, which = (a.astype(jnp.int32) for a in (ids, which))
    matrices = tuple(
        adaptive_matrix(span, bins, size)
        for span, bins, size in zip(spans(boxes, 1.0, aligned), output_size, ids.shape, strict=True)
    )

    def of_box(operands):
        which, Y, X = operands
        mask = (ids == which + 1) & (which >= 0)
        times = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
        return times(times(Y, mask.astype(Y.dtype)), X.T)

    return lax.map(of_box, (which, *matrices), batch_size=_TOGETHER)
