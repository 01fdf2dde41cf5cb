"""RoIPool: the maximum of the map over the bins of each region, whose edges are whole numbers.

Bins differ in size from region to region, and shapes are static. So maxima are taken before, over
all windows whose sides are powers of two, doubling them: the sparse table. A bin is the union of
four of its windows, and its maximum the best of four numbers.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from ..common.dtypes import accum_dtype
from ..common.padding import is_int, per_axis
from .boxes import at_least
from .roi_align import as_regions, check_scale

_FAR = 2**20  # elements; corners further off count as there, so that bins are exact in int32


def roi_pool(
    x: jax.Array,
    boxes: jax.Array,
    output_size: int | Sequence[int],
    *,
    spatial_scale: float = 1.0,
) -> jax.Array:
    r"""Take the maximum of the map over bins of each box, which are rounded to whole elements.

    With corners rounded half away from zero, :math:`a = \mathrm{round}(s\,y_1)`,
    :math:`h = \max(\mathrm{round}(s\,y_2) - a + 1, 1)`, and x alike:

    .. math:: \mathrm{out}_{rpqc} = \max_{i \in R_p,\, j \in R_q} x_{ijc}, \qquad
        R_p = \{ a + \lfloor p\,h / P \rfloor, \ldots, a + \lceil (p + 1)\,h / P \rceil - 1 \}

    Args:
        x: feature map, ``(..., H, W, C)``, floating point.
        boxes: ``(..., R, 4)`` as x1, y1, x2, y2 in pixels of the image, floating point; the leading
            axes are those of `x`.
        output_size: bins of a region, ``(P, Q)`` along y and x, or one int for both.
        spatial_scale: s, elements of the map per pixel of the image: 1 / 16 at stride 16.

    Returns:
        ``(..., R, P, Q, C)``, dtype of `x`. The part of a bin outside the map does not count; a bin
        without any element is 0.

    Raises:
        ValueError: wrong rank, different leading axes, an empty map, or a wrong `output_size` or
            `spatial_scale`.
        TypeError: `x` or `boxes` is not floating point.

    Example:
        >>> x = jnp.arange(16.0).reshape(4, 4, 1)
        >>> roi_pool(x, jnp.array([[0.0, 0.0, 3.0, 3.0]]), 2)[0, :, :, 0]
        Array([[ 5.,  7.],
               [13., 15.]], dtype=float32)

    Note:
        The gradient goes to the first maximum of a bin in row-major order, as in torchvision; boxes
        have none, as they are rounded. A bin with a NaN is NaN, and its gradient goes to the first
        NaN; torchvision passes over NaN. The edges of bins are computed in whole numbers;
        torchvision rounds h / P to float32 first, and so reads one row more for P = 7 and h = 57,
        114 and a few more.

    References:
        Girshick, Fast R-CNN, arXiv:1504.08083, section 2.1.
    """
    (x,), boxes = as_regions("roi_pool", [x], boxes)
    output = per_axis("roi_pool", "output_size", output_size, 2)
    scale = check_scale("roi_pool", spatial_scale)
    out = _pool(x, boxes, (output,), scale)
    return out.reshape(*boxes.shape[:-1], *output, x.shape[-1])


def roi_pyramid_pool(
    x: jax.Array,
    boxes: jax.Array,
    levels: Sequence[int] = (4, 2, 1),
    *,
    spatial_scale: float = 1.0,
) -> jax.Array:
    r"""Take maxima over ever coarser grids of bins of each box: one vector for a box of any size.

    Level l, an int, has l bins along each axis, those of `roi_pool`.

    Args:
        x: feature map, ``(..., H, W, C)``, floating point.
        boxes: ``(..., R, 4)`` as for `roi_pool`.
        levels: bins along each axis, level by level.
        spatial_scale: as for `roi_pool`.

    Returns:
        ``(..., R, C * sum(l * l for l in levels))``, dtype of `x`: the levels in the order given,
        in each its bins in row-major order, in each its channels, as in `spatial_pyramid_pool`.

    Raises:
        ValueError: wrong `levels`, or as for `roi_pool`.
        TypeError: `x` or `boxes` is not floating point.

    Example:
        >>> x = jnp.arange(16.0).reshape(4, 4, 1)
        >>> roi_pyramid_pool(x, jnp.array([[0.0, 0.0, 3.0, 3.0]]), (2, 1))
        Array([[ 5.,  7., 13., 15., 15.]], dtype=float32)

    Note:
        Gradient and NaN as in `roi_pool`. All levels read one sparse table.

    References:
        He, Zhang, Ren & Sun, Spatial pyramid pooling, arXiv:1406.4729, section 4.
    """
    if (
        not isinstance(levels, Sequence)
        or not levels
        or not all(is_int(level) and level >= 1 for level in levels)
    ):
        raise ValueError(
            f"roi_pyramid_pool: bad levels: got {levels!r}, need one or more positive ints, the "
            f"bins along each axis; write levels=(4, 2, 1), for example"
        )
    (x,), boxes = as_regions("roi_pyramid_pool", [x], boxes)
    scale = check_scale("roi_pyramid_pool", spatial_scale)
    out = _pool(x, boxes, tuple((int(level), int(level)) for level in levels), scale)
    return out.reshape(*boxes.shape[:-1], out.shape[-2] * out.shape[-1])


@partial(jax.jit, static_argnums=(2, 3))
def _pool(x, boxes, outputs, scale):
    """Return the maxima of the bins of every grid, (N, R, bins, C)."""
    dtype = x.dtype
    N, H, W = prod(x.shape[:-3]), *x.shape[-3:-1]
    x = x.reshape(N, *x.shape[-3:]).astype(accum_dtype(dtype))
    corners = _rounded(lax.stop_gradient(boxes).reshape(N, *boxes.shape[-2:]) * scale)
    grids = []
    for P, Q in outputs:
        y = _bins(corners[..., 1], corners[..., 3], P, H)
        x_ = _bins(corners[..., 0], corners[..., 2], Q, W)
        shape = (*corners.shape[:-1], P, Q)
        grid = [jnp.broadcast_to(a[..., :, None], shape) for a in y]
        grid += [jnp.broadcast_to(a[..., None, :], shape) for a in x_]
        grids.append(jnp.stack(grid, -1).reshape(*corners.shape[:-1], P * Q, 4))
    windows = jnp.concatenate(grids, axis=-2)
    return jax.vmap(_windowed_max)(x, windows).astype(dtype)


def _rounded(a):
    """Round half away from zero, to int32."""
    a = _clip(jnp.where(jnp.isnan(a), jnp.zeros_like(a), a), -_FAR, _FAR)
    size = jnp.abs(a)
    whole = jnp.floor(size)
    whole = jnp.where(size - whole >= 0.5, whole + 1, whole)  # size + 1/2 may be rounded up
    return jnp.where(a < 0, -whole, whole).astype(jnp.int32)


def _clip(a, low, high):
    """Return `a` within bounds; converters give those of `jnp.clip` another dtype."""
    return jnp.minimum(at_least(a, low), jnp.full_like(a, high))


def _bins(low, high, bins, size):
    """Return where bins begin and end, (..., bins), cut to the map; without, begin = end."""
    extent = jnp.maximum(high - low + 1, 1)[..., None]
    p = jnp.arange(bins, dtype=low.dtype).reshape((1,) * low.ndim + (bins,))
    P = jnp.int32(bins)  # by `lax.div`: `//` takes a remainder, of which converters know no batch
    begin = low[..., None] + lax.div(p * extent, P)
    # Rounded up; of (x + 1) / 2 converters would make a mean, of which whole numbers have none.
    end = low[..., None] + lax.div((p + 1) * extent - 1, P) + 1
    begin, end = _clip(begin, 0, size), _clip(end, 0, size)
    return begin, jnp.maximum(begin, end)


# ------------------------------------------------------------------------------ sparse table


@jax.custom_jvp
def _windowed_max(x, windows):
    """Return the maximum of one map (H, W, C) over windows (..., 4), y and x from and up to."""
    return _best((x,), windows, lambda a, b: (jnp.maximum(a[0], b[0]),))[0]


@_windowed_max.defjvp
def _windowed_max_jvp(primals, tangents):
    """Return the tangent of the argmax, which is linear in the tangents."""
    (x, windows), (dx, _) = primals, tangents
    H, W, C = x.shape
    places = jnp.broadcast_to(jnp.arange(H * W, dtype=jnp.int32).reshape(H, W, 1), x.shape)
    y, argmax = _best((x, places), windows, _first_max)
    dx = dx.reshape(H * W, C)
    dy = jnp.take_along_axis(dx, argmax.reshape(-1, C), axis=0).reshape(y.shape)
    return y, jnp.where(_is_empty(windows), 0, dy)


def _first_max(a, b):
    """Return the larger of two candidates, of equal ones the first; NaN is the largest."""
    (x, i), (y, j) = a, b
    equal = (x == y) | (jnp.isnan(x) & jnp.isnan(y))
    wins = (y > x) | (jnp.isnan(y) & ~jnp.isnan(x)) | (equal & (j < i))
    return jnp.where(wins, y, x), jnp.where(wins, j, i)


def _best(parts, windows, better):
    """Return the best element of each window, of arrays (H, W, C) compared by `better`; or 0."""
    H, W, C = parts[0].shape
    by_rows = _doubled(parts, better, 0)
    tables = [table for rows in by_rows for table in _doubled(rows, better, 1)]
    flat = [jnp.stack(part).reshape(-1, C) for part in zip(*tables, strict=True)]
    top, bottom, left, right = (windows[..., n] for n in range(4))
    a, b = _log2(bottom - top), _log2(right - left)
    bottom, right = bottom - _power(a), right - _power(b)
    tables_of_row = W.bit_length()
    empty = _is_empty(windows)

    def at(y, x):
        index = ((a * tables_of_row + b) * H + y) * W + x
        index = jnp.where(empty[..., 0], 0, index)
        return tuple(part.at[index].get(mode="promise_in_bounds") for part in flat)

    best = better(
        better(at(top, left), at(top, right)), better(at(bottom, left), at(bottom, right))
    )
    return tuple(jnp.where(empty, 0, part) for part in best)


def _doubled(parts, better, axis):
    """Return the best of 1, 2, 4 ... elements from each on, as far as they fit along `axis`."""
    size, tables = parts[0].shape[axis], [parts]
    for n in range(size.bit_length() - 1):
        # The last elements have no partner; nobody reads what they become.
        shifted = tuple(jnp.roll(part, -(1 << n), axis) for part in tables[-1])
        tables.append(better(tables[-1], shifted))
    return tables


def _log2(n):
    """Return floor(log2(n)) of whole numbers, 0 for 0."""
    return 31 - lax.clz(jnp.maximum(n, 1))


def _power(n):
    """Return 2 to the n, of whole numbers; converters shift those without a sign alone."""
    return (jnp.uint32(1) << n.astype(jnp.uint32)).astype(jnp.int32)


def _is_empty(windows):
    top, bottom, left, right = (windows[..., n] for n in range(4))
    return ((bottom <= top) | (right <= left))[..., None]
