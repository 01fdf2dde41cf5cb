"""Outputs as large as inputs, where halving and doubling has not quite led back."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array

from ..layer import INLINE, Layer, LayerInfo, Params, Shape, State


def crop_or_pad(x: Array, size: Sequence[int]) -> Array:
    """Cut at the high end of each spatial axis, or continue there with the last element.

    Args:
        x: ``(N, *spatial, C)``.
        size: the new spatial sizes.

    Returns:
        ``(N, *size, C)``.

    Example:
        >>> crop_or_pad(jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1), [5]).ravel()
        Array([1., 2., 3., 3., 3.], dtype=float32)
    """
    x = x[(slice(None), *(slice(n) for n in size))]
    missing = [(0, n - have) for n, have in zip(size, x.shape[1:-1], strict=True)]
    if any(high for _, high in missing):
        x = jnp.pad(x, [(0, 0), *missing, (0, 0)], mode="edge")
    return x


def match_input_size(layer: Layer) -> Layer:
    """Bring the output of `layer` to the spatial size of its input by `crop_or_pad`."""
    return _matching({INLINE: layer})


def _matching(parts: Mapping[str, Layer]) -> Layer:
    (inner,) = parts.values()

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        out_shape, params, state = inner.init(key, in_shape)
        return (*in_shape[:-1], out_shape[-1]), params, state

    def apply(params, state, x, *, train=False, key=None):
        y, state = inner.apply(params, state, x, train=train, key=key)
        return crop_or_pad(y, x.shape[1:-1]), state

    return Layer(init, apply, LayerInfo("fitted", None, parts, rebuild=_matching))
