"""Images at another size: nearest neighbor and bilinear, equal to PyTorch's `interpolate`."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal

import jax
import numpy as np

from .common.dtypes import accum_dtype
from .common.padding import per_axis
from .common.sparse_linear import Table, linear_map, table
from .pool.windows import as_images

Method = Literal["nearest", "bilinear"]


def resize(
    x: jax.Array,
    size: int | Sequence[int],
    *,
    method: Method = "bilinear",
    align_corners: bool = False,
) -> jax.Array:
    r"""Sample an image, one axis after the other, at as many points as wanted, channels last.

    Along an axis of I elements, output o of O is read at position

    .. math:: s_o = \max\Bigl(\bigl(o + \tfrac12\bigr) \frac{I}{O} - \tfrac12,\, 0\Bigr),
        \qquad \text{or} \quad s_o = o\, \frac{I - 1}{O - 1} \ \text{(align\_corners)}

    and interpolated between its neighbors; "nearest" takes one element instead:

    .. math:: y_o = (1 - f)\, x_i + f\, x_{i+1}, \quad i = \lfloor s_o \rfloor,\ f = s_o - i;
        \qquad y_o = x_{\lfloor o I / O \rfloor} \ \text{(nearest)}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        size: new sizes of the spatial axes, or one int for all.
        method: "bilinear", which is linear along each axis whatever their number, or "nearest".
        align_corners: whether the first and last elements stay where they are, rather than the
            image's edges, which are half an element further out; "bilinear" only.

    Returns:
        ``(N, *size, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, size or method, no elements to read, or aligned corners for
            "nearest".
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
        PyTorch calls it "linear", "bilinear" or "trilinear" by the number of axes. Its "nearest" is
        this one; its "nearest-exact", which takes the element around s_o + 1/2, is not here. It
        rounds I / O to a float before multiplying, so that for a few sizes, such as 26 to 22, one
        of its indices is too low by one; here they are exact.

        Making an image smaller does not average: like PyTorch without `antialias`, and unlike
        `jax.image.resize`, it skips elements. `adaptive_avg_pool` averages.

        The map is linear: the gradient is the transposed map, in which each element collects from
        the outputs that read it, with the same weights. NaN and infinities reach the outputs that
        read them with a weight other than zero, and no others.
    """
    x = as_images("resize", x)
    size = per_axis("resize", "size", size, x.ndim - 2)
    _check_method("resize", method, align_corners)
    return _resize(x, size, method, bool(align_corners))


def upsample(
    x: jax.Array,
    scale: float | Sequence[float],
    *,
    method: Method = "nearest",
    align_corners: bool = False,
) -> jax.Array:
    """Make an image `scale` times larger: `resize` to floor(scale * size), channels last.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        scale: positive number, or one per spatial axis; below 1 it makes the image smaller.
        method: as for `resize`, but "nearest" if left out.
        align_corners: as for `resize`.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, scale or method, nothing left at that scale, or aligned corners for
            "nearest".
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
    _check_method("upsample", method, align_corners)
    return _resize(x, size, method, bool(align_corners))


@partial(jax.jit, static_argnums=(1, 2, 3))
def _resize(x, size, method, align_corners):
    y = x.astype(accum_dtype(x.dtype))
    for at, o in enumerate(size, start=1):
        if y.shape[at] != o:
            y = linear_map(y, interpolation(y.shape[at], o, method, align_corners), at)
    return y.astype(x.dtype)


@lru_cache(maxsize=256)
def interpolation(size: int, output: int, method: Method, align_corners: bool) -> Table:
    """Return the elements that each output reads along one axis, with their weights."""
    if method == "nearest":
        return table(size, ([(o * size // output, 1)] for o in range(output)))
    if align_corners:
        numerators, denominator = [o * (size - 1) for o in range(output)], max(output - 1, 1)
    else:
        numerators = [max((2 * o + 1) * size - output, 0) for o in range(output)]
        denominator = 2 * output
    rows = []
    for numerator in numerators:
        i, rest = divmod(numerator, denominator)
        f = rest / denominator
        rows.append([(i, 1 - f), (min(i + 1, size - 1), f)])
    return table(size, rows)


def _check_method(name, method, align_corners):
    if method not in ("nearest", "bilinear"):
        raise ValueError(
            f"{name}: unknown method: got {method!r}, need 'nearest' or 'bilinear'; write "
            f"method='bilinear' for linear interpolation along any number of axes"
        )
    if align_corners and method == "nearest":
        raise ValueError(
            f"{name}: corners of 'nearest' cannot be aligned: got align_corners=True, need "
            f"method='bilinear' for it; write align_corners=False"
        )
