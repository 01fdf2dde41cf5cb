"""Losses."""

import jax
import jax.numpy as jnp


def softmax_cross_entropy(logits, labels, *, weights=None, label_smoothing=0.0, reduction="mean"):
    """Cross-entropy of softmax(logits) with labels: class indices or probabilities."""
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    K = logits.shape[-1]
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jax.nn.one_hot(labels, K, dtype=log_p.dtype)
    labels = (1 - label_smoothing) * labels.astype(log_p.dtype) + label_smoothing / K
    return _reduce(-jnp.sum(labels * log_p, -1), weights, reduction)


def mse(prediction, target, *, weights=None, reduction="mean"):
    """Mean squared error."""
    return _reduce(jnp.square(prediction - target), weights, reduction)


def _reduce(loss, weights, reduction):
    if weights is None:
        return {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}[reduction](loss)
    weights = jnp.asarray(weights).astype(loss.dtype)
    weights = jnp.broadcast_to(
        weights.reshape(weights.shape + (1,) * (loss.ndim - weights.ndim)), loss.shape
    )
    loss = loss * weights
    if reduction == "mean":
        return jnp.sum(loss) / jnp.sum(weights)
    return jnp.sum(loss) if reduction == "sum" else loss
