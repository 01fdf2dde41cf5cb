r"""Batch norm folded into the layer before it: the same network in evaluation, in fewer steps.

In evaluation a batch norm multiplies each channel by a number and adds another, and the output of a
convolution or a dense layer is linear in kernel and bias, so that both are one layer:

.. math:: a\,(K x + b) + c = (a K)\,x + (a b + c), \qquad
    a = \frac{s}{\sqrt{v + \epsilon}}, \quad c = t - a\,m

with the running mean m and variance v, the scale s and the bias t. A norm is folded where nothing
but the norm sees the output of the layer before it. One that begins a residual branch is not, nor
is one behind padding of its own, a pool or an activation; nor one behind a layer whose output is
given out (`LayerInfo.taps`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..ops.common.dtypes import accum_dtype
from .intermediates import Path, inner_path, replace
from .layer import INLINE, POINTWISE, Layer, LayerInfo, Params, Shape, State


class Folded(NamedTuple):
    """A network without the batch norms that other layers do the work of.

    Attributes:
        net: for evaluation alone. All layers have the paths that they had: where a norm was is the
            identity, which gives what the norm gave.
        arrays: ``arrays(params, state) -> (params, state)``: those of the whole network, to those
            of `net`. Pure, of arrays of JAX or NumPy: for `jax.vmap` over networks, too.
        norms: the paths of the norms that are gone.
    """

    net: Layer
    arrays: Callable[[Params, State], tuple[Params, State]]
    norms: tuple[str, ...]


def fold_batch_norm(net: Layer) -> Folded:
    """Fold each batch norm of a network into the convolution or dense layer before it, if it can.

    Any layer with `LayerInfo.affine` is folded into one with `LayerInfo.linear` that it follows in
    a `serial`, or in several within each other.

    Args:
        net: of a structure that can be looked into (`LayerInfo.rebuild`); what cannot be stays as
            it is.

    Example:
        >>> from convax import model
        >>> net = model.serial(a=model.conv(4, 3, bias=False), bn=model.batch_norm())
        >>> _, params, state = net.init(jax.random.key(0), (1, 8, 8, 3))
        >>> folded = fold_batch_norm(net)
        >>> params, state = folded.arrays(params, state)
        >>> folded.norms, sorted(params["a"]), state
        (('bn',), ['bias', 'kernel'], {})
    """
    pairs: list[_Pair] = []
    _find(net, (), None, set(), pairs)
    linear = {"/".join(pair.linear): _with_bias for pair in pairs}
    norms = {"/".join(pair.norm): _gone for pair in pairs}

    def arrays(params: Params, state: State) -> tuple[Params, State]:
        params, state = (jax.tree.map(lambda leaf: leaf, tree) for tree in (params, state))
        for pair in pairs:
            of_norm = (_take(tree, pair.norm) for tree in (params, state))
            layer = _at(params, pair.linear)
            layer.update(_scaled(layer, *pair.affine(*of_norm)))
        return _without_empty(params), _without_empty(state)

    return Folded(replace(net, linear | norms), arrays, tuple(norms))


class _Pair(NamedTuple):
    """A norm, and the layer that it is folded into."""

    linear: Path
    norm: Path
    affine: Callable[[Params, State], tuple[Array, Array]]


def _find(
    layer: Layer, at: Path, before: Path | None, taps: set[Path], pairs: list[_Pair]
) -> Path | None:
    """Put what can be folded in `layer` into `pairs`.

    Args:
        layer: which.
        at: its path.
        before: the linear layer whose output it is given, and nothing else is.
        taps: the paths of layers whose outputs others see, too.
        pairs: in the order of the computation.

    Returns:
        The same as `before` of what follows.
    """
    info = layer.info
    behind = None
    if info.kind == "serial":
        behind = before
        for name, part in info.parts.items():
            if name == INLINE and not part.info.parts:  # a layer without a path
                behind = None
            else:
                behind = _find(part, inner_path(at, name), behind, taps, pairs)
    elif info.linear:
        behind = at
    elif info.affine is not None and before is not None:
        pairs.append(_Pair(before, at, info.affine))
        behind = before
    elif info.rebuild is not None:
        taps = taps | {(*at, *path) for path in info.taps}
        for name, part in info.parts.items():
            _find(part, inner_path(at, name), None, taps, pairs)
    return None if at in taps else behind


def _with_bias(layer: Layer) -> Layer:
    """Return a linear layer that has a bias."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        out_shape, params, state = layer.init(key, in_shape)
        kernel = params["kernel"]
        return out_shape, {"bias": jnp.zeros(kernel.shape[-1], kernel.dtype)} | params, state

    return layer._replace(init=init)


def _gone(norm: Layer) -> Layer:
    """Return what stands where a norm was."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        return in_shape, {}, {}

    def apply(params, state, x, *, train=False, key=None):
        if train:
            raise ValueError(
                f"{norm.info.kind}: folded into the layer before it, which is for evaluation: got "
                "train=True; train the network that was folded"
            )
        return x, state

    return Layer(init, apply, LayerInfo("identity", POINTWISE))


def _scaled(linear: Params, factor: Array, term: Array) -> Params:
    """Return kernel and bias of the layer whose output is ``factor y + term``."""
    kernel = linear["kernel"]
    wide = accum_dtype(kernel.dtype)
    factor, term = factor.astype(wide), term.astype(wide)
    if "bias" in linear:
        term = term + factor * linear["bias"].astype(wide)
    of_kernel = factor.reshape((1,) * (kernel.ndim - 1) + (-1,))
    scaled = {"kernel": kernel.astype(wide) * of_kernel, "bias": term}
    return {name: array.astype(kernel.dtype) for name, array in scaled.items()}


def _at(tree: Any, path: Path) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _take(tree: Any, path: Path) -> Any:
    """Remove what is at a path, and return it; nothing where there is nothing."""
    *outer, name = path
    for each in outer:
        tree = tree.get(each, {})
    return tree.pop(name, {})


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has nothing, as layers do."""
    parts = {k: _without_empty(v) if isinstance(v, dict) else v for k, v in tree.items()}
    return {name: part for name, part in parts.items() if not isinstance(part, dict) or part}
