"""Weights and masks, the reduction, labels, distances and their checks: what the losses share."""

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
    """Return the weights of losses of this shape, from numbers or truth values of its leading axes.

    Args:
        name: of the loss.
        weights: non-negative numbers or truth values, of the leading axes of `shape`, or None.
        shape: of the losses.
        dtype: of the weights returned.

    Returns:
        An array of `shape`; None for None.

    Raises:
        ValueError: another shape.
    """
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
    """Return the weights (N,) of the examples, ones if there are none."""
    full = full_weights(name, weights, labels.shape, dtype)
    return jnp.ones(labels.shape, dtype) if full is None else full


def zero_masked(a: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Set the examples of weight zero to zero, and their gradients.

    Zero times NaN is NaN: to multiply the loss by its weight would not take out what is in the
    example, least of all from the gradient. So it is taken out before anything is computed.
    """
    if weights is None:
        return a
    out = ~weights.astype(bool).reshape(weights.shape + (1,) * (a.ndim - weights.ndim))
    return jnp.where(out, 0, a)


def reduce(
    name: str, loss: jax.Array, weights: jax.Array | None, reduction: Reduction, *, empty_value=None
) -> jax.Array:
    """Weigh the losses and reduce them.

    Args:
        name: of the loss.
        loss: an array of losses.
        weights: of the shape of `loss`, or None for ones; a loss of weight zero may be anything.
        reduction: "mean" (the weighted sum over the sum of the weights), "sum" or "none".
        empty_value: the mean where all weights are zero; NaN if None.

    Returns:
        A scalar; the weighted losses for "none".

    Raises:
        ValueError: unknown reduction.
    """
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
    if empty_value is None:
        return total / weight
    return jnp.where(weight == 0, empty_value, total / jnp.where(weight == 0, 1, weight))


# ------------------------------------------------------------------------------------- numbers


def safe_sqrt(x: jax.Array) -> jax.Array:
    """Compute the root of x >= 0 with derivatives 0 at 0, where they are infinite."""
    positive = x != 0  # true for NaN, which has to come out
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def safe_divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute a / b, and 0 with derivatives 0 where b is 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def unit_vectors(a: jax.Array, axis: int = -1) -> jax.Array:
    """Divide by the length along an axis; a vector of length 0 stays."""
    return safe_divide(a, safe_sqrt(jnp.sum(jnp.square(a), axis=axis, keepdims=True)))


def full_dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply matrices in the precision of their dtype: GPU and TPU would round float32."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def squared_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute |a - b|^2 over the last axis."""
    return jnp.sum(jnp.square(a - b), axis=-1)


def one_hot_mask(labels: jax.Array, K: int) -> jax.Array:
    """Return (..., K), true where the label is k: nowhere for a label outside 0 ... K - 1."""
    dtype = jnp.int32 if labels.dtype.itemsize < 4 else labels.dtype  # 2**32 is not 0
    classes = jnp.arange(K, dtype=dtype).reshape((1,) * labels.ndim + (K,))
    return labels.astype(dtype)[..., None] == classes


def nan_if_unknown(loss: jax.Array, hit: jax.Array) -> jax.Array:
    """Set the loss of labels that are none of the classes to NaN: under jit they cannot raise."""
    return jnp.where(jnp.any(hit, axis=-1), loss, jnp.nan)


# -------------------------------------------------------------------------------------- checks


def is_zero(value) -> bool:
    """Return whether a hyper-parameter is known to be 0: one that is traced is not known."""
    return not isinstance(value, Tracer) and not value


def check_number(
    name: str, what: str, value, valid: Callable[[float], bool], need: str, example
) -> None:
    """Raise ValueError unless a hyper-parameter is in its range; the message has an example."""
    check_scalar(name, what, value, valid, need, f"write {what}={example}, for example")


def check_count(name: str, what: str, value, least: int, example: int) -> int:
    """Return `value` as an int; raise ValueError unless it is an integer of at least `least`."""
    if not is_int(value) or value < least:
        raise ValueError(
            f"{name}: bad {what}: got {value!r}, need an integer >= {least}; write "
            f"{what}={example}, for example"
        )
    return int(value)


def check_margin(
    name: str, margin: float | jax.Array, what: str = "margin", example: float = 1.0
) -> None:
    """Raise ValueError for a negative margin."""
    check_number(name, what, margin, lambda m: m >= 0, f"{what} >= 0", example)


def check_same_shape(name: str, what: str, a: jax.Array, other: str, b: jax.Array) -> None:
    """Raise ValueError where two arrays would be broadcast."""
    if a.shape != b.shape:
        raise ValueError(
            f"{name}: shapes differ: got {what} {a.shape} and {other} {b.shape}, need the same "
            f"shape; write {other}.reshape({what}.shape) if only the axes differ"
        )


def check_targets(name: str, what: str, a: jax.Array, other: str, targets: jax.Array) -> None:
    """Raise TypeError unless targets are floats, ValueError unless of the shape of `a`.

    Labels are no targets of such a loss.
    """
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
    """Raise ValueError for scalars, TypeError for integers."""
    check_floating(name, "logits", logits)
    if logits.ndim == 0:
        raise ValueError(f"{name}: no class axis: {got}, need logits (..., K); add an axis")


def index_remedy(logits: jax.Array, labels: jax.Array) -> str:
    """Return what to do about class indices of a wrong shape."""
    if logits.ndim > 2 and labels.shape == logits.shape[:1] + logits.shape[2:]:
        return "logits look channels first, write jnp.moveaxis(logits, 1, -1)"
    return "give one class index per example"


def check_indices(name: str, logits: jax.Array, labels: jax.Array) -> None:
    """Raise TypeError or ValueError unless there is one class index per example."""
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
    """Raise TypeError or ValueError unless given (N, D) floats and (N,) integers."""
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
