"""The pools, each an op of `convax.ops`."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from jax import Array

from ... import ops
from ..layer import (
    GLOBAL,
    Layer,
    Window,
    stateless,
    stochastic,
)
from .arguments import Padding, check_positive, to_tuple

_MOST_BINS = 1024


def max_pool(
    window: int | list[int],
    *,
    stride: int | list[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | list[int] = 1,
    ceil_mode: bool = False,
) -> Layer:
    """Take the maximum over windows; see `ops.max_pool`."""
    check_positive("max_pool", dilation=dilation)
    taps = to_tuple(dilation)
    pool = partial(ops.max_pool, dilation=taps, ceil_mode=ceil_mode)
    return _pool("max_pool", pool, window, stride, padding, dilation=taps)


def avg_pool(
    window: int | list[int],
    *,
    stride: int | list[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> Layer:
    """Take the average over windows; see `ops.avg_pool`."""
    pool = partial(ops.avg_pool, count_include_pad=count_include_pad, ceil_mode=ceil_mode)
    return _pool("avg_pool", pool, window, stride, padding)


def lp_pool(
    window: int | list[int],
    *,
    p: float | Literal["inf"] = 2.0,
    stride: int | list[int] | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
) -> Layer:
    """Take the p-norm of windows, "inf" for the largest; see `ops.lp_pool`."""
    pool = partial(ops.lp_pool, p=float(p), ceil_mode=ceil_mode)
    return _pool("lp_pool", pool, window, stride, padding)


def mixed_pool(
    window: int | list[int], *, stride: int | list[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """Take maximum or mean, as a coin falls; training needs a key; see `ops.mixed_pool`."""
    return _pool("mixed_pool", ops.mixed_pool, window, stride, padding, stochastic)


def stochastic_pool(
    window: int | list[int], *, stride: int | list[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """Draw an element of each window; training needs a key; see `ops.stochastic_pool`."""
    return _pool("stochastic_pool", ops.stochastic_pool, window, stride, padding, stochastic)


def global_max_pool(*, keepdims: bool = False) -> Layer:
    """Take the maximum, ``(N, *spatial, C) -> (N, C)``; see `ops.global_max_pool`."""
    return stateless("global_max_pool", partial(ops.global_max_pool, keepdims=keepdims), GLOBAL)


def global_avg_pool(*, keepdims: bool = False) -> Layer:
    """Take the mean, ``(N, *spatial, C) -> (N, C)``; see `ops.global_avg_pool`."""
    return stateless("global_avg_pool", partial(ops.global_avg_pool, keepdims=keepdims), GLOBAL)


def adaptive_max_pool(output_size: int | list[int]) -> Layer:
    """Take the maximum over as many bins as wanted; see `ops.adaptive_max_pool`."""
    return _adaptive_pool("adaptive_max_pool", ops.adaptive_max_pool, output_size)


def adaptive_avg_pool(output_size: int | list[int]) -> Layer:
    """Take the mean over as many bins as wanted; see `ops.adaptive_avg_pool`."""
    return _adaptive_pool("adaptive_avg_pool", ops.adaptive_avg_pool, output_size)


def spatial_pyramid_pool(levels: list[int] | None = None) -> Layer:
    """Make one vector of images of any size; see `ops.spatial_pyramid_pool`.

    Args:
        levels: bins along each axis, level by level; 4, 2 and 1 if left out.
    """
    levels = [4, 2, 1] if levels is None else levels
    check_positive("spatial_pyramid_pool", levels=levels)
    _check_bins("spatial_pyramid_pool", "levels", levels)
    function = partial(ops.spatial_pyramid_pool, levels=tuple(levels))
    pool = stateless("spatial_pyramid_pool", function, GLOBAL)
    return pool._replace(info=pool.info._replace(pyramid_levels=tuple(levels)))


def _pool(
    kind: str, op: Callable[..., Array], window, stride, padding, make=stateless, dilation=1
) -> Layer:
    stride = window if stride is None else stride
    check_positive(kind, window=window, stride=stride)
    window, stride = to_tuple(window), to_tuple(stride)
    pool = partial(op, window=window, stride=stride, padding=to_tuple(padding))
    return make(kind, pool, Window(window, stride, dilation))


def _adaptive_pool(kind: str, op: Callable[..., Array], output_size) -> Layer:
    check_positive(kind, output_size=output_size)
    _check_bins(kind, "output_size", output_size)
    return stateless(kind, partial(op, output_size=to_tuple(output_size)), GLOBAL)


def _check_bins(kind: str, name: str, bins: int | list[int]) -> None:
    """Raise ValueError for more bins than a program can have: each is a piece of it."""
    if max([bins] if isinstance(bins, int) else bins) > _MOST_BINS:
        raise ValueError(
            f"{kind}: bad {name}: got {bins}, need {_MOST_BINS} bins along an axis at most"
        )
