r"""Normalization: each set of values brought to mean 0 and variance 1, then scaled and shifted.

.. math:: y = \hat x\, s + b, \qquad \hat x = r\,(x - M x), \qquad
    r = \frac{1}{\sqrt{M (x - M x)^2 + \epsilon}}

where M takes the mean of a set and puts it in the place of every value of the set. The kinds of
normalization differ in their sets alone. Of an image batch ``(N, H, W, C)`` a set is

    batch_norm      one channel of all examples        N H W values
    instance_norm   one channel of one example         H W values
    group_norm      C / G channels of one example      H W C / G values
    layer_norm      the last axes, at each place       C values by default

`rms_norm` has the sets of layer_norm and leaves out the mean.

With m = M x and v = M (x - m)^2, a change of x, m and v changes the output by

.. math:: dy = a\,dx - a\,dm - \tfrac{1}{2} a r^2 (x - m)\,dv, \qquad a = r s, \qquad
    dm = M\,dx, \qquad dv = 2 M((x - m)\,dx)

(in dv the change of m drops out, as M(x - m) = 0). So the gradient is, for a gradient g of y,

.. math:: g_x = a\,g - M(a\,g) - \hat x\, M(a\,g\,\hat x)

which is two sums over each set, of g and of (x - m) g; they are the gradients of b and, but for r,
of s. Autodiff of the formula takes three sums and passes over x more often, a third of the speed on
CPU, and so the two steps in which large arrays meet small ones have their tangents written here.
They are the same for all platforms; `implementation("xla")` leaves the formula to autodiff.

The variance is taken of x - M x and not as M x^2 - (M x)^2, which cancels: a mean ten thousand
times the deviation does no harm. Types below float32 are normalized in float32. A NaN or an
infinity makes its whole set NaN; a set that is constant becomes b.
"""

from collections.abc import Hashable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .common.channels import along_channels, check_channels
from .common.checks import as_scalar
from .common.dtypes import accum_dtype, check_floating, check_same_dtype
from .common.implementation import uses_xla
from .common.padding import is_int


def batch_norm(
    x: jax.Array,
    mean: jax.Array | None,
    var: jax.Array | None,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    train: bool,
    momentum: float | jax.Array = 0.1,
    eps: float = 1e-5,
    axis_name: Hashable | Sequence[Hashable] | None = None,
) -> tuple[jax.Array, tuple[Any, Any]]:
    r"""Normalize each channel over the batch, or in evaluation by the running statistics.

    In training, with n values in each channel of the batch:

    .. math:: m_c = \frac{1}{n} \sum_i x_{i,c}, \quad v_c = \frac{1}{n} \sum_i (x_{i,c} - m_c)^2,
        \quad y_{i,c} = s_c \frac{x_{i,c} - m_c}{\sqrt{v_c + \epsilon}} + b_c

    .. math:: \text{mean} \leftarrow (1 - \mu)\,\text{mean} + \mu\, m, \qquad
        \text{var} \leftarrow (1 - \mu)\,\text{var} + \mu\, \frac{n}{n - 1} v

    In evaluation `mean` and `var` stand in the place of m and v, and stay as they are. Without
    these running statistics m and v are the batch's in evaluation, too: what comes out of an
    example then depends on the others of its batch.

    Args:
        x: input, ``(N, *spatial, C)`` with any number of spatial axes, floating point.
        mean: running mean, ``(C,)``, dtype of `x` or float32; zeros at first. None, and None for
            `var`, keeps no running statistics.
        var: running variance, as `mean`; ones at first.
        scale: s, ``(C,)``, dtype of `x`, or None for 1.
        bias: b, ``(C,)``, dtype of `x`, or None for 0.
        train: whether to use the batch's statistics and to update the running ones.
        momentum: the weight of the new batch in the running statistics, in [0, 1].
        eps: added to the variance.
        axis_name: in training under `shard_map` or a `vmap` with a name, the axis (or several)
            over which the batch is divided; the statistics are then those of the whole batch, the
            variance between the shards included. Under plain `jit` a batch divided over devices
            needs no name.

    Returns:
        y, shape and dtype of `x`; and the new ``(mean, var)``, or ``(None, None)``.

    Raises:
        ValueError: shapes do not match, `mean` or `var` alone is None, fewer than 2 values per
            channel where the batch's statistics are used, `momentum` or `eps` out of range, or no
            axis has that name.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> y, (mean, var) = batch_norm(x, jnp.zeros(2), jnp.ones(2), train=True, momentum=0.5)
        >>> print(y.round(3), mean, var)
        [[-1. -1.]
         [ 1.  1.]] [ 1. 10.] [  1.5 100.5]

    Note:
        As in PyTorch, the batch is normalized by its biased variance (divided by n), the running
        variance collects unbiased ones (n - 1), and `momentum` is the weight of the new batch; in
        Keras and Flax it is that of the old statistics. Without running statistics it is PyTorch's
        `BatchNorm2d(track_running_stats=False)`.

    References:
        Ioffe & Szegedy, arXiv:1502.03167.
    """
    x, name = jnp.asarray(x), "batch_norm"
    _check_rank(name, x, 2, "(N, *spatial, C)")
    if (mean is None) != (var is None):
        raise ValueError(
            f"{name}: one running statistic without the other: got mean "
            f"{mean if mean is None else jnp.shape(mean)} and var "
            f"{var if var is None else jnp.shape(var)}, need both or None for both"
        )
    tracked = [jnp.asarray(a) for a in (mean, var) if a is not None]
    for what, running in zip(("mean", "var"), tracked, strict=False):
        check_channels(name, x, what, running)
        if running.dtype != accum_dtype(x.dtype):
            check_same_dtype(name, "x", x, what, running)
    scale, bias = _per_channel(name, x, scale, bias)
    eps = _check_eps(name, eps)
    dtype = accum_dtype(x.dtype)
    momentum = as_scalar(
        name,
        "momentum",
        momentum,
        lambda momentum: 0 <= momentum <= 1,
        "0 <= momentum <= 1, the weight of the new batch",
        "write 0.1 where Keras or Flax has 0.9",
        dtype=dtype,
    )
    if tracked and not train:
        m, v = (along_channels(a.astype(dtype), x) for a in tracked)
        y = _standardized(x.astype(dtype), m, v, scale, bias, eps)
        return y.astype(x.dtype), (tracked[0], tracked[1])

    norm_axes = NormAxes(tuple(range(x.ndim - 1)), axis_name=axis_name)
    n = prod(x.shape[:-1]) * _shards(name, axis_name)
    _check_count(name, x, n, "channel", "give a larger batch, or write train=False")
    y, m, v = _normalize(x.astype(dtype), scale, bias, norm_axes, eps)

    def ema_update(old, batch):
        new = (1 - momentum) * old.astype(dtype) + momentum * batch.reshape(old.shape)
        return new.astype(old.dtype)

    if not tracked:
        return y.astype(x.dtype), (None, None)
    mean, var = tracked
    return y.astype(x.dtype), (ema_update(mean, m), ema_update(var, v * (n / (n - 1))))


def layer_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axes: int | Sequence[int] = -1,
    eps: float = 1e-5,
) -> jax.Array:
    r"""Normalize over the last axes, at each place of the others.

    .. math:: y_{i,c} = s_c \frac{x_{i,c} - m_i}{\sqrt{v_i + \epsilon}} + b_c, \qquad
        m_i = \frac{1}{C} \sum_c x_{i,c}, \quad v_i = \frac{1}{C} \sum_c (x_{i,c} - m_i)^2

    Args:
        x: input, of any shape, floating point.
        scale: s, of the shape of those axes, dtype of `x`, or None for 1.
        bias: b, as `scale`, or None for 0.
        axes: the axis or axes to normalize over, which have to be the last ones of `x`.
        eps: added to the variance.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: `axes` are not the last ones or hold fewer than 2 values, shapes do not match,
            or `eps` is not positive.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> print(layer_norm(jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])).round(3))
        [[-1.225  0.     1.225]
         [-1.225  0.     1.225]]

    Note:
        The same as PyTorch's, but that channels are last: ``axes=(1, 2, 3)`` of ``(N, H, W, C)``
        takes a scale of ``(H, W, C)``. One scale per channel there is `group_norm` with one group.

    References:
        Ba et al., arXiv:1607.06450.
    """
    x = jnp.asarray(x)
    _check_rank("layer_norm", x, 1, "(..., C)")
    axes = _last_axes("layer_norm", x, axes)
    shape = x.shape[axes[0] :]
    given = (("scale", scale), ("bias", bias))
    scale, bias = (_per_value("layer_norm", x, what, v, shape) for what, v in given)
    eps = _check_eps("layer_norm", eps)
    _check_count("layer_norm", x, prod(shape), "set", "normalize over more axes")
    y, _, _ = _normalize(x.astype(accum_dtype(x.dtype)), None, None, NormAxes(axes), eps)
    y = y if scale is None else y * scale
    y = y if bias is None else y + bias
    return y.astype(x.dtype)


def rms_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    *,
    axes: int | Sequence[int] = -1,
    eps: float = 1e-6,
) -> jax.Array:
    r"""Divide by the root of the mean square over the last axes: a `layer_norm` without the mean.

    .. math:: y_{i,c} = s_c\, r_i\, x_{i,c}, \qquad
        r_i = \Bigl( \frac{1}{C} \sum_c x_{i,c}^2 + \epsilon \Bigr)^{-1/2}

    .. math:: \bar x_{i,c} = r_i \Bigl( h_{i,c} - \hat x_{i,c}\,
        \frac{1}{C} \sum_k h_{i,k}\, \hat x_{i,k} \Bigr), \qquad
        h = s\, \bar y, \quad \hat x_{i,c} = r_i\, x_{i,c}

    Args:
        x: input, of any shape, floating point.
        scale: s, of the shape of those axes, dtype of `x`, or None for 1.
        axes: the axis or axes to normalize over, which have to be the last ones of `x`.
        eps: added to the mean square.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: `axes` are not the last ones or hold fewer than 2 values, shapes do not match,
            or `eps` is not positive.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> print(rms_norm(jnp.array([[3.0, -3.0], [0.0, 8.0]])).round(2))
        [[ 1.   -1.  ]
         [ 0.    1.41]]

    Note:
        PyTorch's eps is by default the spacing of the numbers of the dtype at 1, 1.2e-7 of float32.

    References:
        Zhang & Sennrich, arXiv:1910.07467.
    """
    x, name = jnp.asarray(x), "rms_norm"
    _check_rank(name, x, 1, "(..., C)")
    axes = _last_axes(name, x, axes)
    shape = x.shape[axes[0] :]
    scale = _per_value(name, x, "scale", scale, shape)
    eps = _check_eps(name, eps)
    _check_count(name, x, prod(shape), "set", "normalize over more axes")
    wide = x.astype(accum_dtype(x.dtype))
    y = wide * lax.rsqrt(jnp.mean(wide * wide, axes, keepdims=True) + eps)
    return (y if scale is None else y * scale).astype(x.dtype)


def group_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
) -> jax.Array:
    r"""Normalize groups of neighboring channels, each example by itself.

    .. math:: y_{n,i,c} = s_c \frac{x_{n,i,c} - m_{n,g}}{\sqrt{v_{n,g} + \epsilon}} + b_c, \qquad
        g = \left\lfloor c\, G / C \right\rfloor

    with m and v the mean and the biased variance over all places i and the C / G channels of group
    g.

    Args:
        x: input, ``(N, *spatial, C)`` with any number of spatial axes, floating point.
        scale: s, ``(C,)``, dtype of `x`, or None for 1.
        bias: b, ``(C,)``, dtype of `x`, or None for 0.
        groups: G, a divisor of C. One group is a layer norm over all but the batch, with a scale
            per channel; C groups are `instance_norm`.
        eps: added to the variance.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: `groups` does not divide C, fewer than 2 values per group, shapes do not match,
            or `eps` is not positive.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> x = jnp.array([[[1.0, 2.0, 30.0, 20.0]]])
        >>> print(group_norm(x, groups=2).round(3))
        [[[-1.  1.  1. -1.]]]

    References:
        Wu & He, arXiv:1803.08494.
    """
    x = jnp.asarray(x)
    name = "group_norm"
    _check_rank(name, x, 2, "(N, *spatial, C)")
    *spatial, C = x.shape[1:]
    scale, bias = _per_channel(name, x, scale, bias)
    eps = _check_eps(name, eps)
    if not is_int(groups) or groups < 1 or C % groups:
        raise ValueError(
            f"{name}: bad groups: got groups={groups!r} with x {x.shape}, need a positive int that "
            f"divides C={C}; write groups=1 to normalize over all channels"
        )
    _check_count(name, x, prod(spatial) * (C // groups), "group", "write fewer groups")
    return _of_each_example(x, scale, bias, groups, eps)


def instance_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    eps: float = 1e-5,
) -> jax.Array:
    r"""Normalize each channel of each example over its spatial axes.

    .. math:: y_{n,i,c} = s_c \frac{x_{n,i,c} - m_{n,c}}{\sqrt{v_{n,c} + \epsilon}} + b_c

    with m and v the mean and the biased variance over all places i.

    Args:
        x: input, ``(N, *spatial, C)`` with at least one spatial axis, floating point.
        scale: s, ``(C,)``, dtype of `x`, or None for 1.
        bias: b, ``(C,)``, dtype of `x`, or None for 0.
        eps: added to the variance.

    Returns:
        Shape and dtype of `x`.

    Raises:
        ValueError: no spatial axis, fewer than 2 places, shapes do not match, or `eps` is not
            positive.
        TypeError: `x` is not floating point, or the dtypes differ.

    Example:
        >>> x = jnp.array([[[1.0, 20.0], [3.0, 10.0]]])
        >>> print(instance_norm(x).round(3))
        [[[-1.  1.]
          [ 1. -1.]]]

    References:
        Ulyanov et al., arXiv:1607.08022.
    """
    x = jnp.asarray(x)
    name = "instance_norm"
    _check_rank(name, x, 3, "(N, *spatial, C)")
    scale, bias = _per_channel(name, x, scale, bias)
    eps = _check_eps(name, eps)
    remedy = "normalize before the image has shrunk to one place"
    _check_count(name, x, prod(x.shape[1:-1]), "channel of an example", remedy)
    return _of_each_example(x, scale, bias, x.shape[-1], eps)


# ------------------------------------------------------------------------------------ the core


class NormAxes(NamedTuple):
    """Which values are normalized together."""

    axes: tuple[int, ...]
    groups: int | None = None  # into which the channels are joined, or None: as `axes` say
    axis_name: Any = None


def _normalize(x, scale, bias, norm_axes, eps):
    """Return y, and each set's mean and variance.

    Scale and bias broadcast against those, or are None.
    """
    mean = _group_mean(jnp.mean(x, norm_axes.axes, keepdims=True), norm_axes)
    mean_square = _mean_square if uses_xla() else _mean_square_with_jvp
    var = _group_mean(mean_square(x, mean, norm_axes.axes), norm_axes)
    return _standardized(x, mean, var, scale, bias, eps), mean, var


def _group_mean(mean, norm_axes):
    """Average the means over the axes, small arrays by now, over the whole sets."""
    if norm_axes.groups not in (None, mean.shape[-1]):
        split = mean.reshape(*mean.shape[:-1], norm_axes.groups, mean.shape[-1] // norm_axes.groups)
        group_mean = jnp.mean(split, axis=-1, keepdims=True)
        mean = jnp.broadcast_to(group_mean, split.shape).reshape(mean.shape)
    return mean if norm_axes.axis_name is None else lax.pmean(mean, norm_axes.axis_name)


def _mean_square(x, mean, axes):
    centered = x - mean
    return jnp.mean(centered * centered, axes, keepdims=True)


_mean_square_with_jvp = jax.custom_jvp(_mean_square, nondiff_argnums=(2,))


@_mean_square_with_jvp.defjvp
def _mean_square_jvp(axes, primals, tangents):
    """Leave out the term in the mean's tangent: over a whole set x - mean adds up to zero."""
    (x, mean), (dx, _) = primals, tangents
    return _mean_square_with_jvp(x, mean, axes), 2 * jnp.mean((x - mean) * dx, axes, keepdims=True)


def _standardized(x, mean, var, scale, bias, eps):
    standardize = _standardize if uses_xla() else _standardize_with_jvp
    return standardize(x, mean, var, scale, bias, eps)


def _standardize(x, mean, var, scale, bias, eps):
    slope = lax.rsqrt(var + eps)
    y = (x - mean) * (slope if scale is None else slope * scale)
    return y if bias is None else y + bias


_standardize_with_jvp = jax.custom_jvp(_standardize, nondiff_argnums=(5,))


@_standardize_with_jvp.defjvp
def _standardize_jvp(eps, primals, tangents):
    """Sort by the large arrays: the transpose adds those up first, and does the rest on sums."""
    x, mean, var, scale, bias = primals
    dx, dmean, dvar, dscale, dbias = tangents
    r = lax.rsqrt(var + eps)
    slope = r if scale is None else r * scale
    offset, gain = -slope * dmean, -slope * r * r / 2 * dvar
    offset = offset if bias is None else offset + dbias
    gain = gain if scale is None else gain + r * dscale
    y = _standardize_with_jvp(x, mean, var, scale, bias, eps)
    return y, slope * dx + offset + (x - mean) * gain


def _of_each_example(x, scale, bias, groups, eps):
    norm_axes = NormAxes(tuple(range(1, x.ndim - 1)), groups)
    y, _, _ = _normalize(x.astype(accum_dtype(x.dtype)), scale, bias, norm_axes, eps)
    return y.astype(x.dtype)


# -------------------------------------------------------------------------------------- checks


def _check_rank(name, x, least, need):
    check_floating(name, "x", x)
    if x.ndim < least:
        raise ValueError(
            f"{name}: wrong rank: got x {x.shape}, need {need}; write x[None] if the batch axis is "
            f"missing"
        )


def _check_eps(name, eps):
    """Return eps as a float; raise ValueError unless positive, TypeError if it is traced."""
    need, remedy = "a positive number", "write eps=1e-5"
    return as_scalar(name, "eps", eps, lambda eps: eps > 0, need, remedy, dtype=None)


def _check_count(name, x, count, of, remedy):
    """Raise ValueError for sets of one value, which would be 0 normalized, whatever it was."""
    if is_int(count) and count < 2:  # a symbolic one is not known yet
        raise ValueError(
            f"{name}: nothing to normalize over: got {count} values per {of} with x {x.shape}, "
            f"need 2 at least; {remedy}"
        )


def _per_channel(name, x, scale, bias):
    """Return scale and bias in the dtype to accumulate in, shaped along the channels."""
    out = []
    for what, vector in (("scale", scale), ("bias", bias)):
        if vector is not None:
            vector = jnp.asarray(vector)
            check_same_dtype(name, "x", x, what, vector)
            check_channels(name, x, what, vector)
            vector = along_channels(vector.astype(accum_dtype(x.dtype)), x)
        out.append(vector)
    return out


def _per_value(name, x, what, array, shape):
    """Return the scale or bias of each value of the axes in the dtype to accumulate in."""
    if array is None:
        return None
    array = jnp.asarray(array)
    check_same_dtype(name, "x", x, what, array)
    if len(shape) == 1:
        check_channels(name, x, what, array)
    if array.shape != shape:
        raise ValueError(
            f"{name}: wrong {what} shape: got {array.shape} with x {x.shape}, need {shape}; "
            f"give one number for each value of the axes, or use group_norm for one per channel"
        )
    return array.astype(accum_dtype(x.dtype)).reshape((1,) * (x.ndim - len(shape)) + shape)


def _last_axes(name, x, axes):
    given = (axes,) if is_int(axes) else tuple(axes)
    found = sorted(a + x.ndim if a < 0 else a for a in given)
    if not found or found != list(range(x.ndim - len(found), x.ndim)):
        raise ValueError(
            f"{name}: axes are not the last: got axes={axes!r} with x {x.shape}, need the last "
            f"of x such as -1 or (-2, -1); write jnp.moveaxis to bring others there"
        )
    return tuple(found)


def _shards(name, axis_name):
    """Return how many parts the batch is in."""
    if axis_name is None:
        return 1
    try:
        return lax.psum(1, axis_name)
    except NameError as error:
        raise ValueError(
            f"{name}: no such axis: got axis_name={axis_name!r}, need an axis of the shard_map or "
            f"vmap around; write axis_name=None under plain jit, which sees the whole batch"
        ) from error
