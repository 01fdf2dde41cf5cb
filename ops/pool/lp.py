"""Pooling by the p-norm of each window, between the sum of absolute values and their maximum."""

from collections.abc import Sequence
from functools import partial, reduce
from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from ..common.checks import as_scalar
from ..common.dtypes import accum_dtype
from ..common.padding import Padding
from .pool import windowed_max
from .windows import extract_windows, resolve_pool, window_slices


def lp_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    p: float = 2.0,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
) -> jax.Array:
    r"""Compute the p-norm of each window, channels last.

    .. math:: y_{n,i,j,c} = \Bigl(\sum_{u,v} |x_{n,\,si+u-p,\,sj+v-p,\,c}|^p\Bigr)^{1/p}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window: taps per spatial axis, or one int for all.
        p: the norm, at least 1: 1 adds absolute values up, `math.inf` takes their maximum.
        stride: step per spatial axis, or one int for all; the window's size if left out.
        padding: as for `conv`, each side smaller than the window; it adds nothing to the norm.
        ceil_mode: as for `max_pool`.

    Returns:
        ``(N, *spatial_out, C)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: wrong rank, window, p, stride or padding, or no whole window fits.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([3.0, -4.0, 0.0, 5.0]).reshape(1, 4, 1)
        >>> lp_pool(x, 2)[0, :, 0]
        Array([5., 5.], dtype=float32)

    Note:
        PyTorch's `lp_pool2d` adds x^p up, without the absolute value, and clips a negative sum to
        zero: the same for even p, or where x >= 0. In ceil mode it multiplies the sum of a window
        with k of its K elements by K / k; here it is the norm of those there are.

        Derivative: (|x| / y)^(p-1) sign(x), which is at most 1. Where y = 0, a kink, it is zero, as
        PyTorch has it; so it is where x = 0 under p = 1. For p = inf the first largest |x| of a
        window in row-major order gets all of it. The second derivative of |x|^p at x = 0 is
        infinite for 1 < p < 2; it is taken as zero.

        Each window is divided by its largest element, so that neither |x|^p nor the sum leaves the
        range of the dtype. A window with a NaN gives NaN, one with an infinity gives inf, and its
        own gradient is NaN.

    References:
        Gulcehre et al., Learned-norm pooling, arXiv:1311.1780; Sermanet et al., arXiv:1204.3968.
    """
    x, axes = resolve_pool("lp_pool", x, window, stride, padding, ceil_mode=ceil_mode)
    p = as_scalar(
        "lp_pool",
        "p",
        p,
        lambda p: p >= 1,
        "a number of at least 1",
        "write p=2.0, or p=math.inf for the maximum of absolute values",
        dtype=None,
    )
    if p == float("inf"):
        return windowed_max(_power(x, 1, False), axes)
    y = x.astype(accum_dtype(x.dtype))
    if all(axis.tiles for axis in axes) and prod(axis.window for axis in axes) <= 16:
        return _norm(_parts(y, axes), axes[0].at + 1, p).astype(x.dtype)
    for axis in reversed(axes):
        parts = _parts(y, (axis,)) if axis.window <= 8 else [extract_windows(y, axis)]
        y = _norm(parts, axis.at + 1, p)
    return y.astype(x.dtype)


def _parts(x, axes):
    """Return the slices of small windows, on the axis on which `extract_windows` has them."""
    return [jnp.expand_dims(tap, axes[0].at + 1) for tap in window_slices(x, axes, 0)]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _norm(parts, axis, p):
    """Compute m (sum |x / m|^p)^(1/p) with the largest |x| as m."""
    m = reduce(jnp.maximum, (jnp.max(jnp.abs(x), axis=axis, keepdims=True) for x in parts))
    scale = jnp.where((m > 0) & (m < jnp.inf), m, jnp.asarray(1, m.dtype))
    total = sum(jnp.sum(_power(x / scale, p, False), axis=axis) for x in parts)
    return jnp.squeeze(scale, axis) * _root(total, p)


@_norm.defjvp
def _norm_jvp(axis, p, primals, tangents):
    """Compute dy = sum (|x| / y)^(p-1) sign(x) dx."""
    (parts,), (directions,) = primals, tangents
    y = lax.optimization_barrier(_norm(parts, axis, p))  # else XLA works it out anew in each part
    scale = jnp.expand_dims(jnp.where(y == 0, jnp.inf, y), axis)  # zero, to every order
    pairs = zip(parts, directions, strict=True)
    return y, sum(jnp.sum(_power(x / scale, p - 1, True) * dx, axis=axis) for x, dx in pairs)


def _root(total, p):
    """Compute total^(1/p), without a power where none is needed: powers are slow."""
    return total if p == 1 else jnp.sqrt(total) if p == 2 else total ** (1 / p)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _power(x, q, odd):
    """Compute |x|^q, times the sign of x if `odd`; at x = 0 it is 0 where it should be infinite."""
    base = jnp.abs(x) if q >= 0 else jnp.abs(jnp.where(x == 0, jnp.inf, x))
    y = base ** (int(q) if q == int(q) else q)
    return y * jnp.sign(x) if odd else y


@_power.defjvp
def _power_jvp(q, odd, primals, tangents):
    """Compute d |x|^q = q |x|^(q-1) sign(x) dx, and so on to every order."""
    (x,), (dx,) = primals, tangents
    slope = q * _power(x, q - 1, not odd) if q != 0 else jnp.zeros_like(x)
    return _power(x, q, odd), slope * dx
