"""Dropout, stochastic depth and the L2 penalty."""

import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import dropout as reference

from .entry import Entry, Problem, normal
from .random import DTYPES, rng_of


def kept(shape, rate, seed, per_channel=False):
    """Return what dropout keeps. Every oracle is handed the same draw.

    JAX draws each element by its number, so that a shape has what begins a longer one: all shapes
    share one program.
    """
    drawn = (shape[0], *(1,) * (len(shape) - 2), shape[-1]) if per_channel else shape
    return np.broadcast_to(_survivors(rate, seed)[: math.prod(drawn)].reshape(drawn), shape)


@lru_cache
def _survivors(rate, seed):
    """Ones that have survived, of as many as a problem has at most."""
    with jax.ensure_compile_time_eval():  # also where the plain formulation is being traced
        y = ops.dropout(np.ones(4**5, np.float32), rate, train=True, key=jax.random.key(seed))
        return np.asarray(y) > 0


def _dropout(case, shape, rate, **options):
    key = jax.random.key(7)
    mask = lambda: kept(shape, rate, 7, **options)  # noqa: E731
    return Entry(
        "dropout",
        case,
        lambda x: ops.dropout(x, rate, train=True, key=key, **options),
        normal(shape),
        plain=lambda x: x * jnp.asarray(mask(), x.dtype) / (1 - rate),
        loops=lambda x: reference.dropout(x, mask(), rate),
        loops_grad=lambda g, x: (reference.dropout_grad(g, mask(), rate),),
        torch=lambda torch, x: x * torch.tensor(mask()) / (1 - rate),
    )


def _stochastic_depth(shape, rate):
    key = jax.random.key(7)

    def mask():
        ones = np.ones(shape, np.float32)
        with jax.ensure_compile_time_eval():
            return np.asarray(ops.stochastic_depth(ones, rate, train=True, key=key)) > 0

    return Entry(
        "stochastic_depth",
        "",
        lambda x: ops.stochastic_depth(x, rate, train=True, key=key),
        normal(shape),
        plain=lambda x: x * jnp.asarray(mask(), x.dtype) / (1 - rate),
        loops=lambda x: reference.dropout(x, mask(), rate),
        loops_grad=lambda g, x: (reference.dropout_grad(g, mask(), rate),),
        torch=lambda torch, x: x * torch.tensor(mask()) / (1 - rate),
    )


def _params(conv_kernel, conv_bias, kernel):
    """As a network has them; a tree of 3 arrays."""
    return {"stage1": {"conv1": {"kernel": conv_kernel, "bias": conv_bias}}, "head": [kernel]}


def _l2(case, rate, pattern, of):
    """`of` says which of the three arrays the pattern matches."""
    pick = lambda arrays: [arrays[i] for i in of]  # noqa: E731

    def loops_grad(g, *arrays):
        chosen = reference.l2_grads(g, arrays, rate)
        return tuple(c if i in of else np.zeros(c.shape) for i, c in enumerate(chosen))

    return Entry(
        "l2",
        case,
        lambda *arrays: ops.l2(_params(*arrays), rate, pattern=pattern),
        normal((2, 2, 3), (3,), (3, 2)),
        plain=lambda *arrays: rate * sum(jnp.vdot(a, a) for a in pick(arrays)) / 2,
        loops=lambda *arrays: np.array(reference.l2(pick(arrays), rate)),
        loops_grad=loops_grad,
        torch=lambda torch, *arrays: sum((a**2).sum() for a in pick(arrays)) * (rate / 2),
    )


ENTRIES = [
    _dropout("", (4, 6), 0.4),
    _dropout("per channel", (3, 2, 2, 4), 0.5, per_channel=True),
    _stochastic_depth((6, 2, 3), 0.4),
    _l2("", 0.3, None, (0, 1, 2)),
    _l2("pattern", 0.3, r"stage1/.*|nothing", (0, 1)),
]


@st.composite
def problems(draw):
    """Any shape and rate; trees of arrays of which some are chosen by their path."""
    dtype, rng = draw(st.sampled_from(DTYPES)), rng_of(draw)
    if draw(st.booleans()):
        shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=5)))
        rate, seed = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])), draw(st.integers(0, 99))
        per_channel = draw(st.booleans())
        mask = kept(shape, rate, seed, per_channel)
        return Problem(
            lambda x: ops.dropout(
                x, rate, train=True, per_channel=per_channel, key=jax.random.key(seed)
            ),
            normal(shape)(rng),
            lambda torch, x: torch.where(torch.tensor(mask), x / (1 - rate), 0.0),
            dtype,
            f"dropout {shape} {rate} per_channel={per_channel} {dtype}",
        )
    shapes = [tuple(draw(st.lists(st.integers(1, 4), max_size=4))) for _ in range(3)]
    rate = draw(st.sampled_from([0.0, 1e-4, 0.5, 3.0]))
    pattern, of = draw(
        st.sampled_from(
            [
                (None, (0, 1, 2)),
                (".*kernel", (0,)),
                (".*/conv[0-9]/(kernel|bias)", (0, 1)),
                ("head/0", (2,)),
                ("(?!.*bias).*", (0, 2)),
            ]
        )
    )
    return Problem(
        lambda *arrays: ops.l2(_params(*arrays), rate, pattern=pattern),
        normal(*shapes)(rng),
        lambda torch, *arrays: sum((arrays[i] ** 2).sum() for i in of) * (rate / 2),
        dtype,
        f"l2 {shapes} {rate} {pattern} {dtype}",
    )
