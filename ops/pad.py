"""Padding of images: zeros, or what the image itself has."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from .common.checks import check_image_rank
from .common.dtypes import check_floating
from .common.padding import Pairs, padding_pairs

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


def pad(
    x: jax.Array,
    padding: int | Sequence[int] | Sequence[tuple[int, int]],
    *,
    mode: PaddingMode = "zeros",
) -> jax.Array:
    r"""Pad the spatial axes of an image, channels last.

    Along an axis of I elements with p added before them, output o is x at j = o - p, and beyond
    the ends

    .. math:: 0 \ \text{(zeros)}, \qquad
        x_{-j},\; x_{2(I - 1) - j} \ \text{(reflect)}, \qquad
        x_0,\; x_{I-1} \ \text{(replicate)}, \qquad
        x_{j \bmod I} \ \text{(circular)}

    The gradient of an element is the sum of those of all its copies.

    Args:
        x: input, ``(N, *spatial, C)`` with one to three spatial axes, floating point.
        padding: an int, one int per spatial axis, or a pair (low, high) per spatial axis.
        mode: what is beyond the image.

    Returns:
        ``(N, *(low + i + high), C)``, dtype of `x`.

    Raises:
        ValueError: wrong rank, padding or mode; "reflect" by as much as the size or more, or
            "circular" by more than it.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
        >>> pad(x, 2, mode="reflect").ravel()
        Array([3., 2., 1., 2., 3., 2., 1.], dtype=float32)
        >>> pad(x, [(0, 2)], mode="circular").ravel()
        Array([1., 2., 3., 1., 2.], dtype=float32)

    Note:
        The modes are those of PyTorch's convolutions; its `pad` calls zeros "constant", and begins
        with the last axis.
    """
    x = jnp.asarray(x)
    check_floating("pad", "x", x)
    check_image_rank("pad", x.shape)
    size = x.shape[1:-1]
    if isinstance(padding, str):
        raise ValueError(
            f"pad: bad padding: got {padding!r}, which only a window can measure; write how many "
            f"elements to add, {((1, 1),) * len(size)}, for example"
        )
    return pad_spatial("pad", x, padding_pairs("pad", padding, size, size, size), mode)


def pad_spatial(name: str, x: jax.Array, pairs: Pairs, mode: PaddingMode) -> jax.Array:
    """Pad by a pair (low, high) per spatial axis, for the function `name`; raises as `pad` does."""
    if mode not in get_args(PaddingMode):
        raise ValueError(
            f"{name}: unknown padding mode: got {mode!r}, need one of {get_args(PaddingMode)}; "
            f"write 'zeros' for the usual one"
        )
    if mode == "zeros":
        return jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    for axis, (low, high) in enumerate(pairs, start=1):
        x = _pad_axis(name, x, axis, low, high, mode)
    return x


def _pad_axis(name, x, axis, low, high, mode):
    size = x.shape[axis]
    most = {"reflect": size - 1, "replicate": low + high, "circular": size}[mode]
    if not size or max(low, high) > most:
        raise ValueError(
            f"{name}: too much {mode} padding: got {(low, high)} along axis {axis} of x {x.shape}, "
            f"which has at most {most} to give; pad less, or write 'replicate'"
        )

    def part(start, stop):
        return lax.slice_in_dim(x, start, stop, axis=axis)

    if mode == "reflect":
        before, after = part(1, low + 1), part(size - 1 - high, size - 1)
        before, after = (lax.rev(a, (axis,)) for a in (before, after))
    elif mode == "replicate":
        ends = ((part(0, 1), low), (part(size - 1, size), high))
        before, after = (jnp.repeat(a, times, axis) for a, times in ends)
    else:
        before, after = part(size - low, size), part(0, high)
    return lax.concatenate([before, x, after], axis)
