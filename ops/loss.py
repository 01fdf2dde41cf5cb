"""Losses. Each is computed per example, weighted, and then averaged, added up or left alone."""

from typing import Literal

import jax
import jax.numpy as jnp

from .dtype import check_floating, wide

Reduction = Literal["mean", "sum", "none"]


def softmax_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    weights: jax.Array | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Cross-entropy between labels and the softmax of logits.

    .. math:: \ell = -\sum_k q_k \log p_k, \qquad p = \mathrm{softmax}(z), \qquad
        \frac{\partial \ell}{\partial z_k} = p_k - q_k

    with q the one-hot vector of the label, or the given probabilities, after label smoothing
    q <- (1 - e) q + e / K.

    Args:
        logits: z, ``(N, ..., K)``, floating point.
        labels: class indices, ``(N, ...)`` of an integer dtype, or probabilities (one-hot
            vectors, say), ``(N, ..., K)`` of a float dtype.
        weights: non-negative, of the shape of the leading axes of the labels: per example
            ``(N,)``, or finer. Zero takes an example out, whatever its label.
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
        ``weights=class_weights[labels]``, and the mean then divides by their sum, as in PyTorch.
        A mean over weights that are all zero is NaN.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    _check_labels(logits, labels, label_smoothing)
    log_p = jax.nn.log_softmax(logits.astype(wide(logits.dtype)))
    K = logits.shape[-1]
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = labels.astype(jnp.int32)[..., None]
        hit = labels == jnp.arange(K, dtype=jnp.int32).reshape((1,) * (logits.ndim - 1) + (K,))
        known = jnp.any(hit, axis=-1)
        loss = jnp.where(known, -jnp.sum(jnp.where(hit, log_p, 0), axis=-1), jnp.nan)
    else:
        loss = -jnp.sum(labels.astype(log_p.dtype) * log_p, axis=-1)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * jnp.mean(log_p, axis=-1)
    return _reduce("softmax_cross_entropy", loss, weights, reduction)


def mse(
    prediction: jax.Array,
    target: jax.Array,
    *,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Mean squared error.

    .. math:: \frac{1}{n} \sum_i (p_i - t_i)^2, \qquad
        \frac{\partial}{\partial p_i} = \frac{2}{n} (p_i - t_i)

    Args:
        prediction: p, any shape, floating point.
        target: t, the same shape, floating point.
        weights: non-negative, of the shape of the leading axes of `prediction`: ``(N,)`` for one
            per example, or finer. Zero takes an element out.
        reduction: "mean" (the weighted sum over the sum of the elements' weights), "sum" or
            "none".

    Returns:
        A scalar, or the shape of `prediction` for "none"; float32, or float64 for float64.

    Raises:
        ValueError: shapes that do not match (nothing is broadcast), or an unknown `reduction`.
        TypeError: an operand is not floating point.

    Example:
        >>> mse(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]))
        Array(2.5, dtype=float32)
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    check_floating("mse", "prediction", prediction)
    check_floating("mse", "target", target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"mse: shapes differ: got prediction {prediction.shape} and target {target.shape}, "
            f"need the same shape; write target.reshape(prediction.shape) if only the axes differ"
        )
    dtype = wide(prediction.dtype)
    loss = jnp.square(prediction.astype(dtype) - target.astype(dtype))
    return _reduce("mse", loss, weights, reduction)


def _check_labels(logits, labels, label_smoothing):
    name = "softmax_cross_entropy"
    check_floating(name, "logits", logits)
    got = f"got labels {labels.dtype} {labels.shape} with logits {logits.shape}"
    if logits.ndim == 0:
        raise ValueError(f"{name}: no class axis: {got}, need logits (..., K); add an axis")
    if jnp.issubdtype(labels.dtype, jnp.integer):
        if labels.ndim == logits.ndim:
            raise TypeError(
                f"{name}: integer labels with a class axis: {got}, need class indices "
                f"{logits.shape[:-1]} or float probabilities {logits.shape}; write "
                f"labels.astype(logits.dtype) if they are one-hot, labels[..., 0] if the last "
                f"axis has one index"
            )
        need, remedy = logits.shape[:-1], "give one class index per example"
    elif jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.ndim == logits.ndim - 1:
            raise TypeError(
                f"{name}: float labels without a class axis: {got}, need integer class indices "
                f"{logits.shape[:-1]} or probabilities {logits.shape}; write "
                f"labels.astype(jnp.int32) if they are class indices"
            )
        need, remedy = logits.shape, "give one probability per class"
    else:
        raise TypeError(
            f"{name}: labels are neither integers nor floats: {got}, need class indices or "
            f"probabilities; write labels.astype(jnp.int32)"
        )
    if labels.shape != need:
        raise ValueError(f"{name}: shapes do not match: {got}, need labels {need}; {remedy}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"{name}: bad label_smoothing: got {label_smoothing!r}, need 0 <= e < 1; write 0.1, "
            f"for example"
        )


def _reduce(name, loss, weights, reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{name}: unknown reduction: got {reduction!r}, need 'mean', 'sum' or 'none'; write "
            f"reduction='mean'"
        )
    if weights is None:
        weights = jnp.ones_like(loss)
    else:
        weights = _broadcast_weights(name, jnp.asarray(weights), loss)
        loss = jnp.where(weights == 0, 0, weights * loss)
    if reduction == "none":
        return loss
    total = jnp.sum(loss)
    return total if reduction == "sum" else total / jnp.sum(weights)


def _broadcast_weights(name, weights, loss):
    if weights.shape != loss.shape[: weights.ndim]:
        raise ValueError(
            f"{name}: wrong weights: got shape {weights.shape}, need {loss.shape} or its leading "
            f"axes; give one weight per example, {loss.shape[:1]}"
        )
    weights = weights.astype(loss.dtype).reshape(weights.shape + (1,) * (loss.ndim - weights.ndim))
    return jnp.broadcast_to(weights, loss.shape)
