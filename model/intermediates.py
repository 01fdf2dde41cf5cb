"""Intermediates: the activations of layers chosen by path, and networks changed at a path.

`capture_intermediates` rebuilds a network from its own parts (`LayerInfo.parts`,
`LayerInfo.rebuild`), each chosen layer replaced by one that puts its output beside the network's
within the same call. So nothing is computed twice, no activation outlives its call, and what holds
for `apply` holds here: jit, grad, vmap, remat. The parameters, the state and the random numbers are
those of the network itself: weights trained with intermediates work without, and the other way
round. (A combinator that applies its parts under a transformation of its own, `lax.scan` or
`jax.checkpoint`, is captured as a whole: leave out its `rebuild`.)

`capture_intermediates` and `backbone` give a `Layer` whose output has several arrays, and whose
``init`` gives as many shapes, in the same structure. `serial` passes that on, so a head is a layer
that takes it:

    serial(backbone=backbone(resnet, ["stage3", "stage4"]), head=head)

with ``init(key, {"stage3": shape, "stage4": shape})`` and ``apply(params, state, {...})``.
`replace` is the general form: any change of the layers chosen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeAlias

from jax import Array

from .layer import INLINE, Layer, LayerInfo, Params, Shape, State

Path: TypeAlias = tuple[str, ...]
Change: TypeAlias = Callable[[Layer], Layer]


def capture_intermediates(net: Layer, paths: Sequence[str]) -> Layer:
    """Return `net` with the outputs of the layers at `paths` beside its own.

    Args:
        net: made of `serial`, `parallel`, `residual`; other combinators set `LayerInfo.rebuild`.
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
        >>> capturing = model.capture_intermediates(net, ["relu"])
        >>> (out_shape, shapes), params, state = capturing.init(jax.random.key(0), (1, 3))
        >>> out_shape, shapes
        ((1, 2), {'relu': (1, 5)})
        >>> (y, found), state = capturing.apply(params, state, jnp.ones((7, 3)))
        >>> y.shape, found["relu"].shape
        ((7, 2), (7, 5))
    """
    return _capturing("capture_intermediates", net, paths, lambda y, found: (y, found))


def backbone(net: Layer, paths: Sequence[str]) -> Layer:
    """Return the outputs of the layers at `paths` alone, without what follows the last of them.

    So a classifier serves as the trunk of another network: its head has no parameters there, and
    those of the whole classifier fit, as parameters that no layer asks for are not looked at.

    Args:
        net: as for `capture_intermediates`.
        paths: as for `capture_intermediates`; at least one.

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
    return _capturing(
        "backbone", _until("backbone", net, (), wanted), paths, lambda y, found: found
    )


def replace(net: Layer, changes: Mapping[str, Change]) -> Layer:
    """Replace the layers of `net` at some paths by what a function makes of each.

    Args:
        net: as for `capture_intermediates`.
        changes: by path, a function of the layer that stands there; where one path is within
            another, the inner one is changed first.

    Raises:
        ValueError: no layer at a path; names those nearest to it.

    Example:
        >>> from convax import model
        >>> net = model.serial(a=model.dense(5), act=model.relu(), b=model.dense(2))
        >>> smooth = model.replace(net, {"act": lambda layer: model.tanh()})
        >>> [part.info.kind for part in smooth.info.parts.values()]
        ['dense', 'tanh', 'dense']
    """
    at = _resolve("replace", net, list(changes))
    return _changed("replace", net, (), {at[path]: change for path, change in changes.items()})


def _capturing(
    kind: str, net: Layer, paths: Sequence[str], output: Callable[[Any, dict[str, Any]], Any]
) -> Layer:
    """Return `net` with the outputs at `paths`; `output` joins them with the network's own."""
    at = _resolve(kind, net, paths)

    def recording(found: dict[Path, Any]) -> Layer:
        """Return `net` with layers at the paths that put their outputs, or shapes, in `found`."""
        changes = {path: partial(_recorded, found, path) for path in at.values()}
        return _changed(kind, net, (), changes)

    recording({})  # raises here and now where a layer cannot be looked into

    def init(key: Array, in_shape: Shape) -> tuple[Any, Params, State]:
        found: dict[Path, Any] = {}
        out_shape, params, state = recording(found).init(key, in_shape)
        return output(out_shape, {path: found[at[path]] for path in paths}), params, state

    def apply(params, state, x, *, train=False, key=None):
        found: dict[Path, Any] = {}
        y, state = recording(found).apply(params, state, x, train=train, key=key)
        return output(y, {path: found[at[path]] for path in paths}), state

    def rebuild(parts: Mapping[str, Layer]) -> Layer:
        return _capturing(kind, parts[INLINE], paths, output)

    info = LayerInfo(kind, net.info.window, {INLINE: net}, rebuild=rebuild, taps=tuple(at.values()))
    return Layer(init, apply, info)


def _recorded(found: dict[Path, Any], path: Path, layer: Layer) -> Layer:
    """Return `layer`, which puts its output and, from init, its shape in `found`."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        out_shape, params, state = layer.init(key, in_shape)
        found[path] = out_shape
        return out_shape, params, state

    def apply(params, state, x, *, train=False, key=None):
        found[path], state = layer.apply(params, state, x, train=train, key=key)
        return found[path], state

    return Layer(init, apply, layer.info)


def _changed(function: str, layer: Layer, at: Path, changes: Mapping[Path, Change]) -> Layer:
    """Replace each layer in `layer` that has a change by what that makes of it."""
    parts = dict(layer.info.parts)
    for name, part in parts.items():
        inner = inner_path(at, name)
        if any(path in changes for path in _paths(part, inner)):
            part = _changed(function, part, inner, changes)
        if name != INLINE and inner in changes:
            part = changes[inner](part)
        parts[name] = part
    return _rebuild(function, layer, parts, at) if parts else layer


def _until(function: str, layer: Layer, at: Path, wanted: set[Path]) -> Layer:
    """Return `layer` without what follows the last wanted layer in it."""
    if layer.info.kind != "serial":  # what is made of its parts needs them all
        return layer
    parts, kept = {}, {}
    for name, part in layer.info.parts.items():
        inner = inner_path(at, name)
        parts[name] = part
        if name != INLINE and inner in wanted:
            kept = dict(parts)
        elif any(path in wanted for path in _paths(part, inner)):
            kept = parts | {name: _until(function, part, inner, wanted)}
    return _rebuild(function, layer, kept, at)


def _rebuild(function: str, layer: Layer, parts: Mapping[str, Layer], at: Path) -> Layer:
    if layer.info.rebuild is None:
        raise ValueError(
            f"{function}: a layer that cannot be looked into: got a {layer.info.kind} at "
            f"{'/'.join(at)!r}, need one with LayerInfo.rebuild; take it as a whole"
        )
    return layer.info.rebuild(parts)


def _resolve(function: str, net: Layer, paths: Sequence[str]) -> dict[str, Path]:
    """Return each path as the names of the layers that lead there."""
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
    """Yield the paths of all layers in `layer` that have a name."""
    for name, part in layer.info.parts.items():
        inner = inner_path(at, name)
        if name != INLINE:
            yield inner
        yield from _paths(part, inner)


def inner_path(at: Path, name: str) -> Path:
    """Return the path of the part of this name in the layer at `at`; see `layer.INLINE`."""
    return at if name == INLINE else (*at, name)
