"""The fully connected layer's function."""

import jax
import jax.numpy as jnp

from .common.channels import add_bias
from .common.dtypes import accum_dtype, check_same_dtype


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    r"""Apply an affine map to the last axis.

    .. math:: y_{\ldots,o} = b_o + \sum_c x_{\ldots,c}\; W_{c,o}

    Args:
        x: input, ``(..., Ci)``.
        kernel: weights, ``(Ci, Co)``, dtype of `x`.
        bias: ``(Co,)``, dtype of `x`, or None.

    Returns:
        ``(..., Co)``, dtype of `x`; added up in float32 at least.

    Raises:
        ValueError: rank or channel mismatch; the message names both shapes.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> x = jnp.array([[1.0, 2.0]])
        >>> W = jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]])
        >>> dense(x, W, jnp.array([10.0, 20.0, 30.0]))
        Array([[11., 22., 38.]], dtype=float32)

    Note:
        PyTorch's `linear` keeps the kernel transposed, as ``(Co, Ci)``.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if kernel.ndim != 2 or x.ndim == 0:
        raise ValueError(
            f"dense: wrong rank: got x {x.shape} and kernel {kernel.shape}, need x (..., Ci) and "
            f"kernel (Ci, Co); give one scalar input as shape (1,)"
        )
    if x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"dense: channels do not match: got x {x.shape} and kernel {kernel.shape}, need "
            f"x.shape[-1] == kernel.shape[0]; write x.reshape(x.shape[0], -1) if x is images not "
            f"yet flattened, else make the kernel {(x.shape[-1], kernel.shape[1])}"
        )
    check_same_dtype("dense", "x", x, "kernel", kernel)
    y = jnp.matmul(x, kernel, preferred_element_type=accum_dtype(x.dtype))
    return add_bias("dense", x, y, bias)
