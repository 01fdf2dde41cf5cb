"""Losses of logits, each a yes or no of its own, against targets between 0 and 1."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..common.dtypes import accum_dtype
from ..common.jax_compat import Tracer
from .reduction import Reduction, check_number, check_targets, full_weights, reduce, zero_masked


def binary_cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    *,
    pos_weight: jax.Array | Sequence[float] | float | None = None,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the cross-entropy between targets and the sigmoid of logits, elementwise.

    .. math:: \ell = -t \log p - (1 - t) \log(1 - p), \qquad p = \sigma(z), \qquad
        \frac{\partial \ell}{\partial z} = p - t, \qquad \frac{\partial \ell}{\partial t} = -z

    computed as s(-|z|) + max((1 - t) z, -t z) with the softplus s(z) = log(1 + exp z): a sum of
    what is not negative, whose derivative by t is -z and no difference of larger numbers.

    Args:
        logits: z, any shape, floating point.
        targets: t, the same shape, floating point, in [0, 1].
        pos_weight: c, factor of the first term, to balance rare positives: a non-negative number,
            or one per last axis, ``(C,)``. The derivative is then
            :math:`(1 - t)\, p - c\, t\, (1 - p)`.
        weights: non-negative or truth values, of the shape of the leading axes of `logits`:
            ``(N,)`` for one per example, or finer. Zero takes an element out, whatever it holds.
        reduction: "mean" (the weighted sum over the sum of the elements' weights), "sum" or
            "none".

    Returns:
        A scalar, or the shape of `logits` for "none"; float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not match, `pos_weight` or `reduction` out of range.
        TypeError: `targets` are integers or truth values: class indices, perhaps.

    Example:
        >>> binary_cross_entropy(jnp.array([0.0, 1e4]), jnp.array([1.0, 0.0]), reduction="none")
        Array([6.931472e-01, 1.000000e+04], dtype=float32)

    Note:
        PyTorch's `binary_cross_entropy_with_logits`, the weighted mean of which divides by the
        number of elements; ours divides by the sum of the weights. A mean over an empty batch is
        NaN. The targets are converted to the dtype of the logits, or float32 if that is wider.
        Exact, with its derivatives of every order, for logits of +-1e4; an infinite logit gives an
        infinite loss or NaN.
    """
    name = "binary_cross_entropy"
    z, t, weights = _prepare(name, logits, targets, weights)
    positive, negative = t, 1 - t
    loss = softplus(jnp.where(z > 0, -z, z))
    if pos_weight is not None:
        positive = _pos_weight(name, pos_weight, z) * t
        loss *= positive + negative
    loss += jnp.where(z > 0, negative * z, -positive * z)  # as s(z) = s(-z) + z
    return reduce(name, loss, weights, reduction)


def focal_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    gamma: float | jax.Array = 2.0,
    alpha: float | jax.Array | None = 0.25,
    weights: jax.Array | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    r"""Compute the focal loss, elementwise: cross-entropy that forgets what is already right.

    .. math:: \ell = -\alpha\, t\, (1 - p)^\gamma \log p
        - (1 - \alpha)(1 - t)\, p^\gamma \log(1 - p), \qquad p = \sigma(z)

    .. math:: \frac{\partial \ell}{\partial z} =
        \alpha\, t\, (1 - p)^\gamma (\gamma\, p \log p + p - 1)
        - (1 - \alpha)(1 - t)\, p^\gamma (\gamma (1 - p) \log(1 - p) - p)

    With the softplus s(z) = log(1 + exp z), (1 - p)^gamma is exp(-gamma s(z)) and -log p is s(-z):
    no power of a rounded probability is taken.

    Args:
        logits: z, any shape, floating point.
        targets: t, the same shape, floating point, in [0, 1].
        gamma: how fast the easy ones are forgotten; zero or more. 0 gives `binary_cross_entropy`,
            balanced by alpha.
        alpha: share of the positives in the balance, in [0, 1]; None for no balance (factor 1).
        weights: as in `binary_cross_entropy`.
        reduction: as in `binary_cross_entropy`. The paper divides the sum by the number of
            anchors that were assigned to an object.

    Returns:
        A scalar, or the shape of `logits` for "none"; float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not match, `gamma`, `alpha` or `reduction` out of range.
        TypeError: `targets` are integers or truth values: class indices, perhaps.

    Example:
        >>> z = jnp.log(jnp.array([1.0, 9.0]))  # p = 0.5, 0.9
        >>> easy = focal_loss(z, jnp.ones(2), alpha=None, reduction="none")
        >>> print(easy / -jnp.log(jnp.array([0.5, 0.9])))  # (1 - p)^2
        [0.25 0.01]

    Note:
        torchvision's `sigmoid_focal_loss` for targets of 0 and 1. Between them this is the mean of
        the two losses, where torchvision mixes the factors first. All derivatives are finite for
        logits of +-1e4; an infinite logit gives an infinite loss or NaN.

    References:
        Lin et al., arXiv:1708.02002, equation 5.
    """
    check_number("focal_loss", "gamma", gamma, lambda g: g >= 0, "gamma >= 0", 2.0)
    if alpha is not None:
        valid = lambda a: 0 <= a <= 1  # noqa: E731
        check_number("focal_loss", "alpha", alpha, valid, "0 <= alpha <= 1 or None", 0.25)
    z, t, weights = _prepare("focal_loss", logits, targets, weights)
    gamma, positive, negative = jnp.asarray(gamma, z.dtype), 1, 1
    if alpha is not None:
        positive = jnp.asarray(alpha, z.dtype)
        negative = 1 - positive
    wrong, right = softplus(-z), softplus(z)  # -log p, -log(1 - p)
    loss = positive * t * jnp.exp(-gamma * right) * wrong
    loss += negative * (1 - t) * jnp.exp(-gamma * wrong) * right
    return reduce("focal_loss", loss, weights, reduction)


@jax.custom_jvp
def softplus(z: jax.Array) -> jax.Array:
    """Compute log(1 + exp z), with the sigmoid as its derivative, to full relative precision."""
    return jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z)))


softplus.defjvp(lambda z, dz: (softplus(*z), jax.nn.sigmoid(z[0]) * dz[0]))


def _prepare(name, logits, targets, weights):
    logits, targets = jnp.asarray(logits), jnp.asarray(targets)
    check_targets(name, "logits", logits, "targets", targets)
    dtype = accum_dtype(logits.dtype)
    weights = full_weights(name, weights, logits.shape, dtype)
    z, t = (zero_masked(a.astype(dtype), weights) for a in (logits, targets))
    return z, t, weights


def _pos_weight(name, pos_weight, z):
    given, pos_weight = pos_weight, jnp.asarray(pos_weight, z.dtype)
    if pos_weight.ndim == 0:
        check_number(name, "pos_weight", given, lambda c: c >= 0, "pos_weight >= 0", 2.0)
    if pos_weight.ndim and pos_weight.shape != z.shape[-1:]:
        raise ValueError(
            f"{name}: wrong pos_weight: got shape {pos_weight.shape} with logits {z.shape}, need "
            f"() or {z.shape[-1:]}; give a number, or one per class of the last axis"
        )
    traced = any(isinstance(c, Tracer) for c in jax.tree.leaves(given))
    if pos_weight.ndim and not traced and not np.all(np.asarray(given) >= 0):
        raise ValueError(f"{name}: bad pos_weight: got {given}, need pos_weight >= 0; write 2.0")
    return pos_weight.reshape((1,) * (z.ndim - pos_weight.ndim) + pos_weight.shape)
