"""Grad-CAM: where in an image a class was seen, in the maps of a layer."""

import jax
import jax.numpy as jnp
from jax import Array

from ..model import Layer, capture_intermediates, replace
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
        layer: the path of the layer; `last_map_layer` by default, as in the paper.
        resize: bilinearly to the size of `x`; else the size is that of the layer's maps.

    Returns:
        ``(N, *spatial)``, zero or more; zero everywhere where nothing speaks for the class.

    Raises:
        ValueError: no such layer, or its output is no map, or `net` has none; and as `scores`.

    Note:
        Linear in the score: twice the logits, twice the map. Divide by the largest value to draw.

    References:
        Selvaraju et al., arXiv:1610.02391, equations 1 and 2.
    """
    path = last_map_layer(net, x.shape) if layer is None else layer

    def total(shift: Array) -> tuple[Array, Array]:
        shifted = capture_intermediates(
            replace(net, {path: lambda part: _plus(part, shift)}), [path]
        )
        (y, found), _ = shifted.apply(params, state, x, train=False)
        return scores(y, target).sum(), found[path]

    # The derivative by what is added to the layer's output, at zero, is that by the output itself.
    shape = jax.eval_shape(
        lambda: capture_intermediates(net, [path]).apply(params, state, x)[0][1][path]
    )
    if shape.ndim != x.ndim:
        raise ValueError(
            f"grad_cam: layer {path!r} has no map: got output {shape.shape}, need {x.ndim} axes; "
            "name a layer ahead of pooling and flattening"
        )
    gradient, A = jax.grad(total, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    spatial = tuple(range(1, x.ndim - 1))
    alpha = gradient.mean(axis=spatial, keepdims=True)
    heat = jax.nn.relu((alpha * A).sum(axis=-1))
    return jax.image.resize(heat, x.shape[:-1], "linear") if resize else heat


def _plus(layer: Layer, shift: Array) -> Layer:
    """`layer` with something added to its output."""

    def apply(params, state, x, *, train=False, key=None):
        y, state = layer.apply(params, state, x, train=train, key=key)
        return y + shift, state

    return layer._replace(apply=apply)
