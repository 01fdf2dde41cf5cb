"""The loss that compares two histograms of similarities."""

import jax
import jax.numpy as jnp

from ..activation import relu
from ..common.dtypes import accum_dtype
from .reduction import (
    check_count,
    check_embeddings,
    example_weights,
    full_dot,
    safe_divide,
    safe_sqrt,
    zero_masked,
)


def histogram_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    bins: int = 101,
    weights: jax.Array | None = None,
) -> jax.Array:
    r"""Compute the probability that a pair of two classes is more alike than a pair of one class.

    The similarities :math:`s_{ij} = \hat x_i \cdot \hat x_j` of the embeddings, normalized to
    length 1, are shared out among the nodes :math:`t_r = -1 + r \Delta`,
    :math:`\Delta = 2 / (R - 1)`, by linear interpolation; from the histograms of the pairs of one
    class and of two classes,

    .. math:: L = \sum_r h^-_r \sum_{q \le r} h^+_q, \qquad
        h^\pm_r = \frac{1}{W^\pm} \sum_{(i,j) \in S^\pm} w_i w_j
        \max\Bigl(0,\, 1 - \frac{|s_{ij} - t_r|}{\Delta}\Bigr)

    .. math:: \frac{\partial L}{\partial h^-_r} = \sum_{q \le r} h^+_q, \qquad
        \frac{\partial L}{\partial h^+_q} = \sum_{r \ge q} h^-_r, \qquad
        \frac{\partial h^\pm_{r+1}}{\partial s_{ij}} = -\frac{\partial h^\pm_r}{\partial s_{ij}} =
        \frac{w_i w_j}{W^\pm \Delta} \text{ for } t_r < s_{ij} < t_{r+1}, \qquad
        \frac{\partial s_{ij}}{\partial x_i} =
        \frac{\hat x_j - s_{ij} \hat x_i}{\lVert x_i \rVert}

    Args:
        embeddings: x, ``(N, D)``, floating point, of any length.
        labels: ``(N,)``, integers: equal for the examples of a class.
        bins: R, the number of nodes; two or more.
        weights: w, non-negative or truth values, ``(N,)``; a pair weighs the product of its two,
            and W is their sum. Zero takes an example out, whatever it holds.

    Returns:
        A scalar in [0, 1]; float32, or float64 for float64 embeddings. There is nothing to reduce:
        the loss is one of the batch.

    Raises:
        ValueError: shapes that do not match, or fewer than two bins.
        TypeError: `embeddings` are not floating point, or `labels` not integers.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]])
        >>> print(histogram_loss(x, jnp.array([0, 0, 1, 1])))  # told apart
        0.0
        >>> print(histogram_loss(x, jnp.array([0, 1, 2, 0])))  # the pair is opposite
        1.0

    Note:
        For a similarity exactly at a node, a kink, the derivative is 0. A vector of length 0 has
        similarity 0 to all and derivative 0. A batch without a pair of one class, or of two, has
        loss 0. PyTorch has no such loss.

    References:
        Ustinova & Lempitsky, Learning Deep Embeddings with Histogram Loss, arXiv:1611.00822.
    """
    name = "histogram_loss"
    x, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    check_embeddings(name, x, labels)
    bins = check_count(name, "bins", bins, 2, 101)
    dtype = accum_dtype(x.dtype)
    w = example_weights(name, weights, labels, dtype)
    x = zero_masked(x.astype(dtype), w)

    # The length is squared: of 1e20 it would overflow, of 1e-23 vanish. It cancels in any case.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0))
    x = x / jnp.where(largest == 0, 1, largest)
    unit = safe_divide(x, safe_sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True)))
    s = full_dot(unit, unit.T)
    position = (s + 1) * ((bins - 1) / 2)  # in units of delta: the nodes are then exact
    nodes = jnp.arange(bins, dtype=dtype).reshape(1, 1, bins)
    u = position[..., None] - nodes
    shares = relu(1 - relu(u) - relu(-u))  # N, N, R; of jnp.abs the derivative at 0 is 1

    pair = w[:, None] * w[None, :]
    same = labels[:, None] == labels[None, :]
    other = ~jnp.eye(labels.shape[0], dtype=bool)
    of_one, of_two = (jnp.where(kind, pair, 0) for kind in (same & other, ~same))
    alike, apart = (
        safe_divide(jnp.einsum("ij,ijr->r", p, shares, precision="highest"), jnp.sum(p))
        for p in (of_one, of_two)
    )
    return jnp.sum(apart * jnp.cumsum(alike))
