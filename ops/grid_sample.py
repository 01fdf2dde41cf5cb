"""Images read at places that are data: grids of coordinates, and those of an affine map."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .common.dtypes import accum_dtype, check_floating
from .common.padding import per_axis
from .pool.windows import as_images

Method = Literal["bilinear", "nearest"]
PaddingMode = Literal["zeros", "border", "reflection"]


def grid_sample(
    x: jax.Array,
    grid: jax.Array,
    *,
    method: Method = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool = False,
) -> jax.Array:
    r"""Sample each image at the places of its grid, channels last.

    Coordinate g of an axis of I elements, from -1 to 1, is the position

    .. math:: s = \frac{(g + 1) I - 1}{2}, \qquad \text{or} \quad
        s = \frac{(g + 1)(I - 1)}{2} \ \text{(align\_corners)}

    so that -1 and 1 are the image's edges, or the middles of its first and last element. Along all
    axes, with j over the elements,

    .. math:: y_{n,i,c} = \sum_j x_{n,j,c} \prod_{\text{axes}} \max(1 - |s_{n,i} - j|,\, 0)
        \ \text{(bilinear)}, \qquad y_{n,i,c} = x_{n,\,\mathrm{round}(s_{n,i}),\,c}
        \ \text{(nearest)}

    Beyond the image x is 0 ("zeros"), or s is held at the first and last element ("border"), or
    reflected, as often as needed, at -1/2 and I - 1/2, with aligned corners at 0 and I - 1
    ("reflection").

    Args:
        x: input, ``(N, *spatial, C)`` with d spatial axes, one to three, floating point.
        grid: coordinates, ``(N, *spatial_out, d)`` with d axes of any size, floating point. The
            last axis of the image comes first: (x,), (x, y) or (x, y, z), as in PyTorch.
        method: "bilinear", which is linear along each axis whatever their number, or "nearest",
            which rounds halves to the even number.
        padding_mode: what is beyond the image.
        align_corners: which points of the image -1 and 1 are.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`; computed in float32 at least.

    Raises:
        ValueError: wrong rank, method or padding mode, or a grid of another shape.
        TypeError: `x` or `grid` is not floating point.

    Example:
        >>> x = jnp.array([0.0, 10.0, 20.0, 30.0]).reshape(1, 4, 1)
        >>> grid = jnp.array([-1.0, 0.0, 0.5, 1.0]).reshape(1, 4, 1)
        >>> grid_sample(x, grid, align_corners=True).ravel()
        Array([ 0. , 15. , 22.5, 30. ], dtype=float32)
        >>> grid_sample(x, grid).ravel()
        Array([ 0., 15., 25., 15.], dtype=float32)

    Note:
        Gradients reach the image and, but for "nearest", the grid: between two elements along an
        axis it is the difference of what is read there. At whole positions, where it jumps, it is
        that from the right, and where "border" or "reflection" holds a position, 0, as in PyTorch.

        A coordinate that is NaN gives NaN, and so does an infinite one in "reflection".

    References:
        Jaderberg et al., Spatial transformer networks, arXiv:1506.02025.
    """
    x, grid = as_images("grid_sample", x), jnp.asarray(grid)
    check_floating("grid_sample", "grid", grid)
    _check_choice("grid_sample", "method", method, get_args(Method))
    _check_choice("grid_sample", "padding mode", padding_mode, get_args(PaddingMode))
    axes = x.ndim - 2
    if grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != axes:
        raise ValueError(
            f"grid_sample: shapes do not match: got x {x.shape} and grid {grid.shape}, need a grid "
            f"({x.shape[0]}, *spatial_out, {axes}) with {axes} spatial axes; write one place, "
            f"{('x', 'y', 'z')[:axes]}, for each output of each image"
        )
    return _grid_sample(x, grid, method, padding_mode, bool(align_corners))


def affine_grid(
    theta: jax.Array, size: int | Sequence[int], *, align_corners: bool = False
) -> jax.Array:
    r"""Return the grid of an affine map of places, for `grid_sample`.

    .. math:: g_{n,i} = A_n\, p_i + b_n, \qquad \theta_n = (A_n \mid b_n)

    with p the coordinates of the output's elements, -1 to 1 from edge to edge of the output, or
    from the first to the last element (align_corners). So the map leads from places in the output
    to those in the input that are read there.

    Args:
        theta: maps, ``(N, d, d + 1)`` for d spatial axes, one to three, floating point; rows and
            columns in the order of a grid's coordinates, (x, y, z).
        size: of the output's spatial axes, or one int for all.
        align_corners: as for the `grid_sample` that reads the grid.

    Returns:
        ``(N, *size, d)``, dtype of `theta`; computed in float32 at least.

    Raises:
        ValueError: wrong shape of `theta`, or size.
        TypeError: `theta` is not floating point.

    Example:
        >>> affine_grid(jnp.array([[[0.5, 0.25]]]), 3, align_corners=True).ravel()
        Array([-0.25,  0.25,  0.75], dtype=float32)

    Note:
        PyTorch's `size` is the shape of the output, (N, C, H, W); here it is (H, W).

    References:
        Jaderberg et al., arXiv:1506.02025.
    """
    theta = jnp.asarray(theta)
    check_floating("affine_grid", "theta", theta)
    d = theta.shape[-2] if theta.ndim == 3 else 0
    if d not in (1, 2, 3) or theta.shape[-1] != d + 1:
        raise ValueError(
            f"affine_grid: wrong shape: got theta {theta.shape}, need (N, d, d + 1) for d spatial "
            f"axes, one to three; write theta[None] if the batch axis is missing"
        )
    return _affine_grid(theta, per_axis("affine_grid", "size", size, d), bool(align_corners))


@partial(jax.jit, static_argnums=(1, 2))
def _affine_grid(theta, size, align_corners):
    N, d, _ = theta.shape
    t = theta.astype(accum_dtype(theta.dtype)).reshape(N, *(1,) * d, d, d + 1)
    grid = jnp.broadcast_to(t[..., d], (N, *size, d))
    for k, n in enumerate(size):
        end = (1 - 1 / n) if not align_corners or n == 1 else 1  # of one element the middle
        p = np.linspace(-end, end, n).reshape([n if at == 1 + k else 1 for at in range(d + 2)])
        grid = grid + t[..., d - 1 - k] * jnp.asarray(p, t.dtype)
    return grid.astype(theta.dtype)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _grid_sample(x, grid, method, padding_mode, align_corners):
    N, *size, C = x.shape
    dtype = max(accum_dtype(x.dtype), accum_dtype(grid.dtype), key=lambda d: d.itemsize)
    elements = x.reshape(N, prod(size), C).astype(dtype)
    axes = []
    for k, n in enumerate(size):
        s = grid[..., -1 - k].reshape(N, prod(grid.shape[1:-1])).astype(dtype)
        s = (s + 1) * (n - 1) / 2 if align_corners else ((s + 1) * n - 1) / 2
        axes.append(_taps(_inside(s, n, padding_mode, align_corners), n, method))
    y = jnp.zeros((), dtype)
    for taps in product(*axes):
        number, weight, counts = taps[0]
        for n, (i, w, inside) in zip(size[1:], taps[1:], strict=True):
            number, weight, counts = number * n + i, weight * w, counts & inside
        read = jax.vmap(lambda a, i: jnp.take(a, i, axis=0, mode="clip"))(elements, number)
        read = jnp.where(counts[..., None], read, 0)  # whatever it is: 0 times infinity is NaN
        y = y + weight[..., None] * read
    return y.reshape(N, *grid.shape[1:-1], C).astype(x.dtype)


def _inside(s, n, padding_mode, align_corners):
    """Return positions inside an axis of n elements, but for zeros, which may lie beyond."""
    if padding_mode == "zeros":
        return s
    if padding_mode == "reflection":
        low, span = (0.0, n - 1) if align_corners else (-0.5, n)
        if span == 0:
            return jnp.zeros_like(s)
        distance = jnp.where(s < low, low - s, s - low)
        times = lax.stop_gradient(jnp.floor(distance / span))
        rest = distance - times * span
        s = jnp.where(times % 2 == 0, rest, span - rest) + low
    s = jnp.where(s <= 0, 0.0, s)  # which have no slope, but NaN is left
    return jnp.where(s >= n - 1, float(n - 1), s)


def _taps(s, n, method):
    """Return (element, weight, whether it is one) of what is read at positions along an axis."""
    if method == "nearest":
        nearest = jnp.round(s)
        weights = [(nearest, jnp.where(jnp.isnan(s), s, 1.0))]
    else:
        low = jnp.floor(s)
        f = s - lax.stop_gradient(low)
        weights = [(low, 1 - f), (low + 1, f)]
    taps = []
    for i, weight in weights:
        inside = ~((i < 0) | (i > n - 1))  # true of NaN
        number = jnp.clip(i, 0, n - 1).astype(np.int32)
        taps.append((number, jnp.where(inside, weight, 0), inside))
    return taps


def _check_choice(name, what, value, choices):
    if value not in choices:
        raise ValueError(
            f"{name}: unknown {what}: got {value!r}, need one of {choices}; write {choices[0]!r} "
            f"for the usual one"
        )
