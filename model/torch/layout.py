r"""How PyTorch lays out the arrays that we have, and back.

Ours are channels last, PyTorch's channels first:

| array | ours | PyTorch's |
|---|---|---|
| kernel of a convolution, depthwise too | ``(*window, Ci / G, Co)`` | ``(Co, Ci / G, *window)`` |
| kernel of a transposed convolution | ``(*window, Ci / G, Co)`` | ``(Ci, Co / G, *window)`` |
| kernel of a dense layer | ``(I, O)`` | ``(O, I)`` |
| the same behind a `flatten` of ``(H, W, C)`` | I counts as H, W, C | I counts as C, H, W |
| the same behind a pyramid of pools | each level like that | each level like that |
| factors of a layer scale | ``(C,)`` | ``(C, 1, 1)`` |
| a layer norm's over whole images | ``(*spatial, C)`` | ``(C, *spatial)`` |
| the one slope of all channels | ``()`` | ``(1,)`` |
| all else | | the same |
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..layer import Layer, init_shapes, part_shapes

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """What has to be known of a layer to convert its arrays."""

    kind: str = ""  # as in `LayerInfo`; "" where nobody said: shapes decide
    groups: int = 1  # of a transposed convolution
    flattened: tuple[Shape, ...] = ()  # (*spatial, C) of the images flattened to be its input


def layouts(net: Layer, in_shape: Shape) -> dict[str, Layout]:
    """Return the layout of every layer of a network, by path.

    Args:
        net: the network.
        in_shape: ``(1, *spatial, C)``.
    """
    found: dict[str, Layout] = {}
    _walk(net, "", in_shape, (), found)
    return found


def to_ours(tensor: np.ndarray, leaf: str, shape: Shape, layout: Layout) -> np.ndarray:
    """Return PyTorch's `tensor` as our array `leaf`, as it is if of another rank than `shape`."""
    if leaf == "kernel" and tensor.ndim != len(shape):
        return tensor
    if leaf != "kernel":
        if layout.kind == "layer_scale" and tensor.shape[1:] == (1, 1):
            return tensor[:, 0, 0]
        if layout.kind == "layer_norm" and tensor.ndim > 1:
            return np.moveaxis(tensor, 0, -1)
        if leaf == "slope" and shape == () and tensor.shape == (1,):
            return tensor[0]
        return _spatial_last(tensor, layout, inwards=True)
    if layout.kind == "conv_transpose":
        return _transposed_to_ours(tensor, layout.groups)
    if tensor.ndim > 2:
        return np.moveaxis(tensor, (0, 1), (-1, -2))
    return _spatial_last(tensor.T, layout, inwards=True)


def to_torch(array: np.ndarray, leaf: str, layout: Layout) -> np.ndarray:
    """Return our array `leaf` as PyTorch has it."""
    if leaf != "kernel":
        if layout.kind == "layer_norm" and array.ndim > 1:
            return np.moveaxis(array, -1, 0)
        if leaf == "slope" and array.ndim == 0:
            return array[None]
        array = _spatial_last(array, layout, inwards=False)
        return array[:, None, None] if layout.kind == "layer_scale" else array
    if layout.kind == "conv_transpose":
        return _transposed_to_torch(array, layout.groups)
    if array.ndim > 2:
        return np.moveaxis(array, (-1, -2), (0, 1))
    return _spatial_last(array, layout, inwards=False).T


def _spatial_last(array: np.ndarray, layout: Layout, *, inwards: bool) -> np.ndarray:
    """Move the first axis, flattened images, from channels first to last; or back."""
    sizes = [math.prod(shape) for shape in layout.flattened]
    if not sizes or (layout.kind == "dense" and array.ndim == 1):
        return array
    if array.shape[:1] != (sum(sizes),):
        return array  # it does not fit, which is said elsewhere
    parts = np.split(array, np.cumsum(sizes)[:-1])
    for n, (*spatial, C) in enumerate(layout.flattened):
        rest, last = array.shape[1:], len(spatial)
        if inwards:
            image = np.moveaxis(parts[n].reshape(C, *spatial, *rest), 0, last)
        else:
            image = np.moveaxis(parts[n].reshape(*spatial, C, *rest), last, 0)
        parts[n] = image.reshape(-1, *rest)
    return np.concatenate(parts)


def _transposed_to_ours(tensor: np.ndarray, G: int) -> np.ndarray:
    Ci, Co, *window = tensor.shape  # Co of one group
    if Ci % G:
        return tensor
    apart = np.moveaxis(tensor.reshape(G, Ci // G, Co, *window), (1, 0, 2), (-3, -2, -1))
    return apart.reshape(*window, Ci // G, G * Co)


def _transposed_to_torch(kernel: np.ndarray, G: int) -> np.ndarray:
    *window, Ci, Co = kernel.shape  # Ci of one group
    apart = np.moveaxis(kernel.reshape(*window, Ci, G, Co // G), (-3, -2, -1), (1, 0, 2))
    return apart.reshape(G * Ci, Co // G, *window)


def _walk(
    layer: Layer, path: str, in_shape: Any, flattened: tuple[Shape, ...], found: dict[str, Layout]
) -> tuple[Any, tuple[Shape, ...]]:
    """Put the layout of every leaf into `found`; the output's shape, and the images flattened."""
    info = layer.info
    if info.parts:
        shape, seen = in_shape, flattened
        own = part_shapes(layer, in_shape) if info.topology == "custom" else {}
        for name, part in info.parts.items():
            if info.topology == "parallel":
                shape, seen = in_shape, flattened
            elif info.topology == "each":
                shape, seen = next(iter(in_shape.values())), ()
            elif own:
                shape, seen = own[name], ()
            shape, seen = _walk(part, f"{path}/{name}".strip("/"), shape, seen, found)
        if info.kind == "serial":
            return shape, seen
        return init_shapes(layer, in_shape)[0], ()
    out_shape, params, _ = init_shapes(layer, in_shape)
    groups = 1
    if info.kind == "conv_transpose":
        groups = in_shape[-1] // params["kernel"].shape[-2]
    found[path] = Layout(info.kind, groups, flattened)
    if info.kind == "flatten":
        return out_shape, (tuple(in_shape[1:]),)
    if info.pyramid_levels:
        *spatial, C = in_shape[1:]
        return out_shape, tuple((*[bins] * len(spatial), C) for bins in info.pyramid_levels)
    return out_shape, () if info.kind == "dense" else flattened
