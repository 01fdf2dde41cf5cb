"""Images at another size: nearest, bilinear, bicubic, equal to PyTorch's `interpolate`."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal, get_args

import jax
import numpy as np

from .common.dtypes import accum_dtype
from .common.padding import per_axis
from .common.sparse_linear import Table, linear_map, table
from .pool.windows import as_images

Method = Literal["nearest", "nearest-exact", "bilinear", "bicubic"]

# Keys's parameter a: of interpolation, as PyTorch and OpenCV have it; of averages, as Pillow has it
# and Keys chose it.
_SHARP, _SMOOTH = -0.75, -0.5


def resize(
    x: jax.Array,
    size: int | Sequence[int],
    *,
    method: Method = "bilinear",
    align_corners: bool = False,
    antialias: bool = False,
) -> jax.Array:
    r"""Sample an image, one axis after the other, at as many points as wanted, channels last.

    Along an axis of I elements, output o of O is read at position

    .. math:: s_o = \bigl(o + \tfrac12\bigr) \frac{I}{O} - \tfrac12,
        \qquad \text{or} \quad s_o = o\, \frac{I - 1}{O - 1} \ \text{(align\_corners)}

    and interpolated between its neighbors; beyond the ends these are the first and last element:

    .. math:: y_o = \sum_j \varphi(s_o - j)\, x_{\min(\max(j, 0), I - 1)}, \qquad
        \varphi(t) = \begin{cases} 1 - |t| & |t| \le 1 \ \text{(bilinear)} \\
        (a + 2) |t|^3 - (a + 3) |t|^2 + 1 & |t| \le 1 \ \text{(bicubic)} \\
        a |t|^3 - 5 a |t|^2 + 8 a |t| - 4 a & 1 < |t| < 2 \ \text{(bicubic)} \end{cases}

    with a = -3/4, and 0 elsewhere. Two methods take one element instead:

    .. math:: y_o = x_{\lfloor o I / O \rfloor} \ \text{(nearest)}, \qquad
        y_o = x_{\lfloor (o + 1/2) I / O \rfloor} \ \text{(nearest-exact)}

    With `antialias`, where an image is made smaller, it is averaged: the filter is as much wider,
    r = max(I / O, 1), its weights are made to add up to 1, and a = -1/2:

    .. math:: y_o = \sum_j w_j x_j \Big/ \sum_j w_j, \qquad
        w_j = \varphi\Bigl(\frac{s_o - j}{r}\Bigr), \quad 0 \le j < I

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        size: new sizes of the spatial axes, or one int for all.
        method: "bilinear", which is linear along each axis whatever their number, "bicubic",
            "nearest" or "nearest-exact".
        align_corners: whether the first and last elements stay where they are, rather than the
            image's edges, which are half an element further out; "bilinear" and "bicubic" only.
        antialias: whether to average; "bilinear" and "bicubic" only, without aligned corners.

    Returns:
        ``(N, *size, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, size or method, no elements to read, or an option that the method
            does not have.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jax.numpy.array([0.0, 4.0]).reshape(1, 2, 1)
        >>> resize(x, 4)[0, :, 0]
        Array([0., 1., 3., 4.], dtype=float32)
        >>> resize(x, 5, align_corners=True)[0, :, 0]
        Array([0., 1., 2., 3., 4.], dtype=float32)
        >>> resize(x, 4, method="nearest")[0, :, 0]
        Array([0., 0., 4., 4.], dtype=float32)

    Note:
        PyTorch calls it "linear", "bilinear" or "trilinear" by the number of axes, and has
        "bicubic" and `antialias` for two of them. For "nearest" it rounds I / O to a float before
        multiplying, so that for a few sizes, such as 26 to 22, one of its indices is too low by
        one; so it is of "nearest-exact", from 4 to 41 for one; here they are exact.

        "nearest" takes the first of the elements that an output covers, as OpenCV does;
        "nearest-exact" the one in the middle, as Pillow and scikit-image do, so that a mask stays
        where it was.

        Without `antialias`, making an image smaller skips elements, unlike `jax.image.resize`.
        With it, PyTorch also takes aligned corners, and then moves the image by half of
        (I - 1) / (O - 1) - 1 elements: refused here. "bicubic" may leave the range of the elements
        that it reads.

        The map is linear: the gradient is the transposed map, in which each element collects from
        the outputs that read it, with the same weights. NaN and infinities reach the outputs that
        read them with a weight other than zero, and no others.

    References:
        Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981.
    """
    x = as_images("resize", x)
    size = per_axis("resize", "size", size, x.ndim - 2)
    _check_method("resize", method, align_corners, antialias)
    return _resize(x, size, method, bool(align_corners), bool(antialias))


def upsample(
    x: jax.Array,
    scale: float | Sequence[float],
    *,
    method: Method = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
) -> jax.Array:
    """Make an image `scale` times larger: `resize` to floor(scale * size), channels last.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        scale: positive number, or one per spatial axis; below 1 it makes the image smaller.
        method: as for `resize`, but "nearest" if left out.
        align_corners, antialias: as for `resize`.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, scale or method, nothing left at that scale, or an option that the
            method does not have.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jax.numpy.array([1.0, 2.0]).reshape(1, 2, 1)
        >>> upsample(x, 2)[0, :, 0]
        Array([1., 1., 2., 2.], dtype=float32)

    Note:
        Where scale * size is not whole, the positions are those of the size that results, as in
        PyTorch with `recompute_scale_factor=True`. By default PyTorch keeps to the scale as it was
        given, so that the image's last part may be left out.
    """
    x = as_images("upsample", x)
    old = x.shape[1:-1]
    scales = tuple(scale) if isinstance(scale, Sequence) else (scale,) * len(old)
    numbers = all(isinstance(s, int | float | np.number) for s in scales)
    if len(scales) != len(old) or not numbers or not all(0 < s < float("inf") for s in scales):
        raise ValueError(
            f"upsample: bad scale: got {scale!r}, need a positive number, or {len(old)} of them, "
            f"one per spatial axis; write scale=2"
        )
    size = tuple(int(s * i) for s, i in zip(scales, old, strict=True))
    if 0 in size:
        raise ValueError(
            f"upsample: nothing is left: got scale {scale!r} of spatial shape {old}, need "
            f"scale * size >= 1 along each axis; write resize(x, {tuple(max(o, 1) for o in size)})"
        )
    _check_method("upsample", method, align_corners, antialias)
    return _resize(x, size, method, bool(align_corners), bool(antialias))


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _resize(x, size, method, align_corners, antialias):
    y = x.astype(accum_dtype(x.dtype))
    for at, o in enumerate(size, start=1):
        if y.shape[at] != o:
            read = interpolation(y.shape[at], o, method, align_corners, antialias)
            y = linear_map(y, read, at)
    return y.astype(x.dtype)


@lru_cache(maxsize=256)
def interpolation(
    size: int, output: int, method: Method, align_corners: bool, antialias: bool
) -> Table:
    """Return the elements that each output reads along one axis, with their weights."""
    if method == "nearest":
        return table(size, ([(o * size // output, 1)] for o in range(output)))
    if method == "nearest-exact":
        return table(size, ([((2 * o + 1) * size // (2 * output), 1)] for o in range(output)))
    if antialias:
        return table(size, (_averaged(size, output, method, o) for o in range(output)))
    if align_corners:
        numerators, denominator = [o * (size - 1) for o in range(output)], max(output - 1, 1)
    else:
        numerators, denominator = [(2 * o + 1) * size - output for o in range(output)], 2 * output
    rows = []
    for numerator in numerators:
        if method == "bilinear":
            numerator = max(numerator, 0)
        i, rest = divmod(numerator, denominator)
        f = rest / denominator
        if method == "bilinear":
            rows.append([(i, 1 - f), (min(i + 1, size - 1), f)])
        else:
            taps = range(-1, 3)
            rows.append([(min(max(i + t, 0), size - 1), _cubic(abs(f - t), _SHARP)) for t in taps])
    return table(size, rows)


def _averaged(size, output, method, o):
    """Return what output o reads of an axis, with the weights of a filter as wide as a step."""
    reach = 1 if method == "bilinear" else 2
    unit = 2 * max(size, output)  # of distances, in which all are whole
    middle, radius = (2 * o + 1) * size, reach * unit
    first, last = (middle - radius) // (2 * output), (middle + radius) // (2 * output)
    weights = {}
    for j in range(max(first, 0), min(last + 1, size)):
        distance = abs((2 * j + 1) * output - middle)
        if distance < radius:
            t = distance / unit
            weights[j] = 1 - t if method == "bilinear" else _cubic(t, _SMOOTH)
    total = sum(weights.values())
    return [(j, w / total) for j, w in weights.items()]


def _cubic(t, a):
    """Return the weight at a distance of t, from 0 to 2."""
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a


def _check_method(name, method, align_corners, antialias):
    if method not in get_args(Method):
        raise ValueError(
            f"{name}: unknown method: got {method!r}, need one of {get_args(Method)}; write "
            f"method='bilinear' for linear interpolation along any number of axes"
        )
    if align_corners and method.startswith("nearest"):
        raise ValueError(
            f"{name}: corners of {method!r} cannot be aligned: got align_corners=True, need "
            f"method='bilinear' or 'bicubic' for it; write align_corners=False"
        )
    if antialias and (align_corners or method.startswith("nearest")):
        of = "aligned corners" if align_corners else f"method={method!r}"
        raise ValueError(
            f"{name}: no averages with {of}: got antialias=True, need method='bilinear' or "
            f"'bicubic' and align_corners=False for it; write antialias=False"
        )
