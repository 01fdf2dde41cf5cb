"""The loss of linear discriminant analysis: classes far apart, each of them narrow."""

import jax
import jax.numpy as jnp

from ..common.dtypes import accum_dtype
from .reduction import (
    check_count,
    check_embeddings,
    check_number,
    example_weights,
    full_dot,
    one_hot_mask,
    safe_divide,
    safe_sqrt,
    zero_masked,
)


def lda_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    num_classes: int,
    *,
    regularization: float | jax.Array = 1e-3,
    epsilon: float | jax.Array = 1.0,
    weights: jax.Array | None = None,
) -> jax.Array:
    r"""Compute minus the mean of the smallest eigenvalues of linear discriminant analysis.

    With the mean m of the batch, the means m_c and the shares of weight :math:`\pi_c` of its
    classes, the scatter between and within classes are

    .. math:: S_b = \sum_c \pi_c (m_c - m)(m_c - m)^T, \qquad
        S_w = \frac{1}{W} \sum_i w_i (x_i - m_{y_i})(x_i - m_{y_i})^T, \qquad W = \sum_i w_i

    An eigenvector of :math:`S_b e = v (S_w + \lambda I) e` is a direction in which the classes are
    apart, and v says how far. There are r = min(classes in the batch - 1, D) eigenvalues above 0;
    raising the least of them, those below the smallest plus epsilon, pulls apart what is closest:

    .. math:: L = -\frac{1}{|J|} \sum_{j \in J} v_j, \qquad
        J = \{ j : v_j < \min(v_1, \ldots, v_r) + \epsilon \}

    .. math:: \frac{\partial v}{\partial x_i} = \frac{2 w_i}{W} \left[ e^T (m_{y_i} - m)
        - v\, e^T (x_i - m_{y_i}) \right] e \qquad \text{with } e^T (S_w + \lambda I) e = 1

    Args:
        embeddings: x, ``(N, D)``, floating point.
        labels: y, class indices, ``(N,)``, of an integer dtype.
        num_classes: K; some of them may be missing from the batch.
        regularization: lambda, above 0: the larger, the steadier, and the less the narrowness of
            the classes counts.
        epsilon: above 0.
        weights: w, non-negative or truth values, ``(N,)``. Zero takes an example out, whatever it
            holds.

    Returns:
        A scalar; float32, or float64 for float64 embeddings. There is nothing to reduce: the loss
        is one of the batch, which should hold several examples of each class.

    Raises:
        ValueError: shapes that do not match, `num_classes`, `regularization` or `epsilon` out of
            range.
        TypeError: `embeddings` are not floating point, or `labels` not integers.

    Example:
        >>> x, y = jnp.array([[-3.0], [-1.0], [1.0], [3.0]]), jnp.array([0, 0, 1, 1])
        >>> print(f"{lda_loss(x, y, 2, regularization=1.0):.3f}")  # S_b = 4, S_w = 1
        -2.000

    Note:
        The paper estimates each S_c with 1 / (N_c - 1), takes their plain mean, and S_b from the
        total; here all are the moments of the batch, so that S_w + S_b is its scatter, and a class
        of one example does no harm. Equal eigenvalues do none either, to the first and second
        derivative. A batch of fewer than two classes has loss 0. A class index outside
        0 ... K - 1 gives NaN, unless its weight is zero. PyTorch has no such loss.

    References:
        Dorfer et al., Deep Linear Discriminant Analysis, arXiv:1511.04707.
    """
    x, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    K = _check("lda_loss", x, labels, num_classes, regularization, epsilon)
    dtype, D = accum_dtype(x.dtype), x.shape[1]
    regularization, epsilon = (jnp.asarray(a, dtype) for a in (regularization, epsilon))
    w = example_weights("lda_loss", weights, labels, dtype)
    x, hit = zero_masked(x.astype(dtype), w), one_hot_mask(zero_masked(labels, w), K)
    known = jnp.all(jnp.any(hit, axis=-1))
    one_hot = hit.astype(dtype)

    W = jnp.where(jnp.any(w != 0), jnp.sum(w), 1)
    share = full_dot(w[None], one_hot)[0] / W  # (K,)
    means = safe_divide(full_dot((w[:, None] * one_hot).T, x) / W, share[:, None])  # (K, D)
    mean = full_dot(share[None], means)
    inside = safe_sqrt(w / W)[:, None] * (x - full_dot(one_hot, means))  # (N, D)
    within = full_dot(inside.T, inside) + regularization * jnp.eye(D, dtype=dtype)
    between = safe_sqrt(share)[:, None] * (means - mean)  # (K, D), S_b = between^T between

    # Of L^-1 S_b L^-T with S_w + lambda I = L L^T; those of A A^T and of A^T A are the same, but
    # for zeros, and the smaller matrix is better.
    A = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(within), between.T, lower=True)
    M = full_dot(A.T, A) if K <= D else full_dot(A, A.T)
    rank = jnp.minimum(jnp.sum(share > 0, dtype=jnp.int32) - 1, D)
    return jnp.where(known, -_mean_of_smallest(epsilon, M, rank), jnp.nan)


@jax.custom_jvp
def _mean_of_smallest(epsilon, M, rank):
    """Average those of the `rank` largest eigenvalues that are below the least plus epsilon."""
    v, _, chosen = _choose(epsilon, M, rank)
    return jnp.sum(jnp.where(chosen == 0, 0, chosen * v))


@_mean_of_smallest.defjvp
def _mean_of_smallest_jvp(primals, tangents):
    """Compute tr(P dM) / |J|, with the projector P onto the space of the chosen eigenvectors."""
    (epsilon, M, rank), (_, dM, _) = primals, tangents  # epsilon chooses, and is flat else
    slope = jnp.sum(_projector(epsilon, M, rank) * dM)
    return _mean_of_smallest(epsilon, M, rank), slope


@jax.custom_jvp
def _projector(epsilon, M, rank):
    """Compute P / |J|.

    Unlike the single vectors, it stays smooth where two of them share an eigenvalue.
    """
    _, V, chosen = _choose(epsilon, M, rank)
    return full_dot(V * chosen[None], V.T)


@_projector.defjvp
def _projector_jvp(primals, tangents):
    """Compute dP = sum_{i in J, j not} (e_i e_i^T dM e_j e_j^T + transposed) / (v_i - v_j)."""
    (epsilon, M, rank), (_, dM, _) = primals, tangents
    v, V, chosen = _choose(epsilon, M, rank)
    step, gap = chosen[:, None] - chosen[None], v[:, None] - v[None]
    slope = jnp.where(step == 0, 0, safe_divide(step, jnp.where(step == 0, 1, gap)))
    turned = full_dot(full_dot(V.T, dM), V)
    return _projector(epsilon, M, rank), full_dot(full_dot(V, slope * turned), V.T)


def _choose(epsilon, M, rank):
    """Return eigenvalues, eigenvectors, and 1 / |J| for those in J."""
    nothing = ~jnp.any(M != 0)  # of one class, say: of zeros, solvers on GPU find no eigenvalues
    v, V = jnp.linalg.eigh(jnp.where(nothing, jnp.eye(len(M), dtype=M.dtype), M))  # ascending
    v = jnp.where(nothing, 0, v)
    nontrivial = jnp.arange(len(v), dtype=jnp.int32) >= len(v) - rank
    least = jnp.min(jnp.where(nontrivial, v, jnp.inf))
    chosen = (nontrivial & ~(v >= least + epsilon)).astype(M.dtype)  # NaN is chosen, to come out
    return v, V, safe_divide(chosen, jnp.sum(chosen))


def _check(name, x, labels, num_classes, regularization, epsilon):
    check_embeddings(name, x, labels)
    if x.shape[1] == 0:
        raise ValueError(f"{name}: no axis of the embedding: got {x.shape}, need D >= 1; add one")
    K = check_count(name, "num_classes", num_classes, 1, 10)
    for what, value, example in (
        ("regularization", regularization, 1e-3),
        ("epsilon", epsilon, 1.0),
    ):
        check_number(name, what, value, lambda a: a > 0, f"{what} > 0", example)
    return K
