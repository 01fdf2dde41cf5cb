"""Cross-entropies of cosines with a direction for each class: an angular margin between classes."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..activation import relu
from ..common.dtypes import accum_dtype, check_same_dtype
from .reduction import (
    Reduction,
    check_embeddings,
    check_margin,
    check_number,
    full_dot,
    full_weights,
    nan_if_unknown,
    one_hot_mask,
    reduce,
    safe_sqrt,
    unit_vectors,
    zero_masked,
)


def arcface_loss(
    embeddings: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.5,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the ArcFace loss: an example is nearer to its class by a margin in the angle.

    .. math:: \ell = -\log \frac{e^{s \cos(\theta_y + m)}}
        {e^{s \cos(\theta_y + m)} + \sum_{k \ne y} e^{s \cos \theta_k}}, \qquad
        \cos \theta_k = \frac{x \cdot w_k}{\lVert x \rVert \lVert w_k \rVert}

    with w_k column k of the kernel. With p the softmax of those logits,

    .. math:: \frac{\partial \ell}{\partial \cos \theta_k} = s\, p_k, \qquad
        \frac{\partial \ell}{\partial \cos \theta_y} =
        s\, (p_y - 1) \frac{\sin(\theta_y + m)}{\sin \theta_y}, \qquad
        \frac{\partial \cos \theta_k}{\partial x} =
        \frac{\hat w_k - \cos \theta_k\, \hat x}{\lVert x \rVert}, \quad
        \frac{\partial \cos \theta_k}{\partial w_k} =
        \frac{\hat x - \cos \theta_k\, \hat w_k}{\lVert w_k \rVert}

    Args:
        embeddings: x, ``(N, D)``, floating point; of any length.
        kernel: a direction for each class, ``(D, K)``, dtype of `embeddings`: parameters, learned
            with the network.
        labels: y, class indices, ``(N,)``, integers.
        scale: s, above zero.
        margin: m, in radians, at least 0 and below pi.
        weights: non-negative or truth values, ``(N,)``. Zero takes an example out, whatever it
            holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N,)`` for "none"; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, `scale`, `margin` or `reduction` out of range.
        TypeError: `embeddings` and `kernel` are not of one float dtype, or labels no integers.

    Example:
        >>> x, W = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0], [3.0, 0.0]])
        >>> loss = arcface_loss(x, W, jnp.array([1]), scale=1.0, margin=jnp.pi / 2)
        >>> print(jnp.round(loss, 4))  # both logits are 0: log 2
        0.6931

    Note:
        Where theta_y + m passes pi, the cosine would rise again; there the logit is
        s (cos theta_y - m sin m), as in the authors' code, which goes on falling. Where theta_y is
        exactly 0 or pi it has no derivative, and that of its sine is taken as 0; a vector of
        length 0 is at a right angle to all others. A class index outside 0 ... K - 1 cannot raise
        under jit; its loss is NaN. PyTorch has no such loss.

    References:
        Deng et al., ArcFace, CVPR 2019, arXiv:1801.07698, equation 3.
    """
    name = "arcface_loss"
    check_number(name, "margin", margin, lambda m: 0 <= m < math.pi, "0 <= margin < pi", 0.5)

    def penalize(cosine: jax.Array) -> jax.Array:
        m = jnp.asarray(margin, cosine.dtype)
        sine = safe_sqrt(relu(1 - jnp.square(cosine)))  # rounding may bring the cosine past 1
        within = cosine > -jnp.cos(m)  # theta + m < pi
        return jnp.where(within, cosine * jnp.cos(m) - sine * jnp.sin(m), cosine - m * jnp.sin(m))

    return _margin_loss(name, embeddings, kernel, labels, scale, penalize, weights, reduction)


def cosface_loss(
    embeddings: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    *,
    scale: float | jax.Array = 64.0,
    margin: float | jax.Array = 0.35,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the CosFace loss: an example is nearer to its class by a margin in the cosine.

    .. math:: \ell = -\log \frac{e^{s (\cos \theta_y - m)}}
        {e^{s (\cos \theta_y - m)} + \sum_{k \ne y} e^{s \cos \theta_k}}, \qquad
        \frac{\partial \ell}{\partial \cos \theta_k} = s\, (p_k - [k = y])

    with the cosines of `arcface_loss`, and p the softmax of these logits.

    Args:
        embeddings: x, ``(N, D)``, floating point; of any length.
        kernel: a direction for each class, ``(D, K)``, dtype of `embeddings`: parameters, learned
            with the network.
        labels: y, class indices, ``(N,)``, integers.
        scale: s, above zero.
        margin: m, zero or more.
        weights: non-negative or truth values, ``(N,)``. Zero takes an example out, whatever it
            holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N,)`` for "none"; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, `scale`, `margin` or `reduction` out of range.
        TypeError: `embeddings` and `kernel` are not of one float dtype, or labels no integers.

    Example:
        >>> x, W = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0], [3.0, 0.0]])
        >>> loss = cosface_loss(x, W, jnp.array([1]), scale=1.0, margin=1.0)
        >>> print(loss)  # both logits are 0: log 2
        0.6931472

    Note:
        A margin of 0 makes it the cross-entropy of scaled cosines (NormFace). A vector of length 0
        is at a right angle to all others. A class index outside 0 ... K - 1 cannot raise under
        jit; its loss is NaN. PyTorch has no such loss.

    References:
        Wang et al., CosFace, CVPR 2018, arXiv:1801.09414, equation 4.
    """
    name = "cosface_loss"
    check_margin(name, margin, example=0.35)

    def penalize(cosine: jax.Array) -> jax.Array:
        return cosine - jnp.asarray(margin, cosine.dtype)

    return _margin_loss(name, embeddings, kernel, labels, scale, penalize, weights, reduction)


def _margin_loss(
    name: str, embeddings, kernel, labels, scale, penalize: Callable, weights, reduction: Reduction
) -> jax.Array:
    """Compute the cross-entropy of scaled cosines, of which that of the label is penalized."""
    x, kernel, labels = jnp.asarray(embeddings), jnp.asarray(kernel), jnp.asarray(labels)
    check_embeddings(name, x, labels)
    check_same_dtype(name, "embeddings", x, "kernel", kernel)
    if kernel.ndim != 2 or x.shape[1] != kernel.shape[0]:
        raise ValueError(
            f"{name}: shapes do not match: got embeddings {x.shape} and kernel {kernel.shape}, "
            "need (N, D) and (D, K); write kernel.T if it has a row for each class"
        )
    check_number(name, "scale", scale, lambda s: s > 0, "scale > 0", 64.0)
    dtype = accum_dtype(x.dtype)
    weights = full_weights(name, weights, labels.shape, dtype)
    x = zero_masked(x.astype(dtype), weights)
    cosine = full_dot(unit_vectors(x), unit_vectors(kernel.astype(dtype), 0))
    hit = one_hot_mask(labels, kernel.shape[1])
    logits = jnp.asarray(scale, dtype) * jnp.where(hit, penalize(cosine), cosine)
    loss = -jnp.sum(jnp.where(hit, jax.nn.log_softmax(logits), 0), axis=-1)
    return reduce(name, nan_if_unknown(loss, hit), weights, reduction)
