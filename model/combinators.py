"""Layers made of layers: one after the other, side by side, around a shortcut, on many maps."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .layer import (
    INLINE,
    POINTWISE,
    FrozenStatistics,
    Layer,
    LayerInfo,
    Params,
    Shape,
    State,
    infer_shape,
    layer_scope,
    stateless,
)


def serial(*layers: Layer, **named: Layer) -> Layer:
    """Apply one layer after the other.

    Layers given by keyword have that name; the others are named after their kind and counted:
    ``conv1``, ``relu1``, ``conv2``. A layer's initial parameters depend on the key and on its
    path alone: where layers have names of their own, inserting another changes none of them.
    """
    return _serial(_named("serial", layers, named))


def _serial(parts: Mapping[str, Layer]) -> Layer:
    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        params, state, shape = {}, {}, in_shape
        for name, part in parts.items():
            shape = init_part(name, part, key, shape, params, state)
        return shape, params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}
        for name, part in parts.items():
            x = apply_part(name, part, params, state, new_state, x, train, key)
        return x, new_state

    return Layer(init, apply, LayerInfo("serial", POINTWISE, parts, rebuild=_serial))


def parallel(*layers: Layer, **named: Layer) -> Layer:
    """Apply branches to the same input, and join their outputs along the channels."""
    return _parallel(_named("parallel", layers, named))


def _parallel(parts: Mapping[str, Layer]) -> Layer:
    def join(*branches: Array) -> Array:
        if len({b.shape[:-1] for b in branches}) != 1:
            shapes = ", ".join(f"{n} {b.shape}" for n, b in zip(parts, branches, strict=True))
            raise ValueError(
                f"parallel: branches differ in more than their channels: got {shapes}; "
                "give them the same strides and padding"
            )
        return jnp.concatenate(branches, axis=-1)

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        params, state = {}, {}
        shapes = [init_part(n, p, key, in_shape, params, state) for n, p in parts.items()]
        return infer_shape(join, *shapes), params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}
        branches = [
            apply_part(n, p, params, state, new_state, x, train, key) for n, p in parts.items()
        ]
        return join(*branches), new_state

    return Layer(init, apply, LayerInfo("parallel", POINTWISE, parts, "parallel", _parallel))


def fork(**named: Layer) -> Layer:
    """Apply several layers to the same input: a dict of their outputs, by name."""
    return _fork(named)


def _fork(parts: Mapping[str, Layer]) -> Layer:
    def init(key: Array, in_shape: Shape) -> tuple[Any, Params, State]:
        params, state = {}, {}
        shapes = {n: init_part(n, p, key, in_shape, params, state) for n, p in parts.items()}
        return shapes, params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}
        outputs = {
            n: apply_part(n, p, params, state, new_state, x, train, key) for n, p in parts.items()
        }
        return outputs, new_state

    info = LayerInfo("fork", POINTWISE, parts, "parallel", _fork)
    return Layer(init, apply, info)  # type: ignore[arg-type] -- gives several arrays


def each(layer: Layer) -> Layer:
    """Apply one layer, with the same parameters, to each array of a dict; its state goes along."""
    return _each({INLINE: layer})


def _each(parts: Mapping[str, Layer]) -> Layer:
    (layer,) = parts.values()

    def init(key: Array, in_shape: Mapping[str, Shape]) -> tuple[Any, Params, State]:
        if len({shape[-1] for shape in in_shape.values()}) != 1:
            raise ValueError(
                f"each: arrays differ in their channels: got {dict(in_shape)}; one layer on all "
                "of them needs the same"
            )
        made = {name: layer.init(key, shape) for name, shape in in_shape.items()}
        _, params, state = next(iter(made.values()))
        return {name: shape for name, (shape, *_) in made.items()}, params, state

    def apply(params, state, x, *, train=False, key=None):
        outputs = {}
        for name, array in x.items():
            draw = None if key is None else _key_for(key, name)
            outputs[name], state = layer.apply(params, state, array, train=train, key=draw)
        return outputs, state

    info = LayerInfo("each", layer.info.window, parts, "each", _each)
    return Layer(init, apply, info)  # type: ignore[arg-type] -- takes several arrays


def residual(branch: Layer, shortcut: Layer | None = None) -> Layer:
    """Compute ``y = branch(x) + shortcut(x)``, with the identity as the default shortcut.

    References:
        He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385, equation 2.
    """
    return _residual({"branch": branch, "shortcut": shortcut or identity()})


def residual_block(
    *, shortcut: Layer | None = None, activation: Layer | None = None, **branch: Layer
) -> Layer:
    """Compute ``y = activation(branch(x) + shortcut(x))``: `residual` as a block of a network.

    The layers of the branch stand under their names in the block itself (``block1/conv1``, not
    ``block1/branch/conv1``), beside those of the shortcut (``block1/shortcut/conv``).

    Args:
        shortcut: the identity if left out.
        activation: behind the sum, under the name ``then`` (``block1/then``); none if left out.
        branch: layers by name, one after the other.

    Example:
        >>> from convax import model
        >>> block = model.residual_block(fc1=model.dense(8), relu=model.relu(), fc2=model.dense(3))
        >>> sorted(block.init(jax.random.key(0), (1, 3))[1])
        ['fc1', 'fc2']
    """
    block = _residual({INLINE: _serial(branch), "shortcut": shortcut or identity()})
    return block if activation is None else _serial({INLINE: block, "then": activation})


def _residual(parts: Mapping[str, Layer]) -> Layer:
    def add(y: Array, x: Array) -> Array:
        if y.shape != x.shape:
            raise ValueError(
                f"residual: branch and shortcut must agree: got {y.shape} and {x.shape}; "
                "give the shortcut a 1x1 convolution with the branch's features and stride"
            )
        return y + x

    return _meeting("residual", add, parts, _residual)


def gated(**gate: Layer) -> Layer:
    """Compute ``y = x * gate(x)``: channels, or places, of the input weighed by what is in it.

    The layers of the gate stand under their names in the layer itself.

    Args:
        gate: layers by name, one after the other; what they give has 1 where it is the same for a
            whole axis.

    Example:
        >>> from convax import model
        >>> squeeze = model.global_avg_pool(keepdims=True)
        >>> se = model.gated(pool=squeeze, conv=model.conv(3, 1), sigmoid=model.sigmoid())
        >>> se.init(jax.random.key(0), (1, 8, 8, 3))[0]
        (1, 8, 8, 3)

    References:
        Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507, equation 4.
    """
    return _gated({INLINE: _serial(gate), "input": identity()})


def _gated(parts: Mapping[str, Layer]) -> Layer:
    def multiply(gate: Array, x: Array) -> Array:
        fits = gate.ndim == x.ndim and all(
            g in (1, n) for g, n in zip(gate.shape, x.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"gated: the gate does not fit the input: got {gate.shape} for x {x.shape}, need "
                "the same, or 1 along an axis; write global_avg_pool(keepdims=True), and end the "
                "gate with as many channels"
            )
        return gate * x

    return _meeting("gated", multiply, parts, _gated)


def _meeting(
    kind: str,
    join: Callable[[Array, Array], Array],
    parts: Mapping[str, Layer],
    rebuild: Callable[[Mapping[str, Layer]], Layer],
) -> Layer:
    """Join the outputs of two layers on the same input."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        params, state = {}, {}
        shapes = [init_part(n, p, key, in_shape, params, state) for n, p in parts.items()]
        return infer_shape(join, *shapes), params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}
        outputs = (
            apply_part(n, p, params, state, new_state, x, train, key) for n, p in parts.items()
        )
        return join(*outputs), new_state

    return Layer(init, apply, LayerInfo(kind, POINTWISE, parts, "parallel", rebuild))


def identity() -> Layer:
    """Return the input."""
    return stateless("identity", lambda x: x, POINTWISE)


def _named(
    combinator: str, layers: tuple[Layer, ...], named: Mapping[str, Layer]
) -> dict[str, Layer]:
    """Put every layer under a name: its keyword, or its kind and a count."""
    parts: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        kind = layer.info.kind
        counts[kind] = counts.get(kind, 0) + 1
        parts[f"{kind}{counts[kind]}"] = layer
    for name, layer in named.items():
        if name in parts:
            raise ValueError(f"{combinator}: two layers are named {name!r}; rename one of them")
        parts[name] = layer
    return parts


def init_part(
    name: str, part: Layer, key: Array, in_shape: Shape, params: Params, state: State
) -> Shape:
    """Initialize `part`, put what it has under its name, and return its output shape."""
    with layer_scope(name):
        out_shape, part_params, part_state = part.init(_key_for(key, name), in_shape)
    _put(params, name, part_params)
    _put(state, name, part_state)
    return out_shape


def apply_part(name, part, params, state, new_state, x, train, key) -> Array:
    """Apply `part` to its own parameters, state, key and mode; put its state in `new_state`."""
    key = None if key is None else _key_for(key, name)
    if name != INLINE:
        params, state = params.get(name, {}), state.get(name, {})
    train = train.within(name) if isinstance(train, FrozenStatistics) else train
    with layer_scope(name):
        y, part_state = part.apply(params, state, x, train=train, key=key)
    _put(new_state, name, part_state)
    return y


def _put(tree: dict[str, Any], name: str, part: dict[str, Any]) -> None:
    """Put `part` under its name, or among what is there already; nothing where it has nothing."""
    if name != INLINE:
        part = {name: part} if part else {}
    if twice := part.keys() & tree.keys():
        raise ValueError(f"two layers are named {sorted(twice)[0]!r}; rename one of them")
    tree.update(part)


def _key_for(key: Array, name: str) -> Array:
    return key if name == INLINE else jax.random.fold_in(key, zlib.crc32(name.encode()))
