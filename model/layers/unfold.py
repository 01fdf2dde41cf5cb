"""Windows as columns of channels, and back: each an op of `convax.ops`."""

from functools import partial

from ... import ops
from ..layer import Layer, Window, stateless, upsampled_window
from .arguments import Padding, check_positive, to_tuple


def unfold(
    window: int | list[int],
    *,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
) -> Layer:
    """Lay the elements of each window into the channels of one place; see `ops.unfold`."""
    options = _options("unfold", window, stride, padding, dilation)
    seen = Window(to_tuple(window), to_tuple(stride), to_tuple(dilation))
    return stateless("unfold", partial(ops.unfold, **options), seen)


def fold(
    size: int | list[int],
    window: int | list[int],
    *,
    stride: int | list[int] = 1,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
) -> Layer:
    """Add columns up to the image whose windows they are; see `ops.fold`."""
    check_positive("fold", size=size)
    options = _options("fold", window, stride, padding, dilation)
    seen = upsampled_window(to_tuple(stride), to_tuple(window), to_tuple(dilation))
    return stateless("fold", partial(ops.fold, size=to_tuple(size), **options), seen)


def _options(name: str, window, stride, padding, dilation) -> dict:
    check_positive(name, window=window, stride=stride, dilation=dilation)
    return {
        "window": to_tuple(window),
        "stride": to_tuple(stride),
        "padding": to_tuple(padding),
        "dilation": to_tuple(dilation),
    }
