"""What the losses share: weights and masks, the reduction, labels, distances and their checks."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from ..common.checks import check_scalar
from ..common.dtypes import check_floating
from ..common.jax_compat import Tracer
from ..common.padding import is_int

Reduction = Literal["mean", "sum", "none"]


# ----------------------------------------------------------------------- weights and reduction


def full_weights(name: str, weights, shape: tuple[int, ...], dtype) -> jax.Array | None:
    """The weights of losses of this shape, from numbers or truth values of its leading axes."""
    if weights is None:
        return None
    weights = jnp.asarray(weights)
    if weights.shape != shape[: weights.ndim]:
        raise ValueError(
            f"{name}: wrong weights: got shape {weights.shape}, need {shape} or its leading "
            f"axes; give one weight per example, {shape[:1]}"
        )
    weights = weights.astype(dtype).reshape(weights.shape + (1,) * (len(shape) - weights.ndim))
    return jnp.broadcast_to(weights, shape)


def example_weights(name: str, weights, labels: jax.Array, dtype) -> jax.Array:
    """The weights (N,) of the examples, ones if there are none."""
    full = full_weights(name, weights, labels.shape, dtype)
    return jnp.ones(labels.shape, dtype) if full is None else full


def without_masked(a: jax.Array, weights: jax.Array | None) -> jax.Array:
    """`a` with zeros for the examples of weight zero, and zero gradients.

    Zero times NaN is NaN: to multiply the loss by its weight would not take out what is in the
    example, least of all from the gradient. So it is taken out before anything is computed.
    """
    if weights is None:
        return a
    out = ~weights.astype(bool).reshape(weights.shape + (1,) * (a.ndim - weights.ndim))
    return jnp.where(out, 0, a)


def reduce(
    name: str, loss: jax.Array, weights: jax.Array | None, reduction: Reduction, *, of_nothing=None
) -> jax.Array:
    """Weigh and reduce; `of_nothing` is the mean where all weights are zero, else it is NaN."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{name}: unknown reduction: got {reduction!r}, need 'mean', 'sum' or 'none'; write "
            f"reduction='mean'"
        )
    if weights is not None:
        loss = jnp.where(weights == 0, 0, weights * loss)
    if reduction == "none":
        return loss
    total = jnp.sum(loss)
    if reduction == "sum":
        return total
    weight = jnp.asarray(loss.size, loss.dtype) if weights is None else jnp.sum(weights)
    if of_nothing is None:
        return total / weight
    return jnp.where(weight == 0, of_nothing, total / jnp.where(weight == 0, 1, weight))


# ------------------------------------------------------------------------------------- numbers


def safe_sqrt(x: jax.Array) -> jax.Array:
    """The root of x >= 0 with derivatives 0 at 0, where they are infinite."""
    positive = x != 0  # true for NaN, which has to come out
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def safe_divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b, and 0 with derivatives 0 where b is 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def full_dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Matrix product in the precision of its dtype: GPU and TPU would round float32 by default."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def squared_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a - b|^2 over the last axis."""
    return jnp.sum(jnp.square(a - b), axis=-1)


def hits(labels: jax.Array, K: int) -> jax.Array:
    """(..., K), true where the label is k: nowhere for a label outside 0 ... K - 1."""
    dtype = jnp.int32 if labels.dtype.itemsize < 4 else labels.dtype  # 2**32 is not 0
    classes = jnp.arange(K, dtype=dtype).reshape((1,) * labels.ndim + (K,))
    return labels.astype(dtype)[..., None] == classes


def nan_if_unknown(loss: jax.Array, hit: jax.Array) -> jax.Array:
    """NaN for the labels that are none of the classes: under jit they cannot raise."""
    return jnp.where(jnp.any(hit, axis=-1), loss, jnp.nan)


# -------------------------------------------------------------------------------------- checks


def is_zero(value) -> bool:
    """Whether a hyper-parameter is known to be 0: one that is traced is not known."""
    return not isinstance(value, Tracer) and not value


def check_number(
    name: str, what: str, value, good: Callable[[float], bool], need: str, example
) -> None:
    """Refuse a hyper-parameter out of its range, with an example of one inside."""
    check_scalar(name, what, value, good, need, f"write {what}={example}, for example")


def check_count(name: str, what: str, value, least: int, example: int) -> int:
    """Refuse all but integers of at least `least`, of Python's or NumPy's; returns Python's."""
    if not is_int(value) or value < least:
        raise ValueError(
            f"{name}: bad {what}: got {value!r}, need an integer >= {least}; write "
            f"{what}={example}, for example"
        )
    return int(value)


def check_margin(
    name: str, margin: float | jax.Array, what: str = "margin", example: float = 1.0
) -> None:
    """Refuse a negative margin."""
    check_number(name, what, margin, lambda m: m >= 0, f"{what} >= 0", example)


def check_same_shape(name: str, what: str, a: jax.Array, other: str, b: jax.Array) -> None:
    """Refuse to broadcast."""
    if a.shape != b.shape:
        raise ValueError(
            f"{name}: shapes differ: got {what} {a.shape} and {other} {b.shape}, need the same "
            f"shape; write {other}.reshape({what}.shape) if only the axes differ"
        )


def check_targets(name: str, what: str, a: jax.Array, other: str, targets: jax.Array) -> None:
    """Refuse all but floats of the shape of `a`: labels are no targets of such a loss."""
    check_floating(name, what, a)
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        if targets.ndim >= a.ndim:
            remedy = f"{other}.astype({what}.dtype) if they are zeros and ones"
        elif a.shape[-1] > 1:
            remedy = f"jax.nn.one_hot({other}, {a.shape[-1]}) if they are class indices"
        else:  # a one-hot vector of one class would be its opposite
            remedy = f"{other}[..., None].astype({what}.dtype) if they are zeros and ones"
        raise TypeError(
            f"{name}: {other} is not floating point: got {other} {targets.dtype} {targets.shape} "
            f"with {what} {a.shape}, need floats of shape {a.shape}; write {remedy}"
        )
    check_same_shape(name, what, a, other, targets)


def check_class_axis(name: str, logits: jax.Array, got: str) -> None:
    """Refuse scalars."""
    check_floating(name, "logits", logits)
    if logits.ndim == 0:
        raise ValueError(f"{name}: no class axis: {got}, need logits (..., K); add an axis")


def index_remedy(logits: jax.Array, labels: jax.Array) -> str:
    """What to do about class indices of a wrong shape."""
    if logits.ndim > 2 and labels.shape == logits.shape[:1] + logits.shape[2:]:
        return "logits look channels first, write jnp.moveaxis(logits, 1, -1)"
    return "give one class index per example"


def check_indices(name: str, logits: jax.Array, labels: jax.Array) -> None:
    """Refuse all but one class index per example."""
    got = f"got labels {labels.dtype} {labels.shape} with logits {logits.shape}"
    check_class_axis(name, logits, got)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim == logits.ndim:
        remedy = (
            "jnp.argmax(labels, axis=-1) if they are one-hot, labels[..., 0] if the last axis has "
            "one index"
            if labels.ndim == logits.ndim
            else "labels.astype(jnp.int32) if they are class indices"
        )
        raise TypeError(
            f"{name}: labels are not class indices: {got}, need integers {logits.shape[:-1]}; "
            f"write {remedy}"
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"{name}: shapes do not match: {got}, need labels {logits.shape[:-1]}; "
            f"{index_remedy(logits, labels)}"
        )


def check_embeddings(name: str, embeddings: jax.Array, labels: jax.Array) -> None:
    """Refuse all but (N, D) floats and (N,) integers."""
    check_floating(name, "embeddings", embeddings)
    got = f"got embeddings {embeddings.shape} and labels {labels.dtype} {labels.shape}"
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"{name}: shapes do not match: {got}, need embeddings (N, D) and labels (N,); write "
            f"embeddings.reshape(len(embeddings), -1), jnp.argmax(labels, axis=-1) if they are "
            f"one-hot, jax.vmap for several batches"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name}: labels are not integers: {got}, need class indices or any other integer per "
            f"class; write labels.astype(jnp.int32)"
        )
