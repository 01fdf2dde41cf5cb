"""Feature maps: what the channels of a layer answer to an image."""

from jax import Array

from ..model import Layer, capture_intermediates
from ..model.layer import Params, State


def feature_maps(net: Layer, params: Params, state: State, x: Array, layer: str) -> Array:
    """Return the output of a layer, by its path.

    Args:
        net: the network; it runs as in evaluation.
        params, state: its own.
        x: what it sees, ``(N, *spatial, C)``.
        layer: a path: ``"stage2/block1"``.

    Returns:
        ``(N, *spatial', C')``.

    Raises:
        ValueError: no such layer, or its output is no map.
    """
    (_, found), _ = capture_intermediates(net, [layer]).apply(params, state, x, train=False)
    maps = found[layer]
    if maps.ndim != x.ndim:
        raise ValueError(
            f"feature_maps: layer {layer!r} has no map: got output {maps.shape}, need {x.ndim} "
            "axes; name a layer ahead of pooling and flattening"
        )
    return maps
