r"""Initializers: random starting values whose variance suits a layer's fans.

A kernel ``(*window, Ci // groups, Co)``, or ``(Ci, Co)`` for a dense layer, joins each output to
`fan_in` inputs and each input to `fan_out` outputs:

    fan_in  = prod(window) * Ci // groups
    fan_out = prod(window) * Co // groups

Each output of a transposed convolution of stride s sees one in s of the taps along an axis, and
its signal starts smaller by that, as in PyTorch. `groups` cannot be read off the kernel's shape, so
a grouped layer passes it. The variances keep the size of the signal from layer to layer, forward
(fan_in), backward (fan_out) or between the two:

    Xavier, or Glorot:  2 / (fan_in + fan_out)     for layers followed by tanh, or by nothing
    He, or Kaiming:     2 / fan_in                 for layers followed by relu
    LeCun:              1 / fan_in                 for layers followed by selu or tanh

The normal ones are not truncated and the uniform ones cover (-a, a) with a = sqrt(3 variance), both
as in PyTorch's `torch.nn.init`; `jax.nn.initializers` truncates its normal ones at two deviations.
PyTorch does not divide fan_out by `groups`, and so starts the kernels of grouped convolutions
smaller under Xavier; each input reaches Co // groups channels and no more.

References:
    Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks,
    AISTATS 2010. He et al., Delving deep into rectifiers, arXiv:1502.01852. LeCun et al.,
    Efficient BackProp, 1998.
"""

from collections.abc import Callable, Sequence
from math import prod, sqrt

import jax
import jax.numpy as jnp

from .common.padding import is_int


def xavier_uniform(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Draw uniformly from (-a, a), a = sqrt(6 / (fan_in + fan_out)).

    Args:
        key: `jax.random` key.
        shape: ``(*window, Ci // groups, Co)`` or ``(Ci, Co)``.
        dtype: of the result.
        groups: of the convolution that the kernel is for.

    Returns:
        An array of `shape` and `dtype`.

    Raises:
        ValueError: fewer than two axes, an empty one, or `groups` does not divide Co.

    Example:
        >>> xavier_uniform(jax.random.key(0), (3, 3, 16, 32)).shape
        (3, 3, 16, 32)
    """
    fan_in, fan_out = _fans("xavier_uniform", shape, groups)
    return _uniform(key, shape, dtype, 2 / (fan_in + fan_out))


def xavier_normal(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Draw normal numbers of variance 2 / (fan_in + fan_out); arguments as for `xavier_uniform`."""
    fan_in, fan_out = _fans("xavier_normal", shape, groups)
    return _normal(key, shape, dtype, 2 / (fan_in + fan_out))


def he_uniform(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Draw uniformly from (-a, a), a = sqrt(6 / fan_in); arguments as for `xavier_uniform`."""
    fan_in, _ = _fans("he_uniform", shape, groups)
    return _uniform(key, shape, dtype, 2 / fan_in)


def he_normal(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Draw normal numbers of variance 2 / fan_in; arguments as for `xavier_uniform`."""
    fan_in, _ = _fans("he_normal", shape, groups)
    return _normal(key, shape, dtype, 2 / fan_in)


def lecun_normal(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Draw normal numbers of variance 1 / fan_in; arguments as for `xavier_uniform`."""
    fan_in, _ = _fans("lecun_normal", shape, groups)
    return _normal(key, shape, dtype, 1 / fan_in)


def lecun_uniform(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Draw uniformly from (-a, a), a = sqrt(3 / fan_in); arguments as for `xavier_uniform`."""
    fan_in, _ = _fans("lecun_uniform", shape, groups)
    return _uniform(key, shape, dtype, 1 / fan_in)


def normal(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, std: float = 0.01, groups: int = 1
) -> jax.Array:
    """Draw normal numbers of mean 0 and deviation `std`, of any shape; `groups` is ignored.

    The default is AlexNet's and VGG's. No name in `INITIALIZERS`, as nothing says which deviation.
    """
    del groups
    return jax.random.normal(key, shape, dtype) * std


def truncated_normal(
    key: jax.Array, shape: Sequence[int], dtype=jnp.float32, *, std: float = 0.02, groups: int = 1
) -> jax.Array:
    """Draw normal numbers, any beyond 2 `std` anew: mean 0, deviation `std`, of any shape.

    `std` is that from before the cut; what is left deviates by 0.88 `std`. `groups` is ignored.

    Note:
        As `jax.nn.initializers.truncated_normal`. PyTorch's `trunc_normal_` cuts at an absolute 2,
        which for the usual ``std=0.02`` is at a hundred deviations, and so cuts nothing.
    """
    del groups
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * std


def bilinear(
    key: jax.Array | None, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    r"""Make the kernel with which a transposed convolution interpolates linearly along each axis.

    .. math:: k_u = \prod_a \left(1 - \frac{|u_a - c_a|}{s_a}\right), \qquad
        s_a = \left\lceil \tfrac{w_a}{2} \right\rceil, \quad c_a = \frac{w_a - 1}{2}

    for a window w, from each channel to the one of the same number, and 0 between others. With a
    stride of s and padding "SAME", s even and w = 2 s, `conv_transpose` is then `ops.resize` to s
    times the size, but for the s / 2 elements next to the edges, which fade out: what lies beyond
    counts as 0 there, and as a copy of the edge in `resize`. (For an odd s, w = 2 s - 1.)

    Args:
        key: ignored.
        shape: ``(*window, Ci // groups, Co)``.
        dtype: of the result.
        groups: of the convolution; as many as there are channels for a kernel without zeros.

    Returns:
        An array of `shape` and `dtype`.

    Raises:
        ValueError: no window, an empty axis, or `groups` does not divide Co.

    Example:
        >>> bilinear(None, (4, 1, 1)).ravel()
        Array([0.25, 0.75, 0.75, 0.25], dtype=float32)

    References:
        Long et al., arXiv:1411.4038, section 3.3.
    """
    del key
    _fans("bilinear", shape, groups)
    *window, Ci, Co = shape
    if not window:
        raise ValueError(
            f"bilinear: no window: got shape {tuple(shape)}, need (*window, Ci // groups, Co); "
            "it is for kernels of transposed convolutions"
        )
    rank = len(window)
    kernel = jnp.ones((1,) * rank, dtype)
    for axis, size in enumerate(window):
        u, s = jnp.arange(size, dtype=dtype), (size + 1) // 2
        taps = 1 - jnp.abs(u - (size - 1) / 2) / s
        kernel = kernel * taps.reshape([size if a == axis else 1 for a in range(rank)])
    same = jnp.arange(Ci)[:, None] == jnp.arange(Co)[None, :] % (Co // groups)
    return kernel[..., None, None] * same.astype(dtype).reshape((1,) * rank + (Ci, Co))


def zeros(
    key: jax.Array | None, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Make zeros of any shape: what biases start from. `key` and `groups` are ignored."""
    del key, groups
    return jnp.zeros(shape, dtype)


def ones(
    key: jax.Array | None, shape: Sequence[int], dtype=jnp.float32, *, groups: int = 1
) -> jax.Array:
    """Make ones of any shape: what scales start from. `key` and `groups` are ignored."""
    del key, groups
    return jnp.ones(shape, dtype)


INITIALIZERS: dict[str, Callable[..., jax.Array]] = {
    function.__name__: function
    for function in (
        xavier_uniform,
        xavier_normal,
        he_uniform,
        he_normal,
        lecun_normal,
        lecun_uniform,
        zeros,
        ones,
    )
}


def _fans(name, shape, groups):
    if len(shape) < 2 or min(shape) < 1 or not is_int(groups) or groups < 1 or shape[-1] % groups:
        raise ValueError(
            f"{name}: no fans: got shape {tuple(shape)} with groups={groups}, need "
            f"(*window, Ci // groups, Co), no axis empty and Co divisible by groups; initialize "
            f"biases and scales with zeros or ones"
        )
    *window, Ci, Co = shape
    return prod(window) * Ci, prod(window) * Co // groups


def _uniform(key, shape, dtype, variance):
    limit = sqrt(3 * variance)
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def _normal(key, shape, dtype, variance):
    return jax.random.normal(key, shape, dtype) * sqrt(variance)
