"""Elements moved or copied: padding, which convolutions have too, shuffles, windows as columns."""

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import pad as reference
from tests.reference import shuffle as moved
from tests.reference import unfold as columns

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


class Columns(NamedTuple):
    """Windows along each axis, padded evenly, as PyTorch has them."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def options(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


def plain_unfold(x, w: Columns):
    padded = jnp.pad(x, ((0, 0), *((p, p) for p in w.padding), (0, 0)))
    taps = []
    for u in range(prod(w.window)):
        slices = []
        for n, k, s, d, b in zip(
            *(padded.shape[1:-1], w.window, w.stride, w.dilation),
            np.unravel_index(u, w.window),
            strict=True,
        ):
            last = n - d * (k - 1) - 1
            slices.append(slice(d * int(b), d * int(b) + last + 1, s))
        taps.append(padded[:, *slices])
    return jnp.concatenate(taps, -1)


def plain_fold(x, size, w: Columns):
    """The transpose of `plain_unfold`, by JAX."""
    C = x.shape[-1] // prod(w.window)
    zeros = jnp.zeros((x.shape[0], *size, C), x.dtype)
    return jax.linear_transpose(lambda y: plain_unfold(y, w), zeros)(x)[0]


def to_torch(torch, y, w: Columns, C):
    """Our columns, (N, *places, K C), as PyTorch's, (N, C K, L)."""
    y = y.reshape(y.shape[0], -1, prod(w.window), C)
    return torch.permute(y, (0, 3, 2, 1)).flatten(1, 2)


def torch_unfold(w: Columns):
    def function(torch, x):
        C = x.shape[-1]
        call = torch.nn.functional.unfold
        y = call(torch.movedim(x, -1, 1), w.window, w.dilation, w.padding, w.stride)
        places = columns.places(x.shape[1:-1], *w)
        y = y.reshape(x.shape[0], C, prod(w.window), -1)
        return torch.permute(y, (0, 3, 2, 1)).reshape(x.shape[0], *places, -1)

    return function


def torch_fold(size, w: Columns):
    def function(torch, x):
        y = to_torch(torch, x, w, x.shape[-1] // prod(w.window))
        call = torch.nn.functional.fold
        return torch.movedim(call(y, size, w.window, w.dilation, w.padding, w.stride), 1, -1)

    return function


def unfold_entry(shape, w: Columns):
    return Entry(
        *("unfold", ""),
        lambda x: ops.unfold(x, w.window, **w.options()),
        normal(shape),
        plain=lambda x: plain_unfold(x, w),
        loops=lambda x: columns.unfold(x, *w),
        loops_grad=lambda g, x: (columns.fold(g, x.shape[1:-1], *w),),
        torch=torch_unfold(w),
    )


def fold_entry(shape, size, w: Columns):
    return Entry(
        *("fold", ""),
        lambda x: ops.fold(x, size, w.window, **w.options()),
        normal(shape),
        plain=lambda x: plain_fold(x, size, w),
        loops=lambda x: columns.fold(x, size, *w),
        loops_grad=lambda g, x: (columns.unfold(g, *w),),
        torch=torch_fold(size, w),
    )


STEPS = Columns((2, 2), (1, 2), (1, 0), (2, 1))

ENTRIES = [
    unfold_entry((1, 3, 4, 2), STEPS),
    fold_entry((1, 3, 2, 8), (3, 4), STEPS),
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
    """Padding by as much as the mode can, on one to three axes; the others on two, as PyTorch's."""
    dtype = draw(st.sampled_from(DTYPES))
    name = draw(st.sampled_from(["pad", "unfold", "fold", *PLAIN]))
    if name in ("unfold", "fold"):
        pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
        w, C = Columns(pair(1, 3), pair(1, 3), pair(0, 2), pair(1, 2)), draw(st.integers(1, 2))
        image = tuple(
            d * (k - 1) + n for k, d, n in zip(w.window, w.dilation, pair(1, 4), strict=True)
        )
        size, text = image, f"{name} {image} {w}"
        function, torch = lambda x: ops.unfold(x, w.window, **w.options()), torch_unfold(w)
        if name == "fold":
            function = lambda x: ops.fold(x, image, w.window, **w.options())  # noqa: E731
            size, C, torch = columns.places(image, *w), C * prod(w.window), torch_fold(image, w)
    elif name == "pad":
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
