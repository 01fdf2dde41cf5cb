"""The contract every network keeps: a pair of pure functions, and what a reader may know of them.

A `Layer` is ``init`` and ``apply``. The combinators (`model.combinators`) make a layer out of
layers, so a network is again a `Layer`, and its parameters a nested dict whose paths
(``conv1/kernel``) name every array in checkpoints, summaries and error messages alike.
"""

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
