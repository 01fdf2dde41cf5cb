"""The fully connected layer."""

from hypothesis import strategies as st

from convax import ops
from tests.reference import dense as reference

from .entry import Entry, Problem, normal
from .random import DTYPES, rng_of

ENTRIES = [
    Entry(
        "dense",
        "",
        ops.dense,
        normal((3, 4), (4, 5), (5,)),
        plain=lambda x, W, b: x @ W + b[None],
        loops=reference.dense,
        loops_grad=lambda g, x, W, b: reference.dense_grads(x, W, g),
        torch=lambda torch, x, W, b: torch.nn.functional.linear(x, W.T, b),
    ),
]


@st.composite
def problems(draw):
    """Any number of leading axes."""
    leading = draw(st.lists(st.integers(1, 3), max_size=2))
    Ci, Co = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    arrays = normal((*leading, Ci), (Ci, Co), (Co,))(rng_of(draw))
    torch = lambda torch, x, W, b: torch.nn.functional.linear(x, W.T, b)  # noqa: E731
    return Problem(ops.dense, arrays, torch, draw(st.sampled_from(DTYPES)))
