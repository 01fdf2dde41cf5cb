r"""Activation functions: elementwise, but for maxout and the softmaxes; the dtype of `x` is kept.

Most are `jax.nn`'s, gathered here under one documentation: formula, derivative, what the derivative
is at a kink, and where the defaults differ from PyTorch's. Each takes `x` of any shape, floating
point (`TypeError` otherwise), gives NaN for NaN, and at an infinity its limit where no Note says
otherwise. Derivatives are computed from the rounded result: in 16 bits the small ones of tanh and
sigmoid, where y is close to 1, have few digits, as in PyTorch.
"""

import jax
import jax.numpy as jnp
from jax import lax

from .common.channels import along_channels, check_channels
from .common.checks import as_scalar
from .common.dtypes import accum_dtype, check_floating, check_same_dtype
from .common.padding import is_int
from .pool.pool import max_pool


def relu(x: jax.Array) -> jax.Array:
    r"""Apply the rectified linear unit, max(x, 0).

    Derivative: 1 for x > 0, else 0; at the kink x = 0 it is 0, as in PyTorch.

    Example:
        >>> relu(jnp.array([-1.0, 0.0, 2.0]))
        Array([0., 0., 2.], dtype=float32)
    """
    return jax.nn.relu(_floating("relu", x))


def relu6(x: jax.Array) -> jax.Array:
    r"""Apply the rectified linear unit that stops at 6, min(max(x, 0), 6).

    Derivative: 1 for 0 < x < 6, else 0; at both kinks it is 0, as in PyTorch.

    Example:
        >>> relu6(jnp.array([-1.0, 2.0, 7.0]))
        Array([0., 2., 6.], dtype=float32)

    References:
        Howard et al., MobileNets, arXiv:1704.04861: few bits are enough for a bounded range.
    """
    x = _floating("relu6", x)
    return _clip(x, 0, 6)


def hardtanh(x: jax.Array, min_val: float = -1.0, max_val: float = 1.0) -> jax.Array:
    r"""Clip to an interval, min(max(x, min_val), max_val).

    Derivative: 1 for min_val < x < max_val, else 0; at both kinks it is 0, as in PyTorch.

    References:
        Collobert, Large scale machine learning, thesis, 2004.
    """
    x = _floating("hardtanh", x)
    low, high = (
        _scalar("hardtanh", name, value, x)
        for name, value in (("min_val", min_val), ("max_val", max_val))
    )
    if isinstance(low, float) and isinstance(high, float) and not low < high:
        raise ValueError(
            f"hardtanh: empty interval: got min_val={low} and max_val={high}, need min_val < "
            f"max_val; exchange them"
        )
    return _clip(x, low, high)


def hardsigmoid(x: jax.Array) -> jax.Array:
    r"""Apply the piecewise linear sigmoid, min(max(x + 3, 0), 6) / 6.

    Derivative: 1 / 6 for -3 < x < 3, else 0; at both kinks it is 0, as in PyTorch.

    References:
        Howard et al., MobileNetV3, arXiv:1905.02244.
    """
    x = _floating("hardsigmoid", x)
    line = x.astype(accum_dtype(x.dtype)) / 6 + 0.5
    return _clip(line, 0, 1).astype(x.dtype)


def hardswish(x: jax.Array) -> jax.Array:
    r"""Apply x times its hardsigmoid: 0 for x <= -3, x for x >= 3, x (x + 3) / 6 between.

    Derivative: 0 for x <= -3, 1 for x >= 3, (2 x + 3) / 6 between: both kinks have that of the
    straight side, as in PyTorch.

    Note:
        At -inf the result is its limit 0; PyTorch's is NaN.

    References:
        Howard et al., MobileNetV3, arXiv:1905.02244.
    """
    x = _floating("hardswish", x)
    between = (x > -3) & (x < 3)
    z = jnp.where(between, x, 0).astype(accum_dtype(x.dtype))  # finite, and so is its derivative
    return jnp.where(between, (z * (z + 3) / 6).astype(x.dtype), jnp.where(x <= -3, 0, x))


def leaky_relu(x: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    r"""Apply the leaky rectified linear unit: x for x >= 0, negative_slope * x below.

    Derivative: 1 for x >= 0, else `negative_slope`.

    Note:
        At the kink x = 0 the derivative is 1; PyTorch takes the other side, `negative_slope`.
    """
    x = _floating("leaky_relu", x)
    remedy = "write one number, or use prelu for one slope per channel"
    slope = _scalar("leaky_relu", "negative_slope", negative_slope, x, remedy)
    return jax.nn.leaky_relu(x, slope)


def prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    r"""Apply the parametric rectified linear unit: x for x > 0, slope * x below; slope is learned.

    .. math:: \frac{\partial y}{\partial x} = \begin{cases} 1 & x > 0 \\ a_c & x \le 0 \end{cases},
        \qquad \frac{\partial y}{\partial a_c} = \min(x, 0)

    At the kink x = 0 the derivative is the slope, as in PyTorch.

    Args:
        x: input, ``(..., C)``, floating point.
        slope: a, one per channel ``(C,)`` or one for all ``()``, dtype of `x`.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: `slope` has another shape.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> prelu(jnp.array([[-1.0, -1.0], [2.0, 2.0]]), jnp.array([0.25, 0.5]))
        Array([[-0.25, -0.5 ],
               [ 2.  ,  2.  ]], dtype=float32)

    References:
        He et al., Delving deep into rectifiers, arXiv:1502.01852.
    """
    x, slope = _floating("prelu", x), jnp.asarray(slope)
    check_same_dtype("prelu", "x", x, "slope", slope)
    if slope.ndim:
        check_channels("prelu", x, "slope", slope)
        slope = along_channels(slope, x)
    # In the wide dtype, as the slope's gradient is a sum over all of x. What the slope multiplies
    # is zero where x > 0, so that an infinity there leaves its gradient alone.
    dtype = accum_dtype(x.dtype)
    below = slope.astype(dtype) * jnp.where(x > 0, 0, x).astype(dtype)
    return jnp.where(x > 0, x, below.astype(x.dtype))


def maxout(x: jax.Array, num_pieces: int) -> jax.Array:
    r"""Take the largest of each `num_pieces` neighboring channels.

    .. math:: y_{\ldots,k} = \max_{0 \le j < p} x_{\ldots,\,pk+j}

    Behind a convolution or dense layer with p times the channels, this is a learned piecewise
    linear function. The gradient goes to the largest; of equals, to the first.

    Args:
        x: input, ``(..., C)``, floating point.
        num_pieces: p, a divisor of C.

    Returns:
        ``(..., C // num_pieces)``, dtype of `x`. The largest of channels with a NaN is NaN.

    Raises:
        ValueError: `num_pieces` does not divide C.
        TypeError: `x` is not floating point.

    Example:
        >>> maxout(jnp.array([1.0, 5.0, -2.0, -3.0]), 2)
        Array([ 5., -2.], dtype=float32)

    References:
        Goodfellow et al., arXiv:1302.4389.
    """
    x = _floating("maxout", x)
    if (
        x.ndim == 0
        or not x.shape[-1]
        or not is_int(num_pieces)
        or num_pieces < 1
        or x.shape[-1] % num_pieces
    ):
        raise ValueError(
            f"maxout: bad num_pieces: got num_pieces={num_pieces!r} with x {x.shape}, need a "
            f"positive int that divides x.shape[-1]; give the layer before num_pieces times as "
            f"many features"
        )
    columns = x.reshape(x.size // x.shape[-1], x.shape[-1], 1)
    return max_pool(columns, int(num_pieces)).reshape(*x.shape[:-1], x.shape[-1] // num_pieces)


def elu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    r"""Apply the exponential linear unit: x for x > 0, alpha (exp(x) - 1) below.

    Derivative: 1 for x > 0, else alpha exp(x); at x = 0, a kink unless alpha = 1, it is alpha, as
    in PyTorch.

    References:
        Clevert et al., arXiv:1511.07289.
    """
    x = _floating("elu", x)
    return jax.nn.elu(x, _scalar("elu", "alpha", alpha, x))


def selu(x: jax.Array) -> jax.Array:
    r"""Apply the self-normalizing linear unit, lambda elu(x, alpha), with constants.

    .. math:: \lambda \approx 1.0507, \qquad \alpha \approx 1.6733

    Behind a layer of `lecun_normal` weights they lead means and variances to 0 and 1.

    Derivative: lambda for x > 0, else lambda alpha exp(x); at the kink x = 0 it is lambda alpha, as
    in PyTorch.

    References:
        Klambauer et al., arXiv:1706.02515.
    """
    return jax.nn.selu(_floating("selu", x))


def celu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    r"""Apply the continuously differentiable elu: x for x > 0, alpha (exp(x / alpha) - 1) below.

    Derivative: 1 for x > 0, else exp(x / alpha).

    Args:
        x: input of any shape.
        alpha: where it levels off: -alpha; positive.

    References:
        Barron, arXiv:1704.07483.
    """
    x = _floating("celu", x)
    alpha = _positive("celu", "alpha", alpha, x)
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.where(x > 0, 0, x) / alpha))


def softplus(x: jax.Array, beta: float = 1.0) -> jax.Array:
    r"""Apply the smooth rectified linear unit, log(1 + exp(beta x)) / beta.

    Derivative: the logistic function of beta x.

    Args:
        x: input of any shape.
        beta: how sharply it bends; positive.

    Note:
        PyTorch gives x itself where beta x > 20, which differs by less than rounding in float32.

    References:
        Dugas et al., Incorporating second-order functional knowledge for better option
        pricing, 2000.
    """
    x = _floating("softplus", x)
    wide = x.astype(accum_dtype(x.dtype))  # beta x may be more than float16 holds
    beta = _positive("softplus", "beta", beta, wide)
    return (jax.nn.softplus(beta * wide) / beta).astype(x.dtype)


def sigmoid(x: jax.Array) -> jax.Array:
    r"""Apply the logistic function, s(x) = 1 / (1 + exp(-x)).

    Derivative: s(x) (1 - s(x)).

    Example:
        >>> sigmoid(jnp.array([-1e4, 0.0, 1e4]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """
    return jax.nn.sigmoid(_floating("sigmoid", x))


def tanh(x: jax.Array) -> jax.Array:
    r"""Apply the hyperbolic tangent, (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    Derivative: 1 - tanh(x)^2.
    """
    return jnp.tanh(_floating("tanh", x))


def gelu(x: jax.Array, *, approximate: bool = False) -> jax.Array:
    r"""Apply the Gaussian error linear unit, x P(x), P the standard normal distribution function.

    Derivative: P(x) + x p(x), with p the standard normal density.

    Args:
        x: input of any shape.
        approximate: compute P(x) as (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, off by at
            most 5e-4, instead of exactly as (1 + erf(x / sqrt(2))) / 2.

    Note:
        The default is exact, as in PyTorch; `jax.nn.gelu` approximates by default. At -inf the
        result is NaN in PyTorch too: -inf times 0.

    References:
        Hendrycks & Gimpel, arXiv:1606.08415.
    """
    x = _floating("gelu", x)  # whose cube is more than float16 holds from 41 on
    return jax.nn.gelu(x.astype(accum_dtype(x.dtype)), approximate=approximate).astype(x.dtype)


def silu(x: jax.Array) -> jax.Array:
    r"""Apply the sigmoid linear unit, also called swish, x s(x), with s the logistic function.

    Derivative: s(x) (1 + x (1 - s(x))).

    Note:
        At -inf the result is NaN, as in PyTorch: -inf times 0.

    References:
        Ramachandran et al., arXiv:1710.05941.
    """
    return jax.nn.silu(_floating("silu", x))


def mish(x: jax.Array) -> jax.Array:
    r"""Apply x tanh(softplus(x)).

    Derivative: t + x s(x) (1 - t^2), with t = tanh(softplus(x)) and s the logistic function.

    Note:
        At -inf the result is NaN, as in PyTorch: -inf times 0.

    References:
        Misra, arXiv:1908.08681.
    """
    x = _floating("mish", x)
    wide = x.astype(accum_dtype(x.dtype))
    return (wide * jnp.tanh(jax.nn.softplus(wide))).astype(x.dtype)


def glu(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Gate the first half of an axis by the second, a s(b), with s the logistic function.

    Derivatives: s(b) in a, a s(b) (1 - s(b)) in b.

    Args:
        x: a and b one after the other, floating point.
        axis: along which they are; the channels by default, as in PyTorch.

    Returns:
        Half as long along `axis`, dtype of `x`.

    Raises:
        ValueError: the axis has an odd length.
        TypeError: `x` is not floating point.

    Example:
        >>> glu(jnp.array([3.0, 4.0, 0.0, 1e4]))
        Array([1.5, 4. ], dtype=float32)

    References:
        Dauphin et al., arXiv:1612.08083.
    """
    x = _floating("glu", x)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] % 2:
        raise ValueError(
            f"glu: bad x: got {x.shape}, need an even length along axis {axis}; give the layer "
            f"before twice as many features, or name another axis"
        )
    return jax.nn.glu(x, axis)


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Make positive numbers that add up to one along `axis`.

    .. math:: p_k = \frac{\exp(x_k)}{\sum_j \exp(x_j)}, \qquad
        \frac{\partial p_k}{\partial x_j} = p_k (\delta_{kj} - p_j)

    The maximum is subtracted first, so that nothing overflows.

    Note:
        The axis defaults to the last, the channels; PyTorch asks for it.

    Example:
        >>> softmax(jnp.array([1e4, 1e4, -1e4]))
        Array([0.5, 0.5, 0. ], dtype=float32)
    """
    return jax.nn.softmax(_floating("softmax", x), axis=axis)


def log_softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Compute the logarithm of `softmax`, finite where the softmax itself rounds to zero.

    .. math:: \log p_k = x_k - \log \sum_j \exp(x_j), \qquad
        \frac{\partial \log p_k}{\partial x_j} = \delta_{kj} - p_j

    Example:
        >>> log_softmax(jnp.array([0.0, -1e4]))
        Array([     0., -10000.], dtype=float32)
    """
    return jax.nn.log_softmax(_floating("log_softmax", x), axis=axis)


def _floating(name, x):
    x = jnp.asarray(x)
    check_floating(name, "x", x)
    return x


def _scalar(name, what, value, x, remedy="write one number"):
    return as_scalar(name, what, value, lambda _: True, "one number", remedy, dtype=x.dtype)


def _positive(name, what, value, x):
    remedy = "leave it out for 1"
    return as_scalar(name, what, value, lambda a: a > 0, "a positive number", remedy, dtype=x.dtype)


def _clip(x, low, high):
    """Clip, with the derivative 0 at both kinks, where `jnp.clip` has 1/2."""
    return jnp.where((x > low) & (x < high), x, lax.stop_gradient(jnp.clip(x, low, high)))
