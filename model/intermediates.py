"""What a network computes on the way: the activations of layers chosen by path.

`tap` rebuilds a network from its own parts (`About.parts`, `About.remake`), each chosen layer
replaced by one that hands its output out beside its state, the door by which batch norm's
statistics leave as well. So nothing is computed twice, no activation outlives its call, and what
holds for `apply` holds here: jit, grad, vmap, remat. The parameters, the state and the random
numbers are those of the network itself: weights trained with taps work without, and the other way
round.

`tap` and `backbone` give a `Layer` whose output has several arrays, and whose ``init`` gives as
many shapes, in the same structure. `serial` passes that on, so a head is a layer that takes it:

    serial(backbone=backbone(resnet, ["stage3", "stage4"]), head=head)

with ``init(key, {"stage3": shape, "stage4": shape})`` and ``apply(params, state, {...})``.
`replace` is the general form: any change of the layers chosen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import count
from typing import Any, TypeAlias

from jax import Array

from .layer import INLINE, Layer, Params, Shape, State

Path: TypeAlias = tuple[str, ...]
Change: TypeAlias = Callable[[Layer], Layer]
_NUMBERS = count()  # so that a tap of what is tapped already takes its own alone


def tap(net: Layer, paths: Sequence[str]) -> Layer:
    """`net` with the outputs of the layers at `paths` beside its own.

    Args:
        net: made of `serial`, `parallel`, `residual`; other combinators set `About.remake`.
        paths: as in parameters and summaries: ``"stage2/block1"``, or ``"stage2/block1/conv1"``.

    Returns:
        A layer with the parameters and state of `net`, whose output is ``(y, {path: activation})``
        and whose ``init`` gives ``(out_shape, {path: shape})`` in place of the shape.

    Raises:
        ValueError: no layer at a path; names those nearest to it.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from convax import model
        >>> net = model.serial(a=model.dense(5), relu=model.relu(), b=model.dense(2))
        >>> tapped = model.tap(net, ["relu"])
        >>> (out_shape, shapes), params, state = tapped.init(jax.random.key(0), (1, 3))
        >>> out_shape, shapes
        ((1, 2), {'relu': (1, 5)})
        >>> (y, found), state = tapped.apply(params, state, jnp.ones((7, 3)))
        >>> y.shape, found["relu"].shape
        ((7, 2), (7, 5))
    """
    return _giving("tap", net, paths, lambda y, found: (y, found))


def backbone(net: Layer, paths: Sequence[str]) -> Layer:
    """The outputs of the layers at `paths` alone; what follows the last of them is left out.

    So a classifier serves as the trunk of another network: its head has no parameters there, and
    those of the whole classifier fit, as parameters that no layer asks for are not looked at.

    Args:
        net: as for `tap`.
        paths: as for `tap`; at least one.

    Returns:
        A layer whose output is ``{path: activation}`` and whose ``init`` gives ``{path: shape}``.

    Raises:
        ValueError: no paths, or no layer at one; names those nearest to it.

    Example:
        >>> from convax import model
        >>> net = model.serial(a=model.dense(5), relu=model.relu(), b=model.dense(2))
        >>> shapes, params, _ = model.init_shapes(model.backbone(net, ["relu"]), (1, 3))
        >>> shapes, list(params)
        ({'relu': (1, 5)}, ['a'])
    """
    if not paths:
        raise ValueError('backbone: no paths: got [], need at least one; write ["stage4"], say')
    wanted = set(_resolve("backbone", net, paths).values())
    return _giving("backbone", _until("backbone", net, (), wanted), paths, lambda y, found: found)


def replace(net: Layer, changes: Mapping[str, Change]) -> Layer:
    """`net` with the layers at some paths replaced by what a function makes of each.

    Args:
        net: as for `tap`.
        changes: by path, a function of the layer that stands there; where one path is within
            another, the inner one is changed first.

    Raises:
        ValueError: no layer at a path; names those nearest to it.

    Example:
        >>> from convax import model
        >>> net = model.serial(a=model.dense(5), act=model.relu(), b=model.dense(2))
        >>> smooth = model.replace(net, {"act": lambda layer: model.tanh()})
        >>> [part.about.kind for part in smooth.about.parts.values()]
        ['dense', 'tanh', 'dense']
    """
    at = _resolve("replace", net, list(changes))
    return _changed("replace", net, (), {at[path]: change for path, change in changes.items()})


def _giving(
    kind: str, net: Layer, paths: Sequence[str], output: Callable[[Any, dict[str, Any]], Any]
) -> Layer:
    """`net` with the outputs at `paths`; `output` says what is made of them and the network's."""
    at, tag = _resolve(kind, net, paths), f"<tapped {next(_NUMBERS)}>"
    tapped = _changed(kind, net, (), dict.fromkeys(at.values(), partial(_handing_out, tag)))

    def give(y, state: State) -> tuple[Any, State]:
        found, state = _collect(tag, state, ())
        return output(y, {path: found[at[path]] for path in paths}), state

    def init(key: Array, in_shape: Shape) -> tuple[Any, Params, State]:
        out_shape, params, state = tapped.init(key, in_shape)
        out_shape, state = give(out_shape, state)
        return out_shape, params, state

    def apply(params, state, x, *, train=False, key=None):
        return give(*tapped.apply(params, state, x, train=train, key=key))

    def remake(parts: Mapping[str, Layer]) -> Layer:
        return _giving(kind, _remake(kind, net, parts, ()), paths, output)

    return Layer(init, apply, net.about._replace(kind=kind, remake=remake))


def _changed(function: str, layer: Layer, at: Path, changes: Mapping[Path, Change]) -> Layer:
    """`layer` with each layer in it that has a change replaced by what that makes of it."""
    parts = dict(layer.about.parts)
    for name, part in parts.items():
        inner = _inner(at, name)
        if any(path in changes for path in _paths(part, inner)):
            part = _changed(function, part, inner, changes)
        if name != INLINE and inner in changes:
            part = changes[inner](part)
        parts[name] = part
    return _remake(function, layer, parts, at) if parts else layer


def _handing_out(tag: str, layer: Layer) -> Layer:
    """`layer` with its output and, from init, its shape in its state, under `tag`."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        out_shape, params, state = layer.init(key, in_shape)
        return out_shape, params, {**state, tag: out_shape}

    def apply(params, state, x, *, train=False, key=None):
        y, state = layer.apply(params, state, x, train=train, key=key)
        return y, {**state, tag: y}

    return Layer(init, apply, layer.about)


def _collect(tag: str, state: State, at: Path) -> tuple[dict[Path, Any], State]:
    """What was handed out under `tag` by path, and the state without it."""
    found, rest = {}, {}
    for name, value in state.items():
        if name == tag:
            found[at] = value
        elif isinstance(value, dict):
            inner, value = _collect(tag, value, (*at, name))
            found |= inner
            if value or not inner:
                rest[name] = value
        else:
            rest[name] = value
    return found, rest


def _until(function: str, layer: Layer, at: Path, wanted: set[Path]) -> Layer:
    """`layer` without what follows the last wanted layer in it."""
    if layer.about.kind != "serial":  # what is made of its parts needs them all
        return layer
    parts, kept = {}, {}
    for name, part in layer.about.parts.items():
        inner = _inner(at, name)
        parts[name] = part
        if name != INLINE and inner in wanted:
            kept = dict(parts)
        elif any(path in wanted for path in _paths(part, inner)):
            kept = parts | {name: _until(function, part, inner, wanted)}
    return _remake(function, layer, kept, at)


def _remake(function: str, layer: Layer, parts: Mapping[str, Layer], at: Path) -> Layer:
    if layer.about.remake is None:
        raise ValueError(
            f"{function}: a layer that cannot be looked into: got a {layer.about.kind} at "
            f"{'/'.join(at)!r}, need one with About.remake; take it as a whole"
        )
    return layer.about.remake(parts)


def _resolve(function: str, net: Layer, paths: Sequence[str]) -> dict[str, Path]:
    """Each path as the names of the layers that lead there."""
    known = {"/".join(path): path for path in _paths(net, ())}
    for path in paths:
        if path not in known:
            near = get_close_matches(path, known) or [name for name in known if "/" not in name]
            raise ValueError(
                f"{function}: no layer at {path!r}: need the path of a layer of this network; near "
                f"it: {', '.join(near)}"
            )
    return {path: known[path] for path in paths}


def _paths(layer: Layer, at: Path) -> Iterator[Path]:
    """Of all layers in `layer` that have a name."""
    for name, part in layer.about.parts.items():
        inner = _inner(at, name)
        if name != INLINE:
            yield inner
        yield from _paths(part, inner)


def _inner(at: Path, name: str) -> Path:
    return at if name == INLINE else (*at, name)
