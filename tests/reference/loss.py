"""Losses, one example at a time."""

import numpy as np


def softmax_cross_entropy(logits, q):
    """-sum_k q_k log p_k of each example, and its gradient p - q, for probabilities q."""
    loss, grad = np.zeros(logits.shape[:-1]), np.zeros(logits.shape)
    for n in np.ndindex(loss.shape):
        z = np.asarray(logits[n], float)
        log_sum = z.max() + np.log(sum(np.exp(z_k - z.max()) for z_k in z))
        for k in range(len(z)):
            loss[n] -= q[n][k] * (z[k] - log_sum)
            grad[n][k] = np.exp(z[k] - log_sum) - q[n][k]
    return loss, grad


def one_hot(labels, K, label_smoothing):
    """q = (1 - e) [k = label] + e / K."""
    q = np.full((*labels.shape, K), label_smoothing / K)
    for n in np.ndindex(labels.shape):
        q[n][labels[n]] += 1 - label_smoothing
    return q
