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


def upsampled_window(
    scale: int | Shape, window: int | Shape, dilation: int | Shape = 1
) -> Window | None:
    """Return the window of a transposed convolution: 1 + floor(d (k - 1) / s) inputs at most.

    None where they are of several ranks: the operation refuses that.

    Example:
        >>> upsampled_window(2, 4)
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
GLOBAL = "global"


INLINE = ""  # the name of a part without one: what it has stands among the whole's own


class LayerInfo(NamedTuple):
    """What a reader may know of a layer without running it, for summaries and intermediates.

    Attributes:
        kind: the layer's name in a config and the stem of its automatic name.
        window: its receptive field; `GLOBAL` for a layer that sees the whole image;
            None where nobody said.
        parts: for a combinator, its layers by name.
        topology: whether the parts follow each other or all see the same input; "each" where the
            one part sees several arrays in turn, "custom" where it is none of these.
        rebuild: for a combinator, the same of other parts under the same names; None where nobody
            said, and its parts cannot be captured.
        pyramid_levels: of a pool whose output is several grids, one behind the other: bins along
            each axis.
        taps: of a layer that gives what layers within it give, the names that lead to each of them.
        linear: whether the output is linear in the parameters ``kernel``, along whose last axis
            its channels are, and ``bias``, which is added where it is there.
        affine: of a layer that in evaluation is ``a x + b`` with a number a and a number b for each
            channel, ``affine(params, state) -> (a, b)``; of arrays of NumPy or JAX.
    """

    kind: str = "layer"
    window: Window | Literal["global"] | None = None
    parts: Mapping[str, "Layer"] = {}
    topology: Literal["serial", "parallel", "each", "custom"] = "serial"
    rebuild: Callable[[Mapping[str, "Layer"]], "Layer"] | None = None
    pyramid_levels: tuple[int, ...] = ()
    taps: tuple[tuple[str, ...], ...] = ()
    linear: bool = False
    affine: Callable[[Params, State], tuple[Array, Array]] | None = None


class FrozenStatistics(NamedTuple):
    """Training in which the statistics of some layers stay: a third value of `train`.

    It counts as true: layers draw random numbers as ever. A layer with statistics that are frozen
    works with them as in evaluation. Combinators give each part the mode ``within`` its name.

    Attributes:
        frozen: ``frozen(path)``, of an array in the state: ``"stem/bn/mean"``.
        path: of the layer that is given this mode, with a slash behind it.
    """

    frozen: Callable[[str], bool]
    path: str = ""

    def within(self, name: str) -> "FrozenStatistics":
        """Return the mode for the part of this name; a part that is `INLINE` has the same."""
        return self if name == INLINE else self._replace(path=f"{self.path}{name}/")

    def freezes(self, state: State) -> bool:
        """Return whether all arrays of this layer's own state are frozen, and there are some."""
        arrays = [name for name, part in state.items() if not isinstance(part, dict)]
        return bool(arrays) and all(self.frozen(self.path + name) for name in arrays)


class Layer(NamedTuple):
    """A network, or a part of one.

    Attributes:
        init: ``init(key, in_shape) -> (out_shape, params, state)``. Shapes include the batch.
        apply: ``apply(params, state, x, *, train=False, key=None) -> (y, state)``. `params` is
            what is differentiated, `state` what is not; both are nested dicts. `train` is False,
            True or `FrozenStatistics`; `key` is needed by layers that draw in training.
        info: for summaries and intermediates.

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
    info: LayerInfo = LayerInfo()


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
    kind: str, function: Callable[[Array], Array], window: Window | Literal["global"] | None
) -> Layer:
    """Make a layer without parameters: `function` applied to its input; its shape is inferred.

    Args:
        kind: the layer's name in a config and the stem of its automatic name.
        function: of one array.
        window: its receptive field, `GLOBAL`, or None where nobody said.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return infer_shape(function, in_shape), {}, {}

    def apply(params, state, x, *, train=False, key=None):
        del params, train, key
        return function(x), state

    return Layer(init, apply, LayerInfo(kind, window))


def stochastic(kind: str, function: Callable[..., Array], window: Window) -> Layer:
    """Make a layer without parameters that draws in training: ``function(x, train=..., key=...)``.

    Args:
        kind: the layer's name in a config and the stem of its automatic name.
        function: of one array, the mode and a random key.
        window: its receptive field.
    """

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        del key
        return infer_shape(partial(function, train=False), in_shape), {}, {}

    def apply(params, state, x, *, train=False, key=None):
        del params
        return function(x, train=train, key=key), state

    return Layer(init, apply, LayerInfo(kind, window))


def infer_shape(function: Callable[..., Array], *shapes: Shape) -> Shape:
    """Return the shape of ``function(*arrays)`` for float32 arrays; compute nothing."""
    return tuple(jax.eval_shape(function, *map(as_arrays, shapes)).shape)


def as_arrays(shape: Any) -> Any:
    """Return a shape, or a tree of them, as float32 arrays that have no content."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf, jnp.float32), shape, is_leaf=_is_shape
    )


def _is_shape(tree: Any) -> bool:
    nested = (tuple, list, dict, type(None))
    return type(tree) in (tuple, list) and not any(isinstance(inner, nested) for inner in tree)


def init_shapes(layer: Layer, in_shape: Shape) -> tuple[Shape, Params, State]:
    """Return what ``layer.init`` returns, with shapes and dtypes in place of arrays."""
    out_shape: Shape = ()

    def init(key):
        nonlocal out_shape
        out_shape, params, state = layer.init(key, in_shape)
        return params, state

    params, state = jax.eval_shape(init, jax.random.key(0))
    return out_shape, params, state


def part_shapes(layer: Layer, in_shape: Shape) -> dict[str, Shape]:
    """Return the shape of what each part of a layer is given; it has `LayerInfo.rebuild`."""
    shapes: dict[str, Shape] = {}

    def recording(name: str, part: Layer) -> Layer:
        def init(key: Array, given: Shape) -> tuple[Shape, Params, State]:
            shapes[name] = given
            return part.init(key, given)

        return part._replace(init=init)

    if layer.info.rebuild is None:
        raise ValueError(
            f"{layer.info.kind}: LayerInfo.rebuild: got None, need it where topology is 'custom'"
        )
    parts = layer.info.parts.items()
    init_shapes(layer.info.rebuild({name: recording(name, part) for name, part in parts}), in_shape)
    return shapes


@contextmanager
def layer_scope(name: str) -> Iterator[None]:
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
