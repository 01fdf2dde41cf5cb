"""Losses of logits against one class per example, or against a distribution over the classes."""

import jax
import jax.numpy as jnp

from ..common.dtypes import accum_dtype
from .reduction import (
    Reduction,
    check_class_axis,
    check_number,
    check_targets,
    full_weights,
    index_remedy,
    is_zero,
    nan_if_unknown,
    one_hot_mask,
    reduce,
    zero_masked,
)


def softmax_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    weights: jax.Array | None = None,
    label_smoothing: float | jax.Array = 0.0,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the cross-entropy between labels and the softmax of logits.

    .. math:: \ell = -\sum_k q_k \log p_k, \qquad p = \mathrm{softmax}(z), \qquad
        \frac{\partial \ell}{\partial z_k} = p_k - q_k

    with q the one-hot vector of the label, or the given probabilities, after label smoothing
    q <- (1 - e) q + e / K, which `smooth_labels` is on its own. The gradient is that of labels
    that sum to 1; of others it is :math:`p_k \sum_j q_j - q_k`.

    Args:
        logits: z, ``(N, ..., K)``, floating point.
        labels: class indices, ``(N, ...)`` of an integer dtype, or probabilities (one-hot
            vectors, say), ``(N, ..., K)`` of a float dtype.
        weights: non-negative or truth values, of the shape of the leading axes of the labels: per
            example ``(N,)``, or finer. Zero takes an example out, whatever it holds.
        label_smoothing: e, in [0, 1).
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not match, `label_smoothing` or `reduction` out of range.
        TypeError: labels whose dtype and rank leave open what they are.

    Example:
        >>> logits = jnp.log(jnp.array([[2.0, 2.0], [1.0, 3.0]]))
        >>> loss = softmax_cross_entropy(logits, jnp.array([0, 1]), reduction="none")
        >>> print(jnp.exp(-loss))  # the probabilities of the right classes
        [0.5  0.75]

    Note:
        A class index outside 0 ... K - 1 cannot raise under jit; its loss is NaN. Where PyTorch
        has `ignore_index`, give those examples weight zero. Its class weights are
        ``weights=class_weights[labels]``, and the mean then divides by their sum, as in PyTorch;
        but with label smoothing PyTorch weighs the smoothing by the weight of each class, and this
        by that of the example. A mean over an empty batch, or over weights that are all zero, is
        NaN. Float labels are converted to the dtype of the logits, or float32 if that is wider. A
        traced `label_smoothing` counts as above 0. The logarithm is never taken of a rounded
        probability, so logits of +-1e4 are exact; one of -inf is a class that cannot be.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    name = "softmax_cross_entropy"
    _check_labels(name, logits, labels)
    valid = lambda e: 0 <= e < 1  # noqa: E731
    check_number(name, "label_smoothing", label_smoothing, valid, "0 <= e < 1", 0.1)
    dtype = accum_dtype(logits.dtype)
    weights = full_weights(name, weights, logits.shape[:-1], dtype)
    labels = zero_masked(labels, weights)
    log_p = jax.nn.log_softmax(zero_masked(logits.astype(dtype), weights))
    if jnp.issubdtype(labels.dtype, jnp.integer):
        hit = one_hot_mask(labels, logits.shape[-1])
        loss = nan_if_unknown(-jnp.sum(jnp.where(hit, log_p, 0), axis=-1), hit)
    else:
        q = labels.astype(dtype)
        impossible = (q == 0) & (log_p == -jnp.inf)  # 0 log 0 = 0
        loss = -jnp.sum(q * jnp.where(impossible, 0, log_p), axis=-1)
    if not is_zero(label_smoothing):
        e = jnp.asarray(label_smoothing, dtype)
        loss = (1 - e) * loss - e * jnp.mean(log_p, axis=-1)
    return reduce(name, loss, weights, reduction)


def smooth_labels(probabilities: jax.Array, *, rate: float | jax.Array) -> jax.Array:
    r"""Smooth labels: spread a share of the probability over all classes.

    .. math:: q'_k = (1 - e)\, q_k + e / K, \qquad \frac{\partial q'_k}{\partial q_k} = 1 - e

    Args:
        probabilities: q, one-hot vectors, say, ``(..., K)``, floating point.
        rate: e, in [0, 1).

    Returns:
        ``(..., K)``, dtype of `probabilities`.

    Raises:
        ValueError: no class axis, or `rate` out of range.
        TypeError: `probabilities` are not floating point: class indices, perhaps.

    Example:
        >>> print(smooth_labels(jnp.array([1.0, 0.0, 0.0, 0.0]), rate=0.2))
        [0.85 0.05 0.05 0.05]

    References:
        Szegedy et al., arXiv:1512.00567, section 7.
    """
    q = jnp.asarray(probabilities)
    if not jnp.issubdtype(q.dtype, jnp.floating):
        remedy = "probabilities.astype(jnp.float32) if they are one-hot"
        if q.dtype != jnp.bool_:
            remedy = f"jax.nn.one_hot(probabilities, K) if they are class indices, {remedy}"
        raise TypeError(
            f"smooth_labels: probabilities are not floating point: got {q.dtype} {q.shape}, need "
            f"floats (..., K); write {remedy}"
        )
    if q.ndim == 0:
        raise ValueError(f"smooth_labels: no class axis: got {q.shape}, need (..., K); add an axis")
    check_number("smooth_labels", "rate", rate, lambda e: 0 <= e < 1, "0 <= rate < 1", 0.1)
    e = jnp.asarray(rate, accum_dtype(q.dtype))
    return ((1 - e) * q.astype(e.dtype) + e / q.shape[-1]).astype(q.dtype)


def kl_divergence(
    logits: jax.Array,
    target_probabilities: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the Kullback-Leibler divergence of the softmax of logits from a target distribution.

    .. math:: \ell = \mathrm{KL}(p \,\|\, q) = \sum_k p_k (\log p_k - \log q_k), \qquad
        q = \mathrm{softmax}(z)

    .. math:: \frac{\partial \ell}{\partial z_k} = q_k \sum_j p_j - p_k, \qquad
        \frac{\partial \ell}{\partial p_k} = 1 + \log p_k - \log q_k

    Args:
        logits: z, ``(N, ..., K)``, floating point.
        target_probabilities: p, the same shape, floating point, non-negative; each row sums to 1
            (this is not checked, and without it the formulas still hold).
        weights: non-negative or truth values, of the shape of the leading axes: per example
            ``(N,)``, or finer. Zero takes an example out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not match, or an unknown `reduction`.
        TypeError: an operand is not floating point: class indices, perhaps.

    Example:
        >>> p = jnp.array([0.5, 0.5])
        >>> print(kl_divergence(jnp.log(p), p), kl_divergence(jnp.log(p), jnp.array([1.0, 0.0])))
        0.0 0.6931472

    Note:
        0 log 0 = 0: a class with p = 0 adds nothing, neither to the value nor to the derivative
        in p (which tends to minus infinity there; PyTorch gives NaN). PyTorch's `kl_div` takes
        log-probabilities, ``kl_div(log_softmax(z), p)``, and its "mean" divides by K as well; ours
        is its "batchmean".
    """
    logits, p = jnp.asarray(logits), jnp.asarray(target_probabilities)
    name = "kl_divergence"
    check_class_axis(name, logits, f"got logits {logits.shape}")
    check_targets(name, "logits", logits, "target_probabilities", p)
    dtype = accum_dtype(logits.dtype)
    weights = full_weights(name, weights, logits.shape[:-1], dtype)
    log_q = jax.nn.log_softmax(zero_masked(logits.astype(dtype), weights))
    p = zero_masked(p.astype(dtype), weights)
    there = p != 0
    log_p = jnp.log(jnp.where(there, p, 1))
    each = jnp.where(there, p * (log_p - jnp.where(there, log_q, 0)), 0)
    return reduce(name, jnp.sum(each, axis=-1), weights, reduction)


def _check_labels(name, logits, labels):
    got = f"got labels {labels.dtype} {labels.shape} with logits {logits.shape}"
    check_class_axis(name, logits, got)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        if labels.ndim == logits.ndim:
            raise TypeError(
                f"{name}: integer labels with a class axis: {got}, need class indices "
                f"{logits.shape[:-1]} or float probabilities {logits.shape}; write "
                f"labels.astype(logits.dtype) if they are one-hot, labels[..., 0] if the last "
                f"axis has one index"
            )
        need, remedy = logits.shape[:-1], index_remedy(logits, labels)
    elif jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.ndim == logits.ndim - 1:
            raise TypeError(
                f"{name}: float labels without a class axis: {got}, need integer class indices "
                f"{logits.shape[:-1]} or probabilities {logits.shape}; write "
                f"labels.astype(jnp.int32) if they are class indices"
            )
        need, remedy = logits.shape, "give one probability per class"
    else:
        dtype = "logits.dtype" if labels.shape == logits.shape else "jnp.int32"
        raise TypeError(
            f"{name}: labels are neither integers nor floats: {got}, need class indices or "
            f"probabilities; write labels.astype({dtype})"
        )
    if labels.shape != need:
        raise ValueError(f"{name}: shapes do not match: {got}, need labels {need}; {remedy}")
