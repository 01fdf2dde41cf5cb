"""What a convolution is chosen an implementation for by, and what a rule of that choice is."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
from jax.typing import DTypeLike

from ..geometry import Geometry

Kind = Literal["conv", "input_grad", "kernel_grad"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Problem(NamedTuple):
    """A convolution's geometry, channels (of all groups together), batch and dtype."""

    geometry: Geometry
    Ci: int
    Co: int
    batch: int
    dtype: DTypeLike


class Rule(NamedTuple):
    """An implementation, and the predicate of when it is the fastest."""

    name: str
    applies: Callable[[Problem], bool]
    impl: Callable[..., jax.Array]
