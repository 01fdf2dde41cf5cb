"""Outputs as large as inputs, where halving and doubling has not quite led back."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array

from ..layer import INLINE, About, Layer, Params, Shape, State


def fit(x: Array, size: Sequence[int]) -> Array:
    """Cut at the high end of each spatial axis, or continued there by its last element.

    Args:
        x: ``(N, *spatial, C)``.
        size: the new spatial sizes.

    Returns:
        ``(N, *size, C)``.

    Example:
        >>> fit(jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), [5]).ravel()
        Array([1., 2., 3., 3., 3.], dtype=float32)
    """
    x = x[(slice(None), *(slice(n) for n in size))]
    missing = [(0, n - have) for n, have in zip(size, x.shape[1:-1], strict=True)]
    if any(high for _, high in missing):
        x = jnp.pad(x, [(0, 0), *missing, (0, 0)], mode="edge")
    return x


def as_large_as_input(layer: Layer) -> Layer:
    """`layer`, its output brought to the spatial size of its input by `fit`."""
    return _fitted({INLINE: layer})


def _fitted(parts: Mapping[str, Layer]) -> Layer:
    (inner,) = parts.values()

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        out_shape, params, state = inner.init(key, in_shape)
        return (*in_shape[:-1], out_shape[-1]), params, state

    def apply(params, state, x, *, train=False, key=None):
        y, state = inner.apply(params, state, x, train=train, key=key)
        return fit(y, x.shape[1:-1]), state

    return Layer(init, apply, About("fitted", None, parts, remake=_fitted))
