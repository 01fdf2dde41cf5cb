"""Receptive fields: what part of an image an element of a map depends on, and how much."""

import jax
import jax.numpy as jnp
from jax import Array

from ..model import Layer, summarize
from ..model.layer import Params, Shape, State
from ..ops.common.jax_compat import Tracer
from .feature_maps import feature_maps


def effective_receptive_field(
    net: Layer,
    params: Params,
    state: State,
    x: Array,
    layer: str,
    at: tuple[int, ...] | Array,
    *,
    key: Array,
) -> Array:
    r"""Compute how much each pixel moves the channels A of one element of a map: root mean square.

    .. math:: R_{uv} = \sqrt{\frac{1}{N} \sum_n \sum_d
        \Big(\sum_c s_{nc} \frac{\partial A_{n,i,j,c}}{\partial x_{n,u,v,d}}\Big)^2},
        \qquad s_{nc} = \pm 1 \text{ at random}

    whose square is on average that of the whole Jacobian, at the price of one gradient. It is
    zero outside the receptive field, and within it often as small as not to matter.

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``; the more images, or draws of noise, the smoother.
        layer: the path of the layer.
        at: the element, ``(i, j)``; may be traced.
        key: of the signs.

    Returns:
        ``(*spatial,)``.

    Raises:
        ValueError: as `feature_maps`; or an element that is not there.

    References:
        Luo et al., Understanding the effective receptive field, arXiv:1701.04128.
    """
    shape = jax.eval_shape(lambda: feature_maps(net, params, state, x, layer)).shape
    spatial = shape[1:-1]
    known = not any(isinstance(i, Tracer) for i in (at, *at))
    if len(at) != len(spatial) or (known and not _inside(at, spatial)):
        raise ValueError(
            f"effective_receptive_field: at: got {tuple(at)}, need an element of a map of {spatial}"
        )
    signs = jax.random.rademacher(key, (shape[0], shape[-1]), x.dtype)

    def element(x: Array) -> Array:
        maps = feature_maps(net, params, state, x, layer)
        return (maps[(slice(None), *at)] * signs).sum()

    return jnp.sqrt(jnp.square(jax.grad(element)(x)).sum(axis=-1).mean(axis=0))


def _inside(at, spatial: Shape) -> bool:
    return all(0 <= int(i) < n for i, n in zip(at, spatial, strict=True))


def receptive_field_size(net: Layer, image_shape: Shape, layer: str) -> Shape | None:
    """Return how many pixels an element of a layer can depend on, by axis: see `model.summarize`.

    Args:
        net: the network.
        image_shape: ``(*spatial, C)``, without the batch.
        layer: its path; of one with layers inside the largest of theirs counts.

    Returns:
        The size; it may be more than the image's. None where nobody said what a layer sees.

    Example:
        >>> from convax import model
        >>> net = model.lenet5(10, activation="relu", pool="max")
        >>> receptive_field_size(net, (32, 32, 1), "act2")
        (14, 14)
    """
    rows = summarize(net, image_shape).rows
    fields = [row.receptive_field for row in rows if f"{row.path}/".startswith(f"{layer}/")]
    known = [field for field in fields if field is not None]
    if not known or len(known) < len(fields):
        return None
    return tuple(map(max, zip(*known, strict=True)))


def extent(field: Array) -> tuple[tuple[int, int], ...]:
    """Return the first and the last pixel of each axis where a field is not zero; needs its values.

    Example:
        >>> extent(jnp.zeros((5, 5)).at[1:3, 2].set(1.0))
        ((1, 2), (2, 2))
    """
    axes = range(field.ndim)
    found = []
    for axis in axes:
        there = jnp.flatnonzero((field > 0).any(axis=tuple(a for a in axes if a != axis)))
        found.append((int(there[0]), int(there[-1])) if there.size else (0, -1))
    return tuple(found)
