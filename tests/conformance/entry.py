"""What the conformance table needs to know of an operation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)  # each one itself, and a key
class Entry:
    """An operation with its hyper-parameters, as a function of the arrays it has derivatives in.

    The oracles take and return float64 NumPy arrays, `torch` tensors, channels last throughout; an
    output may be a tuple of arrays. In the place of an oracle may stand a sentence that says why
    there is none.
    """

    op: str  # the public name in `convax.ops`
    case: str  # what is particular about this entry: one for each way of computing the operation
    function: Callable[..., Any]
    draw: Callable[[np.random.Generator], Arrays]  # small: the Hessian is taken in all of them
    plain: Callable[..., Any]  # the same in plain jax.numpy or lax, which JAX differentiates
    loops: Callable[..., Any] | str  # (*arrays) -> output
    loops_grad: Callable[..., Arrays] | str  # (g, *arrays) -> the gradients of sum(g * output)
    torch: Callable[..., Any] | str  # (torch, *tensors) -> output
    explained: Mapping[str, str] = field(default_factory=dict)  # check -> why it cannot be made

    @property
    def name(self) -> str:
        """For the ids of tests."""
        return f"{self.op}, {self.case}" if self.case else self.op

    def why_not(self, check: str) -> str | None:
        """Why there is no such check for this operation, or None if there is one."""
        oracles = {"loops": self.loops, "torch": self.torch}
        missing = oracles.get(check)
        return missing if isinstance(missing, str) else self.explained.get(check)


@dataclass(frozen=True)
class Problem:
    """One drawn at random for PyTorch, in any dtype."""

    function: Callable[..., Any]
    arrays: Arrays  # float64; rounded to `dtype` before either side sees them
    torch: Callable[..., Any]
    dtype: str = "float32"
    text: str = ""  # for the report of a failure
    rounded: int | None = None  # the array to which a sum already rounded to `dtype` is added


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    """Draw standard normal arrays of these shapes."""
    return lambda rng: tuple(rng.standard_normal(shape) for shape in shapes)


def channels_first(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of PyTorch's layout (N, C, *spatial) as one of ours; other operands untouched."""

    def wrapped(torch, x, *others):
        return torch.movedim(f(torch, torch.movedim(x, -1, 1), *others), 1, -1)

    return wrapped
