r"""Weights of classes: by how much the loss of an example counts in training, by its class.

Of weights w the loss of a batch of N examples is

.. math:: L = \frac{1}{N} \sum_{i=1}^{N} w_{y_i} \ell_i

and of an example whose label is probabilities p, as mixed images have, w is :math:`\sum_c p_c w_c`.
The sum is divided by N and not by the sum of the weights: parts of a batch then count alike however
it is divided, and an example is as much in one batch as in another.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array


def balanced_weights(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    r"""Compute the weights with which each class counts as much as another.

    .. math:: w_c = \frac{n}{k\, n_c}

    for n examples, n_c of them of class c, and k classes that have some: the mean of the weights of
    all examples is 1. A class without any has weight 1, which nothing is multiplied by.

    Args:
        counts: ``(K,)``, the examples of each class.

    Returns:
        ``(K,)`` float32.

    Example:
        >>> balanced_weights([40, 10, 0]).tolist()  # 50 / (2 * 40), 50 / (2 * 10)
        [0.625, 2.5, 1.0]

    References:
        scikit-learn's ``class_weight="balanced"``; King & Zeng, Logistic regression in rare events
        data, 2001.
    """
    counts = np.asarray(counts, np.float64)
    there = counts > 0
    weights = counts.sum() / (there.sum() * np.where(there, counts, 1))
    return np.where(there, weights, 1).astype(np.float32)


def weighted(loss: Callable[[Array, Array], Array], weights: Array) -> Callable[..., Array]:
    """Return a loss ``(outputs, targets) -> (N,)`` that is multiplied by the weights of classes.

    Args:
        loss: a number for each example, of logits ``(N, K)`` and classes ``(N,)``, or their
            probabilities ``(N, K)``.
        weights: ``(K,)``.
    """

    def of_classes(outputs: Array, targets: Array) -> Array:
        each = loss(outputs, targets)
        table = jnp.asarray(weights, each.dtype)
        mixed = targets.ndim == outputs.ndim
        return each * (targets.astype(each.dtype) @ table if mixed else table[targets])

    return of_classes
