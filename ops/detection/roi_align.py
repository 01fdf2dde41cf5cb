"""RoIAlign: the features of regions, read between the elements of a map.

Everything follows from one formula. With bilinear weights Y and X of each region along each axis,
the output is linear in each of Y, X and the map x,

    out[r, p, q, c] = sum_{i,j}  Y[r, p, i]  X[r, q, j]  x[i, j, c]

so its tangent is the sum of the same formula with one of the three replaced by its tangent, and JAX
transposes that. Two forms compute it:

    taps        an output adds up the 4 S^2 elements that its samples read, each gathered
    products    Y and X are matrices, which multiply the map one after the other

The transpose of a gather is a scatter, which on CPU adds up one element after the other. So there
the value is gathered, but the tangent in x is a product: its transpose sums the columns of each
region by multiply-adds, then the rows of all regions of an image in one matrix product.
"""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import accumulate, product
from math import inf, prod
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..common.checks import as_scalar
from ..common.dtypes import accum_dtype, check_floating
from ..common.implementation import uses_xla
from ..common.padding import is_int, per_axis
from .bilinear import Taps, adaptive_matrix, sample_taps, spans, tap_matrix
from .boxes import as_boxes

_UNROLLED = 4  # samples along an axis, up to which taps are written out
_COLUMNS = 16  # bins along x, up to which their sums are written out
# Positions of all maps, up to which the transposed product is quicker than a scatter on CPU
# (benchmarks/detection.py), and up to which accelerators take products.
_MULTIPLIED_ON_CPU = 80 * 80
_MULTIPLIED = 64 * 64


def roi_align(
    x: jax.Array,
    boxes: jax.Array,
    output_size: int | Sequence[int],
    *,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> jax.Array:
    r"""Sample the map under each box by bilinear interpolation, and take means over bins.

    Along y, and along x alike, with o = 1/2 if `aligned`, else 0, and S the samples of a bin:

    .. math:: y_{rpk} = s\, y^r_1 - o
        + \Bigl(p + \frac{k + 1/2}{S}\Bigr) \frac{s\,(y^r_2 - y^r_1)}{P}, \qquad
        Y_{rpi} = \frac1S \sum_{k=0}^{S-1} \varphi(y_{rpk}, i)

    .. math:: \mathrm{out}_{rpqc} = \sum_{i,j} Y_{rpi}\, X_{rqj}\, x_{ijc}

    where :math:`\varphi(y, i) = \max(0, 1 - \lvert \min(\max(y, 0), H - 1) - i \rvert)` for y in
    [-1, H], and 0 beyond.

    Args:
        x: feature map, ``(..., H, W, C)``, floating point.
        boxes: ``(..., R, 4)`` as x1, y1, x2, y2 in pixels of the image, floating point; the leading
            axes are those of `x`.
        output_size: bins of a region, ``(P, Q)`` along y and x, or one int for both.
        spatial_scale: s, elements of the map per pixel of the image: 1 / 16 at stride 16.
        sampling_ratio: S, samples of a bin along each axis; 0: as many as keep them at most one
            element apart, for each region and axis its own number.
        aligned: whether the middle of element i lies at i + 1/2 of the scaled coordinates, as it
            does, rather than at i. If not, sides below one element count as one.

    Returns:
        ``(..., R, P, Q, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, different leading axes, an empty map, or a wrong `output_size`,
            `spatial_scale` or `sampling_ratio`.
        TypeError: `x` or `boxes` is not floating point, or `spatial_scale` is traced.

    Example:
        >>> x = jnp.arange(16.0).reshape(4, 4, 1)
        >>> roi_align(x, jnp.array([[0.0, 0.0, 4.0, 4.0]]), 2)[0, :, :, 0]
        Array([[ 2.5,  4.5],
               [10.5, 12.5]], dtype=float32)

    Note:
        Values and gradients in x are torchvision's, where adaptive sampling is `sampling_ratio=-1`,
        `aligned` is False and `sampling_ratio` adaptive by default. There boxes have no gradient;
        here they have theirs, through the weights, which where a sample lies at a whole number is
        that from the right. Detectors put `lax.stop_gradient` around proposals.

        A box of zeros is as good as any: finite in value and gradient. With adaptive sampling a
        box without height or width gives 0. `x` has to be finite: where products are taken, an
        infinity anywhere is NaN everywhere.

    References:
        He, Gkioxari, Dollar & Girshick, Mask R-CNN, arXiv:1703.06870.
    """
    name = "roi_align"
    (x,), boxes = as_regions(name, [x], boxes)
    how = resolve_bins(name, output_size, [spatial_scale], sampling_ratio, aligned)
    return align_regions((x,), boxes, None, how)


# ------------------------------------------------------------------------------------- checks


class Bins(NamedTuple):
    """How regions are read: hashable, so a static argument."""

    output: tuple[int, int]
    scales: tuple[float, ...]  # of each map
    samples: int  # 0: adaptive
    aligned: bool


def as_regions(name: str, maps: Sequence[jax.Array], boxes: jax.Array):
    """Return maps (..., H, W, C) and boxes (..., R, 4) as arrays; raise unless they fit."""
    maps, boxes = [jnp.asarray(x) for x in maps], as_boxes(name, "boxes", boxes)
    for x in maps:
        check_floating(name, "x", x)
        if x.ndim < 3 or boxes.ndim < 2 or x.shape[:-3] != boxes.shape[:-2]:
            raise ValueError(
                f"{name}: shapes do not fit: got x {x.shape} and boxes {boxes.shape}, need "
                f"(..., H, W, C) and (..., R, 4) with equal leading axes; write boxes[None] for a "
                f"single box, or x[0] for one image of a batch"
            )
        if 0 in x.shape[-3:-1]:
            raise ValueError(
                f"{name}: no elements: got x {x.shape}, need at least one element along each "
                f"spatial axis; feed larger inputs, or pool less before"
            )
    return maps, boxes


def resolve_bins(name, output_size, scales, sampling_ratio, aligned) -> Bins:
    """Check the hyper-parameters of function `name`."""
    output = per_axis(name, "output_size", output_size, 2)
    if not is_int(sampling_ratio) or sampling_ratio < 0:
        raise ValueError(
            f"{name}: bad sampling_ratio: got {sampling_ratio!r}, need an int >= 0, samples "
            f"of a bin along each axis; write sampling_ratio=2, or 0 for as many as a bin needs"
        )
    return Bins(
        (output[0], output[1]),
        tuple(check_scale(name, scale) for scale in scales),
        int(sampling_ratio),
        bool(aligned),
    )


def check_scale(name: str, scale: float) -> float:
    """Return a scale as a float; raise unless it is a positive number, known when compiled."""
    return as_scalar(
        *(name, "spatial_scale", scale, lambda s: 0 < s < inf, "a finite number > 0"),
        *("write spatial_scale=1 / 16 for a map of stride 16",),
        dtype=None,
    )


# --------------------------------------------------------------------------------- both forms


@partial(jax.jit, static_argnums=3)
def align_regions(
    maps: tuple[jax.Array, ...], boxes: jax.Array, level: jax.Array | None, how: Bins
) -> jax.Array:
    """Read each region on one of several maps.

    Args:
        maps: each ``(..., H, W, C)``, of one dtype.
        boxes: ``(..., R, 4)``.
        level: ``(..., R)``, int32, the map of each region; None if there is one.
        how: the bins, and the scales of the maps.

    Returns:
        ``(..., R, P, Q, C)``, dtype of the maps.
    """
    leading, dtype = boxes.shape[:-2], maps[0].dtype
    accum = accum_dtype(dtype)
    N = prod(leading)
    maps = tuple(x.reshape(N, *x.shape[-3:]).astype(accum) for x in maps)
    boxes = boxes.reshape(N, *boxes.shape[-2:])
    level = None if level is None else level.reshape(N, level.shape[-1])
    scale = _own(how.scales, level, boxes.dtype)
    spans_yx = spans(boxes, scale, how.aligned)
    if how.samples:
        sizes = zip(*(x.shape[1:3] for x in maps), strict=True)
        y, x = (
            sample_taps(span, bins, how.samples, _own(size, level, jnp.int32))
            for span, bins, size in zip(spans_yx, how.output, sizes, strict=True)
        )
        y, x = (Taps(taps.low, taps.weights.astype(accum)) for taps in (y, x))
        if how.samples <= _UNROLLED and not uses_xla():
            out = _aligned(maps, y, x, level)
        else:
            out = _multiplied(maps, _matrices(maps, y, x), level)
    else:
        axes = list(zip(spans_yx, how.output, strict=True))
        matrices = [
            [adaptive_matrix(*axis, n).astype(accum) for axis, n in zip(axes, size, strict=True)]
            for size in (m.shape[1:3] for m in maps)
        ]
        out = _multiplied(maps, matrices, level)
    return out.reshape(*leading, *out.shape[1:]).astype(dtype)


def _own(values, level, dtype) -> Any:
    """Return of each region the value of its map, (N, R); the number itself if there is one map."""
    return values[0] if level is None else jnp.asarray(values, dtype)[level]


@jax.custom_jvp
def _aligned(maps, y, x, level):
    return _by_platform(_by_taps, maps, y, x, level)


@partial(_aligned.defjvp, symbolic_zeros=True)
def _aligned_jvp(primals, tangents):
    """Return the sum of the formula with one operand replaced, for each that has a tangent."""
    maps, y, x, level = primals
    dmaps, dy, dx, _ = tangents
    terms: list[Any] = []
    if not all(map(_is_zero, dmaps)):
        pairs = zip(maps, dmaps, strict=True)
        dmaps = tuple(jnp.zeros_like(m) if _is_zero(dm) else dm for m, dm in pairs)
        terms.append((dmaps, y, x))
    if not _is_zero(dy.weights):
        terms.append((maps, Taps(y.low, dy.weights), x))
    if not _is_zero(dx.weights):
        terms.append((maps, y, Taps(x.low, dx.weights)))
    on_cpu = _by_columns if _positions(maps) <= _MULTIPLIED_ON_CPU else _by_taps
    terms = [_by_platform(on_cpu, *term, level=level) for term in terms]
    out = _aligned(maps, y, x, level)
    return out, sum(terms, jnp.zeros_like(out))


def _is_zero(tangent):
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _by_platform(on_cpu, maps, y, x, level):
    default = _by_products if _positions(maps) <= _MULTIPLIED else _by_taps
    return lax.platform_dependent(maps, y, x, level, cpu=on_cpu, default=default)


def _positions(maps):
    return sum(x.shape[1] * x.shape[2] for x in maps)


# --------------------------------------------------------------------------------------- taps


def _by_taps(maps, y, x, level):
    """Gather what each sample reads, from all maps in one table."""
    heights, widths = zip(*(m.shape[1:3] for m in maps), strict=True)
    counts = [h * w for h, w in zip(heights, widths, strict=True)]
    tables = [m.reshape(m.shape[0], n, m.shape[-1]) for m, n in zip(maps, counts, strict=True)]
    table, starts = jnp.concatenate(tables, axis=1), (0, *accumulate(counts))[:-1]
    H, W, start = (_own(a, level, jnp.int32) for a in (heights, widths, starts))
    if level is not None:
        H, W, start = (a[..., None, None] for a in (H, W, start))
    rows = [start + i * W for i in (y.low, jnp.minimum(y.low + 1, H - 1))]
    columns = [x.low, jnp.minimum(x.low + 1, W - 1)]
    rows, columns = (jnp.stack(pair, axis=-1) for pair in (rows, columns))
    return jax.vmap(_gather)(table, rows, y.weights, columns, x.weights)


def _gather(table, rows, y_weights, columns, x_weights):
    """Add up elements of one image: (R, P, S, 2) along y, (R, Q, S, 2) along x."""
    taps = list(product(range(rows.shape[2]), range(2)))
    terms = []
    for (k, a), (l, b) in product(taps, taps):
        index = rows[:, :, None, k, a] + columns[:, None, :, l, b]
        weight = y_weights[:, :, None, k, a] * x_weights[:, None, :, l, b]
        terms.append(weight[..., None] * table.at[index].get(mode="promise_in_bounds"))
    return reduce(add, terms)


# ----------------------------------------------------------------------------------- products


def _by_products(maps, y, x, level):
    return _sum_of_products(maps, _matrices(maps, y, x), level, _multiply)


def _by_columns(maps, y, x, level):
    return _sum_of_products(maps, _matrices(maps, y, x), level, _multiply_columns)


def _matrices(maps, y, x):
    return [[tap_matrix(y, m.shape[1]), tap_matrix(x, m.shape[2])] for m in maps]


def _multiplied(maps, matrices, level):
    if uses_xla():
        return _sum_of_products(maps, matrices, level, _multiply)
    on_cpu = partial(_sum_of_products, multiply=_multiply_columns)
    default = partial(_sum_of_products, multiply=_multiply)
    return lax.platform_dependent(maps, matrices, level, cpu=on_cpu, default=default)


def _sum_of_products(maps, matrices, level, multiply):
    """Add up over the maps: a region has rows of weights on its own alone."""
    products = []
    for n, (x, (Y, X)) in enumerate(zip(maps, matrices, strict=True)):
        if level is not None:
            Y = jnp.where(level[..., None, None] == n, Y, 0.0)
        products.append(multiply(x, Y, X))
    return reduce(add, products)


def _multiply(x, Y, X):
    """Multiply maps (N, H, W, C) by (N, R, P, H), then by (N, R, Q, W)."""
    rows = jnp.einsum("nrph,nhwc->nrpwc", Y, x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("nrqw,nrpwc->nrpqc", X, rows, precision=lax.Precision.HIGHEST)


def _multiply_columns(x, Y, X):
    """Do the same in the order whose transpose is quick on CPU."""
    if X.shape[2] > _COLUMNS:
        return _multiply(x, Y, X)
    if x.shape[0] == 1:  # a product with a batch axis of one is slower than one without
        return _image_columns(x[0], Y[0], X[0])[None]
    return jax.vmap(_image_columns)(x, Y, X)


def _image_columns(x, Y, X):
    (R, P, H), (W, C) = Y.shape, x.shape[1:]
    rows = (Y.reshape(R * P, H) @ x.reshape(H, W * C)).reshape(R, P, W, C)
    columns = (jnp.sum(X[:, q, None, :, None] * rows, axis=2) for q in range(X.shape[1]))
    return jnp.stack(list(columns), axis=2)
