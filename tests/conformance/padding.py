"""Padding by itself; as part of a convolution it is in `convolution`."""

import jax.numpy as jnp
from hypothesis import strategies as st

from convax import ops
from tests.reference import pad as reference

from .entry import Entry, Problem, channels_first, normal
from .random import DTYPES, rng_of

OF_NUMPY = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def torch_pad(pairs, mode):
    """PyTorch begins with the last axis."""
    sides = [p for pair in pairs[::-1] for p in pair]
    name = "constant" if mode == "zeros" else mode
    return channels_first(lambda torch, x: torch.nn.functional.pad(x, sides, mode=name))


def entry(mode, shape, pairs):
    return Entry(
        "pad",
        mode,
        lambda x: ops.pad(x, pairs, mode=mode),
        normal(shape),
        plain=lambda x: jnp.pad(x, ((0, 0), *pairs, (0, 0)), OF_NUMPY[mode]),
        loops=lambda x: reference.pad(x, pairs, mode),
        loops_grad=lambda g, x: (reference.pad_grad(g, x, pairs, mode),),
        torch=torch_pad(pairs, mode),
    )


ENTRIES = [
    entry("zeros", (1, 2, 2, 1), ((1, 0), (0, 2))),
    entry("reflect", (1, 2, 3, 1), ((1, 0), (2, 1))),
    entry("replicate", (1, 2, 2, 1), ((0, 3), (1, 1))),
    entry("circular", (1, 3, 2, 1), ((2, 3), (0, 1))),
]


@st.composite
def problems(draw):
    """By as much as the mode can, on one to three axes."""
    mode = draw(st.sampled_from(list(OF_NUMPY)))
    size = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    most = {"reflect": -1, "circular": 0}
    limits = [min(n + most.get(mode, 3), 4) for n in size]
    side = lambda limit: draw(st.integers(0, limit))  # noqa: E731
    pairs = tuple((side(limit), side(limit)) for limit in limits)
    dtype = draw(st.sampled_from(DTYPES))
    x = rng_of(draw).standard_normal((draw(st.integers(1, 2)), *size, draw(st.integers(1, 3))))
    function = lambda x: ops.pad(x, pairs, mode=mode)  # noqa: E731
    text = f"{x.shape} {mode} {pairs} {dtype}"
    return Problem(function, (x,), torch_pad(pairs, mode), dtype, text)
