"""The contract every network keeps: two pure functions, and the combinators that join them.

A `Layer` is ``init`` and ``apply``. `serial`, `parallel` and `residual` make a layer out of
layers, so a network is again a `Layer`, and its parameters a nested dict whose paths
(``conv1/kernel``) name every array in checkpoints, summaries and error messages alike.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Shape: TypeAlias = tuple[int, ...]
Params: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Any]


class Window(NamedTuple):
    """What one output element looks at, along each spatial axis (a number stands for all axes).

    A stride of 1/2 belongs to a layer whose output is twice as large as its input.
    """

    size: int | Shape = 1
    stride: int | Fraction | tuple[int | Fraction, ...] = 1
    dilation: int | Shape = 1


def larger_by(scale: int | Shape, window: int | Shape, dilation: int | Shape = 1) -> Window | None:
    """What an output of a transposed convolution sees: at most 1 + floor(d (k - 1) / s) inputs.

    None where they are of several ranks: the operation refuses that.

    Example:
        >>> larger_by(2, 4)
        Window(size=2, stride=Fraction(1, 2), dilation=1)
    """
    if len({np.size(n) for n in (scale, window, dilation) if np.ndim(n)}) > 1:
        return None
    numbers = np.broadcast_arrays(scale, window, dilation)
    axes = [
        (1 + d * (k - 1) // s, Fraction(1, s))
        for s, k, d in zip(*(n.ravel().tolist() for n in numbers), strict=True)
    ]
    sizes, strides = zip(*axes, strict=True)
    return Window(sizes, strides) if numbers[0].ndim else Window(sizes[0], strides[0])


POINTWISE = Window()
EVERYWHERE = "everywhere"


INLINE = ""  # the name of a part without one: what it has stands among the whole's own


class About(NamedTuple):
    """What a reader may know of a layer without running it; summaries and taps depend on it.

    Attributes:
        kind: the layer's name in a config and the stem of its automatic name.
        window: its receptive field; `EVERYWHERE` for a layer that sees the whole image;
            None where nobody said.
        parts: for a combinator, its layers by name.
        flow: whether the parts follow each other or all see the same input; "own" where it is
            neither.
        remake: for a combinator, the same of other parts under the same names; None where nobody
            said, and its parts cannot be tapped.
        grids: of a pool whose output is several grids, one behind the other: bins along each axis.
    """

    kind: str = "layer"
    window: Window | Literal["everywhere"] | None = None
    parts: Mapping[str, "Layer"] = {}
    flow: Literal["serial", "parallel", "own"] = "serial"
    remake: Callable[[Mapping[str, "Layer"]], "Layer"] | None = None
    grids: tuple[int, ...] = ()


class Layer(NamedTuple):
    """A network, or a part of one.

    Attributes:
        init: ``init(key, in_shape) -> (out_shape, params, state)``. Shapes include the batch.
        apply: ``apply(params, state, x, *, train=False, key=None) -> (y, state)``. `params` is
            what is differentiated, `state` what is not; both are nested dicts. `key` is needed
            by layers that draw random numbers in training.
        about: for summaries and taps.

    Example:
        >>> from convax import model
        >>> net = model.serial(model.conv(6, 5), model.relu(), model.flatten(), model.dense(10))
        >>> out_shape, params, state = net.init(jax.random.key(0), (1, 8, 8, 3))
        >>> out_shape
        (1, 10)
        >>> params["conv1"]["kernel"].shape
        (5, 5, 3, 6)
        >>> logits, state = net.apply(params, state, jnp.zeros((2, 8, 8, 3)))
        >>> logits.shape
        (2, 10)
    """

    init: Callable[[Array, Shape], tuple[Shape, Params, State]]
    apply: Callable[..., tuple[Array, State]]
    about: About = About()


class LayerError(Exception):
    """An error inside a network; says the path of the layer where it arose.

    Each is a `LayerValueError` or a `LayerTypeError`, so that ``except ValueError`` and
    ``except TypeError`` catch what they would catch without the path.
    """

    def __init__(self, path: str, problem: str):
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class LayerValueError(LayerError, ValueError):
    """A value or a shape that a layer cannot take."""


class LayerTypeError(LayerError, TypeError):
    """A dtype, or a type, that a layer cannot take."""


def stateless(
    kind: str, function: Callable[[Array], Array], window: Window | Literal["everywhere"] | None
) -> Layer:
    """A layer without parameters: `function` applied to its input; its shape is inferred."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return infer_shape(function, in_shape), {}, {}

    def apply(params, state, x, *, train=False, key=None):
        del params, train, key
        return function(x), state

    return Layer(init, apply, About(kind, window))


def drawing(kind: str, function: Callable[..., Array], window: Window) -> Layer:
    """A layer without parameters that draws in training: ``function(x, train=..., key=...)``."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return infer_shape(partial(function, train=False), in_shape), {}, {}

    def apply(params, state, x, *, train=False, key=None):
        del params
        return function(x, train=train, key=key), state

    return Layer(init, apply, About(kind, window))


def infer_shape(function: Callable[..., Array], *shapes: Shape) -> Shape:
    """The shape of ``function(*arrays)`` for float32 arrays of these shapes; computes nothing."""
    return tuple(jax.eval_shape(function, *map(as_arrays, shapes)).shape)


def as_arrays(shape: Any) -> Any:
    """A shape, or a tree of them, as float32 arrays that have no content."""
    if isinstance(shape, dict):
        return {name: as_arrays(inner) for name, inner in shape.items()}
    if any(isinstance(inner, (tuple, dict)) for inner in shape):
        return tuple(map(as_arrays, shape))
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def init_shapes(layer: Layer, in_shape: Shape) -> tuple[Shape, Params, State]:
    """What ``layer.init`` returns, with shapes and dtypes in place of arrays."""
    out_shape: Shape = ()

    def init(key):
        nonlocal out_shape
        out_shape, params, state = layer.init(key, in_shape)
        return params, state

    params, state = jax.eval_shape(init, jax.random.key(0))
    return out_shape, params, state


def part_shapes(layer: Layer, in_shape: Shape) -> dict[str, Shape]:
    """The shape of what each part of a layer is given; the layer has `About.remake`."""
    shapes: dict[str, Shape] = {}

    def noting(name: str, part: Layer) -> Layer:
        def init(key: Array, given: Shape) -> tuple[Shape, Params, State]:
            shapes[name] = given
            return part.init(key, given)

        return part._replace(init=init)

    if layer.about.remake is None:
        raise ValueError(f"{layer.about.kind}: About.remake: got None, need it where flow is 'own'")
    parts = layer.about.parts.items()
    init_shapes(layer.about.remake({name: noting(name, part) for name, part in parts}), in_shape)
    return shapes


def serial(*layers: Layer, **named: Layer) -> Layer:
    """One layer after the other.

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

    return Layer(init, apply, About("serial", POINTWISE, parts, remake=_serial))


def parallel(*layers: Layer, **named: Layer) -> Layer:
    """Branches that see the same input; their outputs are joined along the channels."""
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

    return Layer(init, apply, About("parallel", POINTWISE, parts, "parallel", _parallel))


def residual(branch: Layer, shortcut: Layer | None = None) -> Layer:
    """``y = branch(x) + shortcut(x)``, with the identity as the default shortcut.

    References:
        He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385, equation 2.
    """
    return _residual({"branch": branch, "shortcut": shortcut or identity()})


def residual_block(
    *, shortcut: Layer | None = None, then: Layer | None = None, **branch: Layer
) -> Layer:
    """`residual` as a block of a network: ``y = then(branch(x) + shortcut(x))``.

    The layers of the branch stand under their names in the block itself (``block1/conv1``, not
    ``block1/branch/conv1``), beside those of the shortcut (``block1/shortcut/conv``).

    Args:
        shortcut: the identity if left out.
        then: an activation behind the sum; ``block1/then``.
        branch: layers by name, one after the other.

    Example:
        >>> from convax import model
        >>> block = model.residual_block(fc1=model.dense(8), relu=model.relu(), fc2=model.dense(3))
        >>> sorted(block.init(jax.random.key(0), (1, 3))[1])
        ['fc1', 'fc2']
    """
    block = _residual({INLINE: _serial(branch), "shortcut": shortcut or identity()})
    return block if then is None else _serial({INLINE: block, "then": then})


def _residual(parts: Mapping[str, Layer]) -> Layer:
    def add(y: Array, x: Array) -> Array:
        if y.shape != x.shape:
            raise ValueError(
                f"residual: branch and shortcut must agree: got {y.shape} and {x.shape}; "
                "give the shortcut a 1x1 convolution with the branch's features and stride"
            )
        return y + x

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        params, state = {}, {}
        shapes = [init_part(n, p, key, in_shape, params, state) for n, p in parts.items()]
        return infer_shape(add, *shapes), params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}
        y, shortcut_x = (
            apply_part(n, p, params, state, new_state, x, train, key) for n, p in parts.items()
        )
        return add(y, shortcut_x), new_state

    return Layer(init, apply, About("residual", POINTWISE, parts, "parallel", _residual))


def identity() -> Layer:
    """Returns its input."""
    return stateless("identity", lambda x: x, POINTWISE)


def _named(
    combinator: str, layers: tuple[Layer, ...], named: Mapping[str, Layer]
) -> dict[str, Layer]:
    """Every layer under a name: its keyword, or its kind and a count."""
    parts: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        kind = layer.about.kind
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
    """Initialise `part`, put what it has under its name, and return its output shape."""
    with inside(name):
        out_shape, part_params, part_state = part.init(_key_for(key, name), in_shape)
    _put(params, name, part_params)
    _put(state, name, part_state)
    return out_shape


def apply_part(name, part, params, state, new_state, x, train, key) -> Array:
    """Apply `part` to its own parameters and state; its new state goes into `new_state`."""
    key = None if key is None else _key_for(key, name)
    if name != INLINE:
        params, state = params.get(name, {}), state.get(name, {})
    with inside(name):
        y, part_state = part.apply(params, state, x, train=train, key=key)
    _put(new_state, name, part_state)
    return y


def _put(tree: dict[str, Any], name: str, part: dict[str, Any]) -> None:
    """`part` under its name, or among what is there already; nothing where it has nothing."""
    if name != INLINE:
        part = {name: part} if part else {}
    if twice := part.keys() & tree.keys():
        raise ValueError(f"two layers are named {sorted(twice)[0]!r}; rename one of them")
    tree.update(part)


def _key_for(key: Array, name: str) -> Array:
    return key if name == INLINE else jax.random.fold_in(key, zlib.crc32(name.encode()))


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Name the layer: in the compiled program, and in the message of an error raised within."""
    if name == INLINE:
        yield
        return
    try:
        with jax.named_scope(name):
            yield
    except LayerError as error:
        raise type(error)(f"{name}/{error.path}", error.problem) from error.__cause__
    except ValueError as error:
        raise LayerValueError(name, str(error)) from error
    except TypeError as error:
        raise LayerTypeError(name, str(error)) from error
