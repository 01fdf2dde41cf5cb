"""Layers that change an image's size without a window, and shuffles: each an op of `convax.ops`."""

from functools import partial

from ... import ops
from ...ops.pad import PaddingMode
from ...ops.resize import Method
from ..layer import POINTWISE, Layer, Window, infer_shape, stateless, upsampled_window
from .arguments import check_positive, to_tuple

_NEIGHBORS = {"bilinear": 2, "bicubic": 4}


def upsample(
    scale: int | float | list[int | float],
    *,
    method: Method = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
) -> Layer:
    """Make images `scale` times larger along each axis, or smaller; see `ops.upsample`.

    What it sees depends on the image's size where a scale is no whole number: a summary says
    nothing of it then.
    """
    scales = scale if isinstance(scale, list) else [scale]
    if not scales or not all(0 < s < 2**31 for s in scales):
        raise ValueError(
            f"upsample: bad scale: got {scale}, need a positive number below 2**31, or a list of "
            "them, one for each spatial axis"
        )
    upsampled = partial(
        ops.upsample, method=method, align_corners=align_corners, antialias=antialias
    )
    infer_shape(partial(upsampled, scale=1), (1, *(1,) * len(scales), 1))  # the other options
    function = partial(upsampled, scale=to_tuple(scale))
    if any(s % 1 for s in scales):
        return stateless("upsample", function, None)
    whole = tuple(map(int, scales)) if isinstance(scale, list) else int(scale)
    seen = upsampled_window(whole, 1)
    if seen is not None and method in _NEIGHBORS:
        seen = seen._replace(size=_NEIGHBORS[method])
    return stateless("upsample", function, seen)


def pad(padding: int | list[int] | list[list[int]], *, mode: PaddingMode = "zeros") -> Layer:
    """Pad images; see `ops.pad`."""
    return stateless("pad", lambda x: ops.pad(x, to_tuple(padding), mode=mode), POINTWISE)


def pixel_shuffle(factor: int) -> Layer:
    """Spread channels over blocks of pixels; see `ops.pixel_shuffle`."""
    check_positive("pixel_shuffle", factor=factor)
    function = partial(ops.pixel_shuffle, factor=factor)
    return stateless("pixel_shuffle", function, upsampled_window(factor, 1))


def pixel_unshuffle(factor: int) -> Layer:
    """Gather blocks of pixels into channels; see `ops.pixel_unshuffle`."""
    check_positive("pixel_unshuffle", factor=factor)
    function = partial(ops.pixel_unshuffle, factor=factor)
    return stateless("pixel_unshuffle", function, Window(factor, factor))


def channel_shuffle(groups: int) -> Layer:
    """Deal the channels of each group to all groups; see `ops.channel_shuffle`."""
    check_positive("channel_shuffle", groups=groups)
    return stateless("channel_shuffle", partial(ops.channel_shuffle, groups=groups), POINTWISE)
