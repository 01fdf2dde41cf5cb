"""Grad-CAM: where in an image a class was seen, in the maps of a layer."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import Array

from ..model import INLINE, Layer, init_shapes, replace, tap
from ..model.layer import Params, Shape, State
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
    r"""The maps A of a layer, each weighted by how much the class gains from it.

    .. math:: L = \mathrm{ReLU}\Big(\sum_c \alpha_c A_{\cdot\cdot c}\Big), \qquad
        \alpha_c = \frac{1}{HW} \sum_{i,j} \frac{\partial S_k}{\partial A_{ijc}}

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        target: see `scores`.
        layer: the path of the layer; `last_map` by default, as in the paper.
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
    path = last_map(net, x.shape) if layer is None else layer

    def total(shift: Array) -> tuple[Array, Array]:
        shifted = tap(replace(net, {path: lambda part: _plus(part, shift)}), [path])
        (y, found), _ = shifted.apply(params, state, x, train=False)
        return scores(y, target).sum(), found[path]

    # The derivative by what is added to the layer's output, at zero, is that by the output itself.
    shape = jax.eval_shape(lambda: tap(net, [path]).apply(params, state, x)[0][1][path])
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


def last_map(net: Layer, in_shape: Shape) -> str:
    """The path of the last layer that has maps, before they are pooled or flattened.

    Of layers whose output is the same the outermost: ``"stage4"``, not ``"stage4/block2/then"``.
    Layers whose kind ends in "pool" do not count: what they leave is a coarser image of the maps
    ahead of them.

    Args:
        net: the network.
        in_shape: of its input, ``(N, *spatial, C)``.

    Raises:
        ValueError: it has no such layer.

    Example:
        >>> from convax import model
        >>> last_map(model.lenet5(10, activation="relu", pool="max"), (1, 32, 32, 1))
        'act2'
    """
    paths = list(_following(net, ""))
    if paths:
        (_, shapes), _, _ = init_shapes(tap(net, paths), in_shape)
        for path in reversed(paths):
            shape = shapes[path]
            if len(shape) == len(in_shape) and max(shape[1:-1]) > 1:
                return path
    raise ValueError(
        f"grad_cam: no layer of this network has a map: got input {in_shape}, need a convolution "
        "ahead of pooling and flattening; use saliency"
    )


def _following(layer: Layer, at: str) -> Iterator[str]:
    """The paths of layers that follow each other, pools left out, outer ones behind their inner."""
    for name, part in layer.about.parts.items():
        path = at if name == INLINE else f"{at}/{name}".strip("/")
        if part.about.kind == "serial":
            yield from _following(part, path)
        if name != INLINE and not _ending(part).endswith("pool"):
            yield path


def _ending(layer: Layer) -> str:
    """The kind of the layer whose output is that of `layer`."""
    while layer.about.kind == "serial" and layer.about.parts:
        layer = list(layer.about.parts.values())[-1]
    return layer.about.kind


def _plus(layer: Layer, shift: Array) -> Layer:
    """`layer` with something added to its output."""

    def apply(params, state, x, *, train=False, key=None):
        y, state = layer.apply(params, state, x, train=train, key=key)
        return y + shift, state

    return layer._replace(apply=apply)
