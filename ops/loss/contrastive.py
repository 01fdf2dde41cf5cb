"""Losses of pairs and triplets: what belongs together comes close, the rest keeps its distance."""

import jax
import jax.numpy as jnp

from ..activation import relu
from ..common.dtypes import accum_dtype, check_floating, check_same_dtype
from .reduction import (
    Reduction,
    check_margin,
    check_number,
    check_same_shape,
    full_weights,
    is_zero,
    reduce,
    safe_sqrt,
    squared_distance,
    unit_vectors,
    zero_masked,
)


def contrastive_loss(
    a: jax.Array,
    b: jax.Array,
    same: jax.Array,
    *,
    margin: float | jax.Array = 1.0,
    positive_margin: float | jax.Array = 0.0,
    squared: bool = False,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the contrastive loss of pairs, as of the two branches of a Siamese network.

    .. math:: \ell = \tfrac12 \left[ y \max(D - m_+, 0)^2 + (1 - y) \max(m - D, 0)^2 \right],
        \qquad D = \lVert a - b \rVert_2

    .. math:: \frac{\partial \ell}{\partial a} = -\frac{\partial \ell}{\partial b} =
        \left[ y \max(D - m_+, 0) - (1 - y) \max(m - D, 0) \right] \frac{a - b}{D}

    With `squared` it is the form on squared distances d,

    .. math:: \ell = \tfrac12 \left[ y \max(d - m_+, 0) + (1 - y) \max(m - d, 0) \right],
        \qquad d = \lVert a - b \rVert_2^2, \qquad \frac{\partial \ell}{\partial a} =
        \left( y [d > m_+] - (1 - y) [d < m] \right) (a - b)

    Args:
        a: embeddings, ``(N, ..., D)``, floating point.
        b: the others of the pairs, the same shape and dtype.
        same: y, true for a pair of the same class, ``(N, ...)``, boolean.
        margin: m, the distance that pairs of different classes should keep; zero or more.
        positive_margin: m+, the distance within which a pair of the same class is close enough;
            zero or more. Lin et al. have such a double margin.
        squared: measure, and give both margins, in squared distances.
        weights: non-negative or truth values, of the shape of the leading axes of `same`: per
            pair ``(N,)``, or finer. Zero takes a pair out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, a negative margin, or an unknown `reduction`.
        TypeError: `a` and `b` are not of one float dtype, or `same` is not boolean.

    Example:
        >>> a, b = jnp.zeros((2, 2)), jnp.array([[0.3, 0.4], [0.3, 0.4]])  # D = 0.5
        >>> contrastive_loss(a, b, jnp.array([True, False]), margin=2.0, reduction="none")
        Array([0.125, 1.125], dtype=float32)

    Note:
        Where D = 0 the direction from b to a is undefined, and the derivative is taken as 0: two
        examples of different classes in the very same place do not move. At a margin reached
        exactly the derivative is 0 too. PyTorch has no such loss.

    References:
        Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006. Gu et
        al., arXiv:1512.07108, 3.4.3. Lin et al., DeepHash, arXiv:1501.04711.
    """
    name = "contrastive_loss"
    a, b, same = jnp.asarray(a), jnp.asarray(b), jnp.asarray(same)
    _check_alike(name, {"a": a, "b": b})
    _check_same(name, a, same)
    check_margin(name, margin)
    check_margin(name, positive_margin, "positive_margin", 0.0)
    (a, b), weights = _prepare(name, (a, b), weights)
    distance = squared_distance(a, b)
    m, near = (jnp.asarray(v, distance.dtype) for v in (margin, positive_margin))
    if squared:
        loss = jnp.where(same, relu(distance - near), relu(m - distance))
    else:
        D = safe_sqrt(distance)
        # Without a positive margin D^2 is smooth at 0, which the root is not.
        pull = distance if is_zero(positive_margin) else jnp.square(relu(D - near))
        loss = jnp.where(same, pull, jnp.square(relu(m - D)))
    return reduce(name, loss / 2, weights, reduction)


def cosine_embedding_loss(
    a: jax.Array,
    b: jax.Array,
    same: jax.Array,
    *,
    margin: float | jax.Array = 0.0,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the cosine embedding loss of pairs, which looks at directions alone.

    .. math:: \ell = \begin{cases} 1 - c & \text{of the same class} \\
        \max(0,\, c - m) & \text{else} \end{cases}, \qquad
        c = \frac{a \cdot b}{\lVert a \rVert \lVert b \rVert}, \qquad
        \frac{\partial c}{\partial a} = \frac{1}{\lVert a \rVert}
        \left( \frac{b}{\lVert b \rVert} - c \frac{a}{\lVert a \rVert} \right)

    Args:
        a: embeddings, ``(N, ..., D)``, floating point.
        b: the others of the pairs, the same shape and dtype.
        same: true for a pair of the same class, ``(N, ...)``, boolean.
        margin: m, the cosine below which two classes are far enough apart, in [-1, 1].
        weights: non-negative or truth values, of the shape of the leading axes of `same`: per
            pair ``(N,)``, or finer. Zero takes a pair out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, a margin out of range, or an unknown `reduction`.
        TypeError: `a` and `b` are not of one float dtype, or `same` is not boolean.

    Example:
        >>> a, b = jnp.array([[2.0, 0.0]] * 2), jnp.array([[3.0, 4.0]] * 2)  # c = 0.6
        >>> same = jnp.array([True, False])
        >>> print(cosine_embedding_loss(a, b, same, margin=0.5, reduction="none").round(3))
        [0.4 0.1]

    Note:
        PyTorch's `cosine_embedding_loss`, whose target is 1 or -1, and which adds 1e-12 to the
        squared lengths. A vector of length 0 has cosine 0 with all others, and derivative 0.
    """
    name = "cosine_embedding_loss"
    a, b, same = jnp.asarray(a), jnp.asarray(b), jnp.asarray(same)
    _check_alike(name, {"a": a, "b": b})
    _check_same(name, a, same)
    check_number(name, "margin", margin, lambda m: -1 <= m <= 1, "-1 <= margin <= 1", 0.0)
    (a, b), weights = _prepare(name, (a, b), weights)
    cosine = jnp.sum(unit_vectors(a) * unit_vectors(b), axis=-1)
    loss = jnp.where(same, 1 - cosine, relu(cosine - jnp.asarray(margin, cosine.dtype)))
    return reduce(name, loss, weights, reduction)


def triplet_loss(
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    margin: float | jax.Array = 1.0,
    squared: bool = False,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the triplet loss: an anchor is nearer to its own class than to another, by a margin.

    .. math:: \ell = \max(0,\, m + D_{ap} - D_{an}), \qquad D_{ap} = \lVert a - p \rVert_2,
        \quad D_{an} = \lVert a - n \rVert_2

    .. math:: \frac{\partial \ell}{\partial p} = -\frac{a - p}{D_{ap}}, \qquad
        \frac{\partial \ell}{\partial n} = \frac{a - n}{D_{an}}, \qquad
        \frac{\partial \ell}{\partial a} = -\frac{\partial \ell}{\partial p}
        - \frac{\partial \ell}{\partial n} \qquad \text{where } \ell > 0, \text{ else } 0

    With `squared`, the distances are squared, and their directions
    :math:`(a - p) / D_{ap}` become :math:`2 (a - p)`.

    Args:
        anchor: a, embeddings, ``(N, ..., D)``, floating point.
        positive: p, of the anchors' classes, the same shape and dtype.
        negative: n, of other classes, the same shape and dtype.
        margin: m, zero or more.
        squared: measure, and give the margin, in squared distances, as FaceNet does.
        weights: non-negative or truth values, of the shape of the leading axes: per triplet
            ``(N,)``, or finer. Zero takes a triplet out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of weights), "sum" or "none".

    Returns:
        A scalar, or ``(N, ...)`` for "none"; float32, or float64 for float64 embeddings.

    Raises:
        ValueError: shapes that do not match, a negative margin, or an unknown `reduction`.
        TypeError: the embeddings are not of one float dtype.

    Example:
        >>> a, p, n = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 5.5]])
        >>> triplet_loss(a, p, n)  # 1 + 5 - 5.5
        Array(0.5, dtype=float32)

    Note:
        PyTorch's `triplet_margin_loss` adds eps = 1e-6 to each difference; this is its eps = 0. At
        a distance of 0 the derivative of the distance, and at the hinge that of the loss, is 0.
        `batch_hard_triplet_loss` and `semi_hard_triplet_loss` mine the triplets of a batch.

    References:
        Schroff et al., FaceNet, arXiv:1503.03832. Gu et al., arXiv:1512.07108, 3.4.4.
    """
    a, p, n = jnp.asarray(anchor), jnp.asarray(positive), jnp.asarray(negative)
    _check_alike("triplet_loss", {"anchor": a, "positive": p, "negative": n})
    check_margin("triplet_loss", margin)
    (a, p, n), weights = _prepare("triplet_loss", (a, p, n), weights)
    length = (lambda d: d) if squared else safe_sqrt
    ahead = length(squared_distance(a, n)) - length(squared_distance(a, p))
    loss = relu(jnp.asarray(margin, ahead.dtype) - ahead)
    return reduce("triplet_loss", loss, weights, reduction)


def _check_alike(name, operands):
    (first, a), *others = operands.items()
    check_floating(name, first, a)
    if a.ndim == 0:
        raise ValueError(
            f"{name}: no axis of the embedding: got {first} {a.shape}, need (N, ..., D); add an "
            f"axis"
        )
    for other, b in others:
        check_same_dtype(name, first, a, other, b)
        check_same_shape(name, first, a, other, b)


def _check_same(name, a, same):
    """Raise unless there is a truth value for each pair."""
    if same.dtype != jnp.bool_:
        raise TypeError(
            f"{name}: same is not boolean: got {same.dtype} {same.shape}, need truth values "
            f"{a.shape[:-1]}; write same > 0 for targets of 1 and -1 or 0, or labels_a == labels_b "
            f"from class indices"
        )
    if same.shape != a.shape[:-1]:
        raise ValueError(
            f"{name}: shapes do not match: got same {same.shape} with a and b {a.shape}, need "
            f"{a.shape[:-1]}; give one truth value per pair"
        )


def _prepare(name, operands, weights):
    """Return the operands in the accumulation dtype, zero where the weight is, and the weights."""
    dtype = accum_dtype(operands[0].dtype)
    weights = full_weights(name, weights, operands[0].shape[:-1], dtype)
    return [zero_masked(a.astype(dtype), weights) for a in operands], weights
