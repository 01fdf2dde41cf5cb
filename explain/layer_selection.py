"""Which layers of a network have maps, and which of them are worth looking at."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ..model import INLINE, POINTWISE, Layer, capture_intermediates, init_shapes, sees_crops
from ..model.layer import Shape

MAX_LAYERS = 8
KERNELS = ("conv", "dense", "depthwise_conv")  # pointwise they may be, yet begin something new
OF_IMAGE = ("backbone", "fpn")  # parts of a detector; the others propose regions or look at them


def last_map_layer(net: Layer, in_shape: Shape) -> str:
    """Return the path of the last layer that has maps, before they are pooled or flattened.

    Of layers whose output is the same the outermost: ``"stage4"``, not ``"stage4/block2/then"``.
    Layers whose kind ends in "pool" do not count: what they leave is a coarser image of the maps
    ahead of them. Of a detector it is what regions are read from: its pyramid, or its backbone,
    whose output are several maps by name.

    Args:
        net: the network.
        in_shape: of its input, ``(N, *spatial, C)``.

    Raises:
        ValueError: it has no such layer.

    Example:
        >>> from convax import model
        >>> last_map_layer(model.lenet5(10, activation="relu", pool="max"), (1, 32, 32, 1))
        'act2'
    """
    return _map_layers(net, in_shape, branches=False, several=True)[-1][0]


def coarsest_map_layer(net: Layer, in_shape: Shape) -> str:
    """Return the path of the last of the layers with the smallest maps, branches looked into.

    Of a network that gives an answer for each pixel: where it knows what, and no longer where.

    Args:
        net: the network.
        in_shape: of its input, ``(N, *spatial, C)``.

    Raises:
        ValueError: no layer has maps.

    Example:
        >>> from convax import model
        >>> net = model.unet(2, features=[4, 8], batch_norm=False, upsampling="bilinear")
        >>> coarsest_map_layer(net, (1, 16, 16, 1))
        'levels/join/below/level'
    """
    found = _map_layers(net, in_shape, branches=True)
    smallest = min(shape[1] * shape[-2] for _, _, shape in found)
    return [path for path, _, shape in found if shape[1] * shape[-2] == smallest][-1]


def select_layers(net: Layer, in_shape: Shape, most: int = MAX_LAYERS) -> list[str]:
    """Return up to `most` layers with maps, in order: large parts rather than their own.

    Where norms and activations follow a layer, the last of them stands for it.

    Args:
        net: the network.
        in_shape: of its input, ``(N, *spatial, C)``.
        most: how many.

    Raises:
        ValueError: no layer has maps.

    Example:
        >>> from convax import model
        >>> select_layers(model.lenet5(10, activation="relu", pool="max"), (1, 32, 32, 1))
        ['act1', 'act2']
        >>> select_layers(model.resnet_cifar(10, depth=8), (1, 32, 32, 3))
        ['relu', 'stage1', 'stage2', 'stage3']
    """
    found = _map_layers(net, in_shape, branches=False)
    deepest = max(path.count("/") for path, _, _ in found)
    levels = [[each for each in found if each[0].count("/") <= n] for n in range(deepest + 1)]
    rows = [_representatives(level) for level in levels]
    several = [row for row in rows if 1 < len(row) <= most]
    chosen = several[0] if several else max(rows, key=len)
    if len(chosen) <= most:
        return chosen
    return [chosen[round(i * (len(chosen) - 1) / max(most - 1, 1))] for i in range(most)]


def _representatives(level: list[tuple[str, Layer, Shape]]) -> list[str]:
    """Return the layers that are worth a look beside those whose outputs come next."""
    stands = [
        here
        for (here, *_), (path, layer, _) in pairwise(level)
        # A serial layer's output is that of its last part; activations and norms end what a
        # layer with a kernel began.
        if not (
            here.startswith(f"{path}/") and layer.info.kind == "serial"
            if layer.info.parts
            else layer.info.window == POINTWISE and layer.info.kind not in KERNELS
        )
    ]
    return [*stands, level[-1][0]] if level else []


def _map_layers(
    net: Layer, in_shape: Shape, *, branches: bool, several: bool = False
) -> list[tuple[str, Layer, Any]]:
    """Return layers with maps, but no pools, with their paths and the shapes of their outputs.

    With `several` also those that give several maps by name.
    """
    layers = dict(_serial_layers(net, "", branches))
    given: Any = init_shapes(capture_intermediates(net, list(layers)), in_shape)[0]
    _, shapes = given
    found = [
        (path, layer, shapes[path])
        for path, layer in layers.items()
        if _is_map(shapes[path], in_shape) or (several and _are_maps(shapes[path], in_shape))
    ]
    if not found:
        raise ValueError(
            f"explain: no layer of this network has a map: got input {in_shape}, need a "
            "convolution ahead of pooling and flattening; use saliency"
        )
    return found


def _is_map(shape: Any, in_shape: Shape) -> bool:
    """Return whether this is the shape of a map, rather than of one number for each channel."""
    return isinstance(shape, tuple) and len(shape) == len(in_shape) and max(shape[1:-1]) > 1


def _are_maps(shapes: Any, in_shape: Shape) -> bool:
    """Return whether these are the shapes of several maps by name."""
    named = isinstance(shapes, dict) and len(shapes) > 0
    return named and all(_is_map(shape, in_shape) for shape in shapes.values())


def _serial_layers(layer: Layer, at: str, branches: bool) -> Iterator[tuple[str, Layer]]:
    """Yield layers that follow each other, pools left out, outer ones behind their inner.

    With `branches` also those within layers whose parts do not follow each other.
    """
    if layer.info.rebuild is None:  # nobody can look into it
        return
    for name, part in _parts(layer).items():
        path = at if name == INLINE else f"{at}/{name}".strip("/")
        if branches or part.info.topology == "serial":
            yield from _serial_layers(part, path, branches)
        if name != INLINE and not _last_kind(part).endswith("pool"):
            yield path, part


def _parts(layer: Layer) -> Mapping[str, Layer]:
    """Return the parts of a layer; of a detector those that see the image, not its regions."""
    parts = layer.info.parts
    if sees_crops(layer):
        return {}
    if layer.info.kind != "detector":
        return parts
    return {name: parts[name] for name in OF_IMAGE if name in parts}


def _last_kind(layer: Layer) -> str:
    """Return the kind of the layer whose output is that of `layer`."""
    while layer.info.kind == "serial" and layer.info.parts:
        layer = list(layer.info.parts.values())[-1]
    return layer.info.kind
