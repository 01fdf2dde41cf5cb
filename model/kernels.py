"""The kernels of a network, by the paths of its layers."""

from collections.abc import Iterator

from jax import Array

from .layer import INLINE, Layer, Params


def kernels(net: Layer, params: Params) -> dict[str, Array]:
    """Return every kernel of a network by the path of its layer, in the order of the network.

    Args:
        net: the network.
        params: its own. A restored tree is sorted by name; `net` knows the order.

    Returns:
        ``(*window, Ci/groups, Co)`` of a convolution, ``(Ci, Co)`` of a dense layer; as pictures,
        one for each output channel, ``jnp.moveaxis(kernel, -1, 0)``. Of a layer that is the whole
        network the path is its kind.

    Example:
        >>> import jax
        >>> from convax import model
        >>> net = model.serial(first=model.conv(6, 5), act=model.relu(), second=model.conv(16, 5))
        >>> _, params, _ = net.init(jax.random.key(0), (1, 32, 32, 1))
        >>> {path: kernel.shape for path, kernel in kernels(net, params).items()}
        {'first': (5, 5, 1, 6), 'second': (5, 5, 6, 16)}
    """
    return dict(_kernels(net, params, ""))


def _kernels(layer: Layer, params: Params, path: str) -> Iterator[tuple[str, Array]]:
    if "kernel" in params and not layer.info.parts:
        yield path or layer.info.kind, params["kernel"]
    for name, part in layer.info.parts.items():
        inner = params if name == INLINE else params.get(name, {})
        yield from _kernels(part, inner, f"{path}/{name}".strip("/"))
