"""One number per channel: biases, scales, slopes, running means and variances."""

import jax
import jax.numpy as jnp

from .dtypes import accum_dtype, check_same_dtype


def check_channels(name: str, x: jax.Array, what: str, vector: jax.Array) -> None:
    """Raise ValueError unless `vector` has one number for each channel, the last axis of `x`.

    Args:
        name: of the function whose argument it is.
        x: ``(..., C)``.
        what: the name of the argument.
        vector: to be ``(C,)``.
    """
    if vector.shape == x.shape[-1:]:
        return
    remedy = f"give one {what} per channel, the last axis of x"
    if x.ndim > 2 and vector.shape == x.shape[1:2]:
        remedy = "x looks channels first, write jnp.moveaxis(x, 1, -1)"
    raise ValueError(
        f"{name}: wrong {what} shape: got {vector.shape} with x {x.shape}, need {x.shape[-1:]}; "
        f"{remedy}"
    )


def along_channels(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Reshape ``(C,)`` so that it broadcasts along the last axis of `x`."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def add_bias(name: str, x: jax.Array, y: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Return `y` in the dtype of `x`, with one number per channel added, if there is a bias.

    A `y` wider than `x` is rounded once, after the addition.

    Args:
        name: of the function whose argument `bias` is.
        x: its input, dtype of the result.
        y: ``(..., Co)``.
        bias: ``(Co,)``, dtype of `x`, or None.

    Raises:
        ValueError: `bias` has another shape.
        TypeError: `bias` has another dtype than `x`.
    """
    if bias is None:
        return y.astype(x.dtype)
    bias = jnp.asarray(bias)
    check_same_dtype(name, "x", x, "bias", bias)
    if bias.shape != y.shape[-1:]:
        raise ValueError(
            f"{name}: wrong bias shape: got {bias.shape}, need {y.shape[-1:]}; give one bias per "
            f"output channel"
        )
    # The gradient of the bias is a sum over all of y, so it too belongs in the wide dtype.
    dtype = accum_dtype(y.dtype)
    return (y.astype(dtype) + along_channels(bias.astype(dtype), y)).astype(x.dtype)
