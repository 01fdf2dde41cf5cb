"""Make of a region what its head is given: the one thing in which R-CNN and its heirs differ.

Functions are from maps by name, ``(N, h, w, C)``, and boxes ``(N, R, 4)`` in pixels of images of a
size ``(H, W)``, to ``(N, R, ...)``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from ... import ops
from .options import RoIOptions

Maps = Mapping[str, Array]
Size = tuple[int, int]


def align_regions(
    maps: Maps, boxes: Array, image_size: Size, output_size: int, roi: RoIOptions
) -> Array:
    """Read regions by RoIAlign, each from the map of its size; none from the subsampled one.

    He et al., Mask R-CNN, arXiv:1703.06870, section 3.
    """
    read = list(maps.values())[:-1] if len(maps) > 1 else list(maps.values())
    options: Any = dict(sampling_ratio=roi.sampling_ratio, aligned=roi.aligned)
    scales = [_scale(level, image_size) for level in read]
    if len(read) == 1:
        return ops.roi_align(read[0], boxes, output_size, spatial_scale=scales[0], **options)
    finest, coarsest = (round(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    levels = ops.roi_levels(boxes, k_min=finest, k_max=coarsest)
    return ops.multilevel_roi_align(
        read, boxes, levels, output_size, spatial_scales=scales, **options
    )


def pool_regions(maps: Maps, boxes: Array, image_size: Size, output_size: int) -> Array:
    """Take the maxima of the one map over the bins of a region.

    Girshick, Fast R-CNN, arXiv:1504.08083, section 2.1.
    """
    (level,) = maps.values()
    return ops.roi_pool(level, boxes, output_size, spatial_scale=_scale(level, image_size))


def pool_pyramid(maps: Maps, boxes: Array, image_size: Size, levels: Sequence[int]) -> Array:
    """Take the maxima of the one map over a pyramid of bins of a region, one behind the other.

    He et al., Spatial Pyramid Pooling, arXiv:1406.4729, section 4.
    """
    (level,) = maps.values()
    found = ops.roi_pyramid_pool(level, boxes, levels, spatial_scale=_scale(level, image_size))
    return found.reshape(*found.shape[:-1], -1, level.shape[-1])


def warp_regions(maps: Maps, boxes: Array, image_size: Size, size: int, context: int) -> Array:
    """Cut regions out of the image and stretch each to a square of `size` pixels.

    `context` pixels of them, along each edge, are of what is around the region; beyond the image
    there are zeros, which is the mean of normalized images. Girshick et al., Rich feature
    hierarchies, arXiv:1311.2524, appendix A.
    """
    del image_size
    (image,) = maps.values()
    corners, opposite = boxes[..., :2], boxes[..., 2:]
    more = (opposite - corners) * (context / (size - 2 * context))
    whole = jnp.concatenate([corners - more, opposite + more], axis=-1)
    return ops.roi_align(image, whole, size, sampling_ratio=1)


def _scale(level: Array, image_size: Size) -> float:
    """Return a map's pixels for one of the image: a power of two."""
    return 2.0 ** round(math.log2(level.shape[1] / image_size[0]))
