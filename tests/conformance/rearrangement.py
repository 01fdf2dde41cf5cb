"""Elements moved or copied, none changed: padding, which convolutions have too, and shuffles."""

import jax.numpy as jnp
from hypothesis import strategies as st

from convax import ops
from tests.reference import pad as reference
from tests.reference import shuffle as moved

from .entry import Entry, Problem, channels_first, normal
from .random import DTYPES, rng_of

OF_NUMPY = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def torch_pad(pairs, mode):
    """PyTorch begins with the last axis."""
    sides = [p for pair in pairs[::-1] for p in pair]
    name = "constant" if mode == "zeros" else mode
    return channels_first(lambda torch, x: torch.nn.functional.pad(x, sides, mode=name))


def pad_entry(mode, shape, pairs):
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


def torch_shuffle(name, number):
    """PyTorch's are of two spatial axes."""
    return channels_first(lambda torch, x: getattr(torch.nn.functional, name)(x, number))


PLAIN = {
    "pixel_shuffle": lambda x, r: jnp.stack(
        [
            jnp.stack([x[:, i // r, j // r, i % r * r + j % r :: r * r] for j in columns], 1)
            for columns in [range(r * x.shape[2])]
            for i in range(r * x.shape[1])
        ],
        1,
    ),
    "pixel_unshuffle": lambda x, r: jnp.stack(
        [x[:, a::r, b::r, c] for c in range(x.shape[-1]) for a in range(r) for b in range(r)], -1
    ),
    "channel_shuffle": lambda x, groups: jnp.concatenate(
        [x[..., k :: x.shape[-1] // groups] for k in range(x.shape[-1] // groups)], -1
    ),
}


def shuffle_entry(name, shape, number):
    function = getattr(ops, name)
    return Entry(
        name,
        "",
        lambda x: function(x, number),
        normal(shape),
        plain=lambda x: PLAIN[name](x, number),
        loops=lambda x: moved.shuffle(name, x, number),
        loops_grad=lambda g, x: (moved.shuffle_grad(name, g, x, number),),
        torch=torch_shuffle(name, number),
    )


ENTRIES = [
    shuffle_entry("pixel_shuffle", (1, 2, 1, 8), 2),
    shuffle_entry("pixel_unshuffle", (1, 4, 2, 2), 2),
    shuffle_entry("channel_shuffle", (1, 2, 1, 6), 2),
    pad_entry("zeros", (1, 2, 2, 1), ((1, 0), (0, 2))),
    pad_entry("reflect", (1, 2, 3, 1), ((1, 0), (2, 1))),
    pad_entry("replicate", (1, 2, 2, 1), ((0, 3), (1, 1))),
    pad_entry("circular", (1, 3, 2, 1), ((2, 3), (0, 1))),
]


@st.composite
def problems(draw):
    """Padding by as much as the mode can, on one to three axes; shuffles on two, as PyTorch's."""
    dtype = draw(st.sampled_from(DTYPES))
    name = draw(st.sampled_from(["pad", *PLAIN]))
    if name == "pad":
        mode = draw(st.sampled_from(list(OF_NUMPY)))
        size = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        most = {"reflect": -1, "circular": 0}
        limits = [min(n + most.get(mode, 3), 4) for n in size]
        side = lambda limit: draw(st.integers(0, limit))  # noqa: E731
        pairs = tuple((side(limit), side(limit)) for limit in limits)
        function, torch = lambda x: ops.pad(x, pairs, mode=mode), torch_pad(pairs, mode)
        text, C = f"{mode} {pairs}", draw(st.integers(1, 3))
    else:
        number, C = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        size = [draw(st.integers(1, 3)) * (number if name == "pixel_unshuffle" else 1)] * 2
        C *= {"pixel_shuffle": number**2, "channel_shuffle": number}.get(name, 1)
        function = lambda x: getattr(ops, name)(x, number)  # noqa: E731
        text, torch = f"{name} {number}", torch_shuffle(name, number)
    x = rng_of(draw).standard_normal((draw(st.integers(1, 2)), *size, C))
    return Problem(function, (x,), torch, dtype, f"{x.shape} {text} {dtype}")
