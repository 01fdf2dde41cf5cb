"""Grad-CAM: where in an image a class was seen, in the maps of a layer."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..model import Layer, capture_intermediates, replace, sees_crops
from ..model.layer import Params, State
from .layer_selection import last_map_layer
from .target import Target, scores


def grad_cam(
    net: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    *,
    layer: str | None = None,
    resize: bool = True,
) -> Array:
    r"""Sum the maps A of a layer, each weighted by how much the class gains from it.

    .. math:: L = \mathrm{ReLU}\Big(\sum_c \alpha_c A_{\cdot\cdot c}\Big), \qquad
        \alpha_c = \frac{1}{HW} \sum_{i,j} \frac{\partial S_k}{\partial A_{ijc}}

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        target: see `scores`.
        layer: the path of the layer; `last_map_layer` by default, as in the paper. One that gives
            several maps by name, as a feature pyramid does, stands for the sum of their L: a score
            that is read from one of them has no gradient by the others, whose L is zero.
        resize: bilinearly to the size of `x`; else the size is that of the layer's maps.

    Returns:
        ``(N, *spatial)``, zero or more; zero everywhere where nothing speaks for the class. Of
        several maps that are not resized one each, by their names.

    Raises:
        ValueError: no such layer, or its output is no map of these images, or `net` has none; and
            as `scores`.

    Note:
        Linear in the score: twice the logits, twice the map. Divide by the largest value to draw.

    References:
        Selvaraju et al., arXiv:1610.02391, equations 1 and 2.
    """
    path = last_map_layer(net, x.shape) if layer is None else layer
    if sees_crops(net):
        raise ValueError(
            f"grad_cam: layer {path!r} has no map of the image: got a network that sees each "
            "region by itself; use saliency or rise"
        )

    def total(shift: Any) -> tuple[Array, Any]:
        shifted = capture_intermediates(
            replace(net, {path: lambda part: _plus(part, shift)}), [path]
        )
        (y, found), _ = shifted.apply(params, state, x, train=False)
        return scores(y, target).sum(), found[path]

    # The derivative by what is added to the layer's output, at zero, is that by the output itself.
    shapes = jax.eval_shape(
        lambda: capture_intermediates(net, [path]).apply(params, state, x)[0][1][path]
    )
    for shape in jax.tree.leaves(shapes):
        if shape.ndim != x.ndim or len(shape) != len(x):
            raise ValueError(
                f"grad_cam: layer {path!r} has no map: got output {shape.shape}, need {x.ndim} "
                f"axes, {len(x)} image(s) in front; name a layer ahead of pooling, flattening and "
                "regions"
            )
    none = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    gradients, maps = jax.grad(total, has_aux=True)(none)
    heats = jax.tree.map(_weighted, gradients, maps)
    if not resize:
        return heats
    whole = (jax.image.resize(h, x.shape[:-1], "linear") for h in jax.tree.leaves(heats))
    return reduce(jnp.add, whole)


def _weighted(gradient: Array, A: Array) -> Array:
    """Return L of one map."""
    alpha = gradient.mean(axis=tuple(range(1, A.ndim - 1)), keepdims=True)
    return jax.nn.relu((alpha * A).sum(axis=-1))


def _plus(layer: Layer, shift: Any) -> Layer:
    """`layer` with something added to its output."""

    def apply(params, state, x, *, train=False, key=None):
        y, state = layer.apply(params, state, x, train=train, key=key)
        return jax.tree.map(jnp.add, y, shift), state

    return layer._replace(apply=apply)
