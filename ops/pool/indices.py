"""Where the maximum of each window is, and back to there: pooling that a decoder can undo."""

from collections.abc import Sequence
from functools import partial, reduce
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..common.padding import Padding, per_axis
from .pool import windowed_max
from .windows import Axis, as_images, reduce_window, resolve_pool, spatial_shape, window_slices


def max_pool_with_indices(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[jax.Array, jax.Array]:
    r"""Take the maximum over each window, and say which element it is, channels last.

    .. math:: y_{n,i,c} = x_{n,\,w_{n,i,c},\,c}, \qquad
        w_{n,i,c} = \operatorname*{arg\,max}_{j \in R_i} x_{n,j,c}

    Elements are numbered over the spatial axes in row-major order, without the padding: j W + k for
    row j and column k of an image with W columns.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        window, stride, padding, dilation, ceil_mode: as for `max_pool`.

    Returns:
        The maxima, those of `max_pool` with its gradient, and the numbers of the elements that they
        are, int32: both ``(N, *spatial_out, C)``.

    Raises:
        ValueError: wrong rank, window, stride, padding or dilation, or no whole window fits.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([[1.0, 5.0], [4.0, 3.0]])[None, :, :, None]
        >>> y, indices = max_pool_with_indices(x, 2)
        >>> (y.item(), indices.item())
        (5.0, 1)

    Note:
        Of equals the first in row-major order, or the last NaN, as in PyTorch, whose numbers these
        are (`return_indices=True`). `max_unpool` is the way back.

    References:
        Zeiler & Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901;
        Badrinarayanan et al., SegNet, arXiv:1511.00561.
    """
    name = "max_pool_with_indices"
    x, axes = resolve_pool(name, x, window, stride, padding, dilation, ceil_mode)
    return windowed_max(x, axes), _winners(lax.stop_gradient(x), axes)


def max_unpool(x: jax.Array, indices: jax.Array, size: int | Sequence[int]) -> jax.Array:
    r"""Put pooled elements back where they were, among zeros, channels last.

    .. math:: y_{n,\,w_{n,i,c},\,c} = x_{n,i,c}, \qquad 0 \text{ elsewhere}

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        indices: w, whole numbers of the shape of `x`, as from `max_pool_with_indices`. One that is
            no element of the output names nothing, and its x is left out.
        size: of the output's spatial axes, or one int for all.

    Returns:
        ``(N, *size, C)``, dtype of `x`.

    Raises:
        ValueError: wrong rank, size, or shape of `indices`.
        TypeError: `x` is not floating point, or `indices` are no integers.

    Example:
        >>> x, indices = jnp.array([5.0]).reshape(1, 1, 1), jnp.array([2]).reshape(1, 1, 1)
        >>> max_unpool(x, indices, 4)[0, :, 0]
        Array([0., 0., 5., 0.], dtype=float32)

    Note:
        Where windows overlap, several outputs may name one element. It gets the last of them in
        row-major order, and the gradient goes back to that one; PyTorch leaves open which it is,
        and its gradient goes to all.

        PyTorch takes window, stride and padding to find the size; here it is the shape of what was
        pooled, ``x.shape[1:-1]``.

    References:
        Zeiler & Fergus, arXiv:1311.2901.
    """
    x, indices = as_images("max_unpool", x), jnp.asarray(indices)
    size = per_axis("max_unpool", "size", size, x.ndim - 2)
    if indices.shape != x.shape:
        raise ValueError(
            f"max_unpool: shapes differ: got x {x.shape} and indices {indices.shape}, need one "
            f"shape; write the indices of max_pool_with_indices at these windows"
        )
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(
            f"max_unpool: indices are no integers: got {indices.dtype}, need an integer dtype; "
            f"write the indices of max_pool_with_indices"
        )
    return _unpool(x, indices.astype(np.int32), size)


@partial(jax.jit, static_argnums=1)
def _winners(x, axes: tuple[Axis, ...]):
    """Return the number of each window's maximum."""
    size = spatial_shape("max_pool_with_indices", x.shape)
    counted = np.arange(prod(size), dtype=np.int32).reshape(1, *size, 1)
    numbers = counted + jnp.zeros_like(x, np.int32)  # as x is spread over devices
    for axis in reversed(axes):
        if axis.window <= 8:
            pairs = ((x, -np.inf), (jnp.asarray(numbers), -1))
            taps = (window_slices(a, (axis,), fill) for a, fill in pairs)
            x, numbers = reduce(_winner, zip(*taps, strict=True))
        else:
            x, numbers = reduce_window((x, numbers), (axis,), (-np.inf, -1), _winner)
    return numbers


def _winner(a, b):
    """Return the winner of two elements with their numbers, whatever the order; -1 is padding."""
    (x, i), (y, j) = a, b
    x_nan, y_nan = jnp.isnan(x), jnp.isnan(y)
    later = jnp.where(x_nan, j > i, j < i)  # the last NaN, the first of equals
    y_wins = jnp.where(x_nan == y_nan, (y > x) | (((y == x) | x_nan) & later), y_nan)
    y_wins = (j >= 0) & ((i < 0) | y_wins)
    return jnp.where(y_wins, y, x), jnp.where(y_wins, j, i)


@partial(jax.jit, static_argnums=2)
def _unpool(x, indices, size):
    N, *pooled, C = x.shape
    places, count = prod(pooled), prod(size)
    number = np.arange(places, dtype=np.int32)

    def unpool(x, indices):
        """Of one image and channel."""
        indices = jnp.where(indices >= 0, indices, count)  # beyond the end, for both to be dropped
        last = jnp.full(count, -1, np.int32).at[indices].max(number, mode="drop")
        # Of several that would go to one place but the last are left out, so that adding is
        # putting. Its transpose gathers.
        is_last = last.at[indices].get(mode="clip") == number
        return jnp.zeros(count, x.dtype).at[indices].add(jnp.where(is_last, x, 0), mode="drop")

    flat = x.reshape(N, places, C), indices.reshape(N, places, C)
    y = jax.vmap(jax.vmap(unpool, in_axes=-1, out_axes=-1))(*flat)
    return y.reshape(N, *size, C)
