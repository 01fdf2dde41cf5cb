"""Regions on a pyramid of maps: each is read on the level that fits its size."""

from collections.abc import Sequence
from math import inf, log

import jax
import jax.numpy as jnp

from ..common.checks import check_scalar
from ..common.padding import is_int
from .boxes import as_boxes, box_area
from .roi_align import align_regions, as_regions, resolve_bins


def roi_levels(
    boxes: jax.Array,
    *,
    k_min: int = 2,
    k_max: int = 5,
    canonical_scale: float = 224,
    canonical_level: int = 4,
) -> jax.Array:
    r"""Choose the level of a feature pyramid for each box, by its size.

    .. math:: k = \operatorname{clip}\Bigl(\Bigl\lfloor k_0 + \log_2 \frac{\sqrt{\text{area}}}{s_0}
        + 10^{-6} \Bigr\rfloor,\; k_{\min},\; k_{\max}\Bigr)

    Args:
        boxes: ``(..., R, 4)`` as x1, y1, x2, y2 in pixels of the image, floating point.
        k_min: the finest level that there is; level k has stride 2^k.
        k_max: the coarsest level.
        canonical_scale: s0, the side in pixels of a box that belongs to level `canonical_level`.
        canonical_level: k0.

    Returns:
        ``(..., R)``, int32: k - k_min, the position of the level in a sequence of maps from the
        finest to the coarsest. Boxes without area get 0. No gradient.

    Raises:
        ValueError: `k_max` is below `k_min`, a level is no int, `canonical_scale` is not positive,
            or the last axis of `boxes` is not of size 4.
        TypeError: `boxes` is not floating point.

    Example:
        >>> sides = jnp.array([[30.0], [112.0], [224.0], [900.0]])
        >>> roi_levels(jnp.concatenate([0 * sides, 0 * sides, sides, sides], axis=1))
        Array([0, 1, 2, 3], dtype=int32)

    Note:
        torchvision's `LevelMapper`, with its 1e-6 for sizes that are canonical exactly.

    References:
        Lin et al., Feature pyramid networks, arXiv:1612.03144, equation 1.
    """
    for what, level in (("k_min", k_min), ("k_max", k_max), ("canonical_level", canonical_level)):
        if not is_int(level):
            raise ValueError(
                f"roi_levels: bad {what}: got {level!r}, need an int; write {what}=4, for example"
            )
    if k_max < k_min:
        raise ValueError(
            f"roi_levels: no levels: got k_min={k_min} and k_max={k_max}, need k_min <= k_max; "
            f"write k_min=2, k_max=5 for strides of 4 to 32"
        )
    check_scalar(
        *("roi_levels", "canonical_scale", canonical_scale, lambda s: 0 < s < inf),
        *("a finite number > 0, pixels", "write canonical_scale=224"),
    )
    boxes = as_boxes("roi_levels", "boxes", boxes)
    side = jnp.sqrt(jnp.maximum(box_area(jax.lax.stop_gradient(boxes)), 1e-12))
    # Of the natural logarithm: converters do not know log2.
    octaves = jnp.log(side / canonical_scale) / log(2)
    k = jnp.floor(canonical_level + octaves + 1e-6)
    return (jnp.clip(k, k_min, k_max) - k_min).astype(jnp.int32)


def multilevel_roi_align(
    maps: Sequence[jax.Array],
    boxes: jax.Array,
    levels: jax.Array,
    output_size: int | Sequence[int],
    *,
    spatial_scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> jax.Array:
    r"""Read each region by `roi_align` on its own level of a pyramid.

    .. math:: \mathrm{out}_r = \mathrm{roi\_align}(x^{(l_r)}, b_r; s_{l_r})

    Args:
        maps: feature maps, level l ``(..., H_l, W_l, C)``, floating point of one dtype.
        boxes: ``(..., R, 4)`` as x1, y1, x2, y2 in pixels of the image, floating point.
        levels: ``(..., R)``, integers: the position in `maps` of each region's level, as
            `roi_levels` gives it.
        output_size: bins of a region, ``(P, Q)`` along y and x, or one int for both.
        spatial_scales: of each map, as for `roi_align`: elements per pixel.
        sampling_ratio: as for `roi_align`.
        aligned: as for `roi_align`.

    Returns:
        ``(..., R, P, Q, C)``, dtype of the maps; added up in float32 at least.

    Raises:
        ValueError: no maps, maps that differ in more than H and W, as many scales as maps are
            needed, `levels` do not fit `boxes`, or as for `roi_align`.
        TypeError: `levels` are no integers, dtypes of maps differ, or as for `roi_align`.

    Example:
        >>> fine, coarse = jnp.zeros((8, 8, 1)), jnp.ones((4, 4, 1))
        >>> boxes = jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 16.0, 16.0]])
        >>> how = dict(output_size=1, spatial_scales=(1 / 2, 1 / 4))
        >>> multilevel_roi_align([fine, coarse], boxes, jnp.array([0, 1]), **how)[:, 0, 0, 0]
        Array([0., 1.], dtype=float32)

    Note:
        The value of a region is computed on its own level alone, from one table of all maps. A
        level that is not in `maps` counts as the nearest that is.

    References:
        Lin et al., Feature pyramid networks, arXiv:1612.03144, section 4.2.
    """
    name = "multilevel_roi_align"
    if not isinstance(maps, Sequence) or not maps:
        raise ValueError(
            f"{name}: no maps: got {type(maps).__name__}, need a sequence of arrays (..., H, W, C)"
            f"; write [x] for one"
        )
    maps, boxes = as_regions(name, maps, boxes)
    first, levels = maps[0], jnp.asarray(levels)
    for x in maps:
        if x.dtype != first.dtype:
            raise TypeError(
                f"{name}: dtypes of maps differ: got {first.dtype} and {x.dtype}, need one; write "
                f"x.astype({first.dtype})"
            )
        if x.shape[-1] != first.shape[-1]:
            raise ValueError(
                f"{name}: channels of maps differ: got {first.shape[-1]} and {x.shape[-1]}, need "
                f"one number; bring them to it by a 1x1 convolution before"
            )
    if len(spatial_scales) != len(maps):
        raise ValueError(
            f"{name}: scales do not fit the maps: got {len(spatial_scales)} scales of {len(maps)} "
            f"maps, need one for each; write spatial_scales=[1 / stride for stride in strides]"
        )
    if not jnp.issubdtype(levels.dtype, jnp.integer):
        raise TypeError(
            f"{name}: levels are no integers: got {levels.dtype}, need an integer dtype; write "
            f"roi_levels(boxes)"
        )
    if levels.shape != boxes.shape[:-1]:
        raise ValueError(
            f"{name}: levels do not fit the boxes: got levels {levels.shape} and boxes "
            f"{boxes.shape}, need one level for each box; write roi_levels(boxes)"
        )
    how = resolve_bins(name, output_size, spatial_scales, sampling_ratio, aligned)
    levels = jnp.clip(levels, 0, len(maps) - 1).astype(jnp.int32)
    return align_regions(tuple(maps), boxes, levels, how)
