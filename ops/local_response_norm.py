"""Local response normalization: neighboring channels compete."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .common.dtypes import accum_dtype, check_floating
from .common.implementation import uses_xla
from .common.padding import is_int


def local_response_norm(
    x: jax.Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> jax.Array:
    r"""Divide each value by a power of the energy of the channels around it, as AlexNet does.

    .. math:: y_c = \frac{x_c}{d_c^{\,\beta}}, \qquad d_c = k + \alpha \sum_{j \in W(c)} x_j^2,
        \qquad W(c) = \{c - \lfloor n/2 \rfloor, \ldots, c + \lfloor (n-1)/2 \rfloor\}

    with n the size, and x zero outside its channels. The tangent, for a change dx,

    .. math:: dy_c = d_c^{-\beta}\, dx_c
        - 2 \alpha \beta\, \frac{y_c}{d_c} \sum_{j \in W(c)} x_j\, dx_j

    Args:
        x: input, ``(..., C)``, floating point.
        size: n, how many channels are added up; an odd number centers them.
        alpha: at least 0.
        beta: the power.
        k: positive, so that nothing is divided by zero.

    Returns:
        Shape and dtype of `x`; computed in float32 at least.

    Raises:
        ValueError: no channel axis, or `size`, `alpha` or `k` out of range.
        TypeError: `x` is not floating point.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0])
        >>> local_response_norm(x, size=1, alpha=1.0, beta=1.0, k=1.0)  # 1/(1+1), 2/(1+4), 3/(1+9)
        Array([0.5, 0.4, 0.3], dtype=float32)

    Note:
        The defaults are AlexNet's. PyTorch divides `alpha` by `size`, which AlexNet does not, and
        its k is 1: for PyTorch's result write ``alpha=alpha / size`` and ``k=1.0``.

    References:
        Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012,
        section 3.3.
    """
    x = jnp.asarray(x)
    name = "local_response_norm"
    check_floating(name, "x", x)
    if x.ndim == 0:
        raise ValueError(f"{name}: wrong rank: got x (), need (..., C); add a channel axis")
    if not is_int(size) or size < 1:
        raise ValueError(f"{name}: bad size: got {size!r}, need a positive int; write size=5")
    if not (alpha >= 0 and k > 0):
        raise ValueError(
            f"{name}: a divisor can be zero: got alpha={alpha!r} and k={k!r}, need alpha >= 0 and "
            f"k > 0; write alpha=1e-4, k=2.0"
        )
    respond = _respond if uses_xla() else _respond_with_jvp
    y = respond(x.astype(accum_dtype(x.dtype)), int(size), float(alpha), float(beta), float(k))
    return y.astype(x.dtype)


def _respond(x, size, alpha, beta, k):
    return x * (k + alpha * _around(x * x, size)) ** -beta


_respond_with_jvp = jax.custom_jvp(_respond, nondiff_argnums=(1, 2, 3, 4))


@_respond_with_jvp.defjvp
def _respond_jvp(size, alpha, beta, k, primals, tangents):
    (x,), (dx,) = primals, tangents
    d = k + alpha * _around(x * x, size)
    factor = d**-beta
    y = x * factor
    return y, factor * dx - (2 * alpha * beta) * (y / d) * _around(x * dx, size)


def _around(x, size):
    """Sum over the channels around each."""
    ones = (1,) * (x.ndim - 1)
    padding = [(0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2)]
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (*ones, size), (*ones, 1), padding)
