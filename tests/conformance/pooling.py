"""Pooling: over windows, to a given size, and by chance."""

from math import inf, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

from convax import ops
from tests.reference import pool as reference

from .entry import Entry, Problem, channels_first, normal
from .random import DTYPES, rng_of


class Windows(NamedTuple):
    """Hyper-parameters written out per spatial axis, as every oracle takes them."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...] | None = None
    ceil_mode: bool = False

    @property
    def elements(self) -> int:
        return prod(self.window)

    def of(self, x):
        """The elements that each output reads."""
        return reference.windows(x.shape[1:-1], *self)

    def into(self, op, **options):
        """Our function of x with these windows."""
        w, s, p, dilation, ceil_mode = self
        more = ({"dilation": dilation} if dilation else {}) | (
            {"ceil_mode": True} if ceil_mode else {}
        )
        return lambda x: op(x, w, stride=s, padding=p, **more, **options)

    def output(self, shape) -> tuple[int, ...]:
        return ops.pool_output_shape(shape, self.window, stride=self.stride, padding=self.padding)


def tiles(*window):
    return Windows(window, window, ((0, 0),) * len(window))


# ----------------------------------------------------------------------------- plain formulations


def plain(places_of, formula):
    """`formula` of the elements of each window, ``(elements, N, C)``: one window at a time."""

    def function(x):
        places = places_of(x)
        y = [formula(jnp.stack([x[:, *at] for at in inside])) for inside in places.values()]
        out = tuple(n + 1 for n in max(places))
        return jnp.stack(y, axis=1).reshape(x.shape[0], *out, x.shape[-1])

    return function


def plain_max(w: Windows):
    if w.dilation:  # of which XLA has no gradient
        return plain(w.of, lambda x: jnp.max(x, 0))
    arguments = (1, *w.window, 1), (1, *w.stride, 1), ((0, 0), *w.padding, (0, 0))
    return lambda x: lax.reduce_window(x, -jnp.inf, lax.max, *arguments)


def plain_avg(w: Windows, count_include_pad=True):
    arguments = (1, *w.window, 1), (1, *w.stride, 1), ((0, 0), *w.padding, (0, 0))
    total = lambda x: lax.reduce_window(x, 0.0, lax.add, *arguments)  # noqa: E731
    return lambda x: total(x) / (w.elements if count_include_pad else total(jnp.ones_like(x)))


def plain_expected(x):
    a = jnp.maximum(x, 0)
    total = jnp.sum(a, 0)
    return jnp.sum(a**2, 0) / jnp.where(total > 0, total, 1)


def plain_drawn(w: Windows, u):
    """Whether element k is drawn: the running sum exceeds u times the whole there, not before."""

    def function(x):
        draw, places = jnp.asarray(u, x.dtype), w.of(x)
        y = []
        for i, inside in places.items():
            a = jnp.stack([jnp.maximum(x[:, *at], 0) for at in inside])
            p = lax.stop_gradient(a)
            target, running = draw[:, *i] * jnp.sum(p, 0), jnp.cumsum(p, 0)
            y.append(
                jnp.sum(
                    jnp.where((running > target[None]) & (running - p <= target[None]), a, 0), 0
                )
            )
        return jnp.stack(y, axis=1).reshape(u.shape)

    return function


# --------------------------------------------------------------------------------------- PyTorch


def torch_padded(torch, x, w: Windows, value=0.0):
    return torch.nn.functional.pad(x, [p for pads in w.padding[::-1] for p in pads], value=value)


def torch_pool(kind, w: Windows, **options):
    """PyTorch's own padding where it has it: even on both sides, at most half the window."""
    own = all(a == b <= k // 2 for (a, b), k in zip(w.padding, w.window, strict=True))

    def function(torch, x):
        call = getattr(torch.nn.functional, f"{kind}_pool{len(w.window)}d")
        if own:
            padding = tuple(low for low, _ in w.padding)
            more = {"dilation": w.dilation} if w.dilation else {}
            return call(x, w.window, w.stride, padding, ceil_mode=w.ceil_mode, **more, **options)
        return call(torch_padded(torch, x, w, -inf if kind == "max" else 0.0), w.window, w.stride)

    return channels_first(function)


def torch_indices(w: Windows):
    def function(torch, x):
        call = getattr(torch.nn.functional, f"max_pool{len(w.window)}d")
        padding = tuple(low for low, _ in w.padding)
        first = torch.movedim(x, -1, 1)
        y, indices = call(first, w.window, w.stride, padding, return_indices=True)
        # Numbers have no gradient, which PyTorch refuses to be asked for.
        return torch.movedim(y, 1, -1), torch.movedim(indices + 0 * y, 1, -1)

    return function


def torch_unpool(indices, size):
    def function(torch, x):
        call = getattr(torch.nn.functional, f"max_unpool{len(size)}d")
        return call(x, torch.movedim(torch.tensor(indices), -1, 1), 2, output_size=size)

    return channels_first(function)


def torch_lp(w: Windows, p):
    def function(torch, x):
        call = getattr(torch.nn.functional, f"lp_pool{len(w.window)}d")
        x = torch_padded(torch, x if p % 2 == 0 else torch.abs(x), w)
        one = len(w.window) == 1  # which it takes as a plain number only
        return call(x, p, *(w.window + w.stride if one else w[:2]))

    return channels_first(function)


def torch_largest(w: Windows):
    return lambda torch, x: torch_pool("max", w)(torch, torch.abs(x))


def torch_mixed(w: Windows, chance):
    largest, mean = torch_pool("max", w), torch_pool("avg", w)
    return lambda torch, x: chance * largest(torch, x) + (1 - chance) * mean(torch, x)


def torch_windows(torch, x, w: Windows):
    """max(x, 0) of each window, elements last: (N, C, *out, elements)."""
    x = torch_padded(torch, torch.relu(x), w)
    for axis, (k, s) in enumerate(zip(w.window, w.stride, strict=True), start=2):
        x = x.unfold(axis, k, s)
    return x.flatten(2 + len(w.window))


def torch_expected(w: Windows):
    def function(torch, x):
        a = torch_windows(torch, x, w)
        total = a.sum(-1)
        return (a * a).sum(-1) / torch.where(total > 0, total, torch.ones_like(total))

    return channels_first(function)


def torch_drawn(w: Windows, u):
    def function(torch, x):
        a = torch_windows(torch, x, w)
        draw = torch.movedim(torch.tensor(u, dtype=a.dtype), -1, 1)
        running = a.detach().cumsum(-1)
        first = (running > (draw * running[..., -1])[..., None]).to(torch.int8).argmax(-1)
        return a.gather(-1, first[..., None])[..., 0]

    return channels_first(function)


def torch_adaptive(kind, output):
    name = f"adaptive_{kind}_pool{len(output)}d"
    return channels_first(lambda torch, x: getattr(torch.nn.functional, name)(x, output))


def torch_global(kind):
    def function(torch, x):
        return torch_adaptive(kind, (1,) * (x.ndim - 2))(torch, x).flatten(1)

    return function


def torch_pyramid(levels):
    def function(torch, x):
        rank = x.ndim - 2
        y = [torch_adaptive("max", (level,) * rank)(torch, x).flatten(1) for level in levels]
        return torch.cat(y, dim=1)

    return function


# --------------------------------------------------------------------------------------- entries

KEYS = {"mean drawn": jax.random.key(0), "maximum drawn": jax.random.key(1)}


def uniform(key, shape):
    """The numbers that stochastic pooling draws."""
    return np.asarray(jax.random.uniform(key, shape, jnp.float32))


def coin(key):
    """Lambda of mixed pooling, as drawn."""
    return float(uniform(key, ()) < 0.5)


def entry(op, case, shape, function, plain, loops, grad, torch):
    """An entry of one array."""
    return Entry(op, case, function, normal(shape), plain, loops, lambda *a: (grad(*a),), torch)


def max_entry(case, shape, w):
    return entry(
        *("max_pool", case, shape, w.into(ops.max_pool), plain_max(w)),
        lambda x: reference.max_pool(x, w.of(x)),
        lambda g, x: reference.max_pool_grad(g, x, w.of(x)),
        torch_pool("max", w),
    )


def indices_entry(shape, w):
    def function(x):
        y, indices = ops.max_pool_with_indices(x, w.window, stride=w.stride, padding=w.padding)
        return y, indices.astype(x.dtype)  # a number, for the table

    def plain_pair(x):
        y, numbers = plain_max(w)(x), np.arange(prod(shape[1:-1])).reshape(shape[1:-1])
        winners = []
        for inside in w.of(x).values():
            winner = jnp.argmax(jnp.stack([x[:, *at] for at in inside]), axis=0)
            winners.append(jnp.array([numbers[at] for at in inside])[winner])
        return y, jnp.stack(winners, 1).reshape(y.shape).astype(x.dtype)

    return entry(
        *("max_pool_with_indices", "", shape, function, plain_pair),
        lambda x: (reference.max_pool(x, w.of(x)), reference.max_pool_indices(x, w.of(x))),
        lambda g, x: reference.max_pool_grad(g[0], x, w.of(x)),
        torch_indices(w),
    )


def unpool_entry(indices, size):
    def plain_unpool(x):
        y = jnp.where(indices[..., None] == np.arange(prod(size)), x[..., None], 0)
        y = jnp.sum(y, axis=tuple(range(1, x.ndim - 1)))  # (N, C, places)
        return jnp.moveaxis(y, 1, -1).reshape(x.shape[0], *size, x.shape[-1])

    return entry(
        *("max_unpool", "", indices.shape, lambda x: ops.max_unpool(x, indices, size)),
        plain_unpool,
        lambda x: reference.max_unpool(x, indices, size),
        lambda g, x: reference.max_unpool_grad(g, x, indices, size),
        torch_unpool(indices, size),
    )


def avg_entry(case, shape, w, count_include_pad=True):
    count = w.elements if count_include_pad else None
    options = {"count_include_pad": count_include_pad}
    return entry(
        *("avg_pool", case, shape, w.into(ops.avg_pool, **options)),
        plain_avg(w, count_include_pad),
        lambda x: reference.avg_pool(x, w.of(x), count),
        lambda g, x: reference.avg_pool_grad(g, x, w.of(x), count),
        torch_pool("avg", w, **options),
    )


def lp_entry(case, shape, w, p):
    return entry(
        *("lp_pool", case, shape, w.into(ops.lp_pool, p=p)),
        plain(w.of, lambda x: jnp.sum(jnp.abs(x) ** p, 0) ** (1 / p)),
        lambda x: reference.lp_pool(x, w.of(x), p),
        lambda g, x: reference.lp_pool_grad(g, x, w.of(x), p),
        torch_lp(w, p),
    )


def largest_entry(shape, w):
    """The p-norm for p = inf."""
    return entry(
        *("lp_pool", "p = inf", shape, w.into(ops.lp_pool, p=inf)),
        plain(w.of, lambda x: jnp.max(jnp.abs(x), 0)),
        lambda x: reference.max_pool(np.abs(x), w.of(x)),
        lambda g, x: np.sign(x) * reference.max_pool_grad(g, np.abs(x), w.of(x)),
        torch_largest(w),
    )


def mixed_entry(case, shape, w):
    key = KEYS.get(case)
    chance = 0.5 if key is None else coin(key)
    largest, mean = plain_max(w), plain_avg(w)
    return entry(
        *("mixed_pool", case, shape, w.into(ops.mixed_pool, train=key is not None, key=key)),
        lambda x: chance * largest(x) + (1 - chance) * mean(x),
        lambda x: reference.mixed_pool(x, w.of(x), w.elements, chance),
        lambda g, x: reference.mixed_pool_grad(g, x, w.of(x), w.elements, chance),
        torch_mixed(w, chance),
    )


def drawn_entry(case, shape, w):
    key = jax.random.key(2)
    u = uniform(key, w.output(shape))
    return entry(
        *("stochastic_pool", case, shape, w.into(ops.stochastic_pool, train=True, key=key)),
        plain_drawn(w, u),
        lambda x: reference.stochastic_pool(x, w.of(x), u),
        lambda g, x: reference.stochastic_pool_grad(g, x, w.of(x), u),
        torch_drawn(w, u),
    )


def expected_entry(case, shape, w):
    return entry(
        *("stochastic_pool", case, shape, w.into(ops.stochastic_pool, train=False)),
        plain(w.of, plain_expected),
        lambda x: reference.stochastic_mean(x, w.of(x)),
        lambda g, x: reference.stochastic_mean_grad(g, x, w.of(x)),
        torch_expected(w),
    )


def adaptive_entry(kind, case, shape, output):
    of = lambda x: reference.bins(x.shape[1:-1], output)  # noqa: E731
    loops, grad = getattr(reference, f"{kind}_pool"), getattr(reference, f"{kind}_pool_grad")
    return entry(
        *(f"adaptive_{kind}_pool", case, shape),
        lambda x: getattr(ops, f"adaptive_{kind}_pool")(x, output),
        plain(of, lambda x: {"max": jnp.max, "avg": jnp.mean}[kind](x, 0)),
        lambda x: loops(x, of(x)),
        lambda g, x: grad(g, x, of(x)),
        torch_adaptive(kind, output),
    )


def global_entry(kind, shape):
    one = (1,) * (len(shape) - 2)
    of = lambda x: reference.bins(x.shape[1:-1], one)  # noqa: E731
    loops, grad = getattr(reference, f"{kind}_pool"), getattr(reference, f"{kind}_pool_grad")
    axes = tuple(range(1, len(shape) - 1))
    return entry(
        *(f"global_{kind}_pool", "", shape, getattr(ops, f"global_{kind}_pool")),
        lambda x: {"max": jnp.max, "avg": jnp.mean}[kind](x, axes),
        lambda x: loops(x, of(x)).reshape(x.shape[0], -1),
        lambda g, x: grad(g.reshape(x.shape[0], *one, -1), x, of(x)),
        torch_global(kind),
    )


def pyramid_entry(shape, levels):
    def plain_pyramid(x):
        bins = lambda o: lambda x: reference.bins(x.shape[1:-1], (o,) * (x.ndim - 2))  # noqa: E731
        y = [plain(bins(o), lambda x: jnp.max(x, 0))(x).reshape(x.shape[0], -1) for o in levels]
        return jnp.concatenate(y, 1)

    return entry(
        *("spatial_pyramid_pool", "", shape),
        lambda x: ops.spatial_pyramid_pool(x, levels),
        plain_pyramid,
        lambda x: reference.spatial_pyramid_pool(x, levels),
        lambda g, x: reference.spatial_pyramid_pool_grad(g, x, levels),
        torch_pyramid(levels),
    )


OVERLAPPING = Windows((3, 2), (2, 1), ((1, 1), (1, 0)))
LARGE = Windows((9,), (2,), ((3, 2),))

ENTRIES = [
    # taps; taps along one axis after the other; a reduction over tiles; over large windows
    max_entry("tiles", (2, 4, 5, 2), tiles(2, 2)),
    max_entry("overlapping", (1, 5, 4, 2), OVERLAPPING),
    max_entry("large tiles", (2, 20, 1), tiles(10)),
    max_entry("large windows", (2, 12, 2), LARGE),
    max_entry("dilated", (1, 5, 4, 2), Windows((2, 2), (1, 2), ((1, 1), (1, 1)), (3, 2), True)),
    indices_entry((1, 5, 4, 2), Windows((3, 2), (2, 1), ((1, 1), (1, 1)))),
    unpool_entry(np.array([0, 5, 3, 1, 7, 14, 8, 9]).reshape(1, 2, 2, 2), (5, 3)),
    # a mean; a sum of windows, and its two divisors
    avg_entry("tiles", (1, 4, 2, 4, 1), tiles(2, 2, 2)),
    avg_entry("overlapping", (1, 5, 4, 2), OVERLAPPING),
    avg_entry("inside only", (1, 5, 4, 2), Windows((3, 2), (2, 1), ((1, 1), (1, 1))), False),
    lp_entry("p = 2, tiles", (2, 4, 5, 1), tiles(2, 2), 2.0),
    lp_entry("p = 3, overlapping", (1, 5, 4, 2), OVERLAPPING, 3.0),
    lp_entry("p = 1.5, large windows", (2, 12, 2), LARGE, 1.5),
    lp_entry("p = 1", (2, 4, 4, 1), tiles(2, 2), 1.0),
    largest_entry((1, 5, 4, 2), OVERLAPPING),
    *(mixed_entry(case, (1, 5, 4, 2), OVERLAPPING) for case in (*KEYS, "evaluation")),
    drawn_entry("drawn, tiles", (2, 4, 4, 1), tiles(2, 2)),
    drawn_entry("drawn, overlapping", (1, 5, 4, 2), OVERLAPPING),
    expected_entry("evaluation", (1, 5, 4, 2), OVERLAPPING),
    global_entry("max", (2, 3, 4, 2)),
    global_entry("avg", (2, 3, 4, 2)),
    adaptive_entry("max", "equal bins", (1, 6, 4, 2), (3, 2)),
    adaptive_entry("max", "overlapping bins", (1, 5, 3, 2), (3, 4)),
    adaptive_entry("avg", "equal bins", (1, 6, 4, 2), (3, 2)),
    adaptive_entry("avg", "overlapping bins", (1, 5, 3, 2), (3, 4)),
    pyramid_entry((1, 4, 3, 1), (2, 1)),
]


# ----------------------------------------------------------------------------------------- drawn


@st.composite
def windowed(draw, rank, op):
    """Windows of every kind, and a shape that they fit into."""
    per_axis = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    window = per_axis(1, 4 if rank < 3 else 2)
    if rank == 1 and draw(st.booleans()):
        window = (draw(st.integers(9, 12)),)
    kind = draw(st.sampled_from(["tiles", "even padding", "any padding"]))
    ceil_mode = op in ("max_pool", "avg_pool") and kind != "any padding" and draw(st.booleans())
    if kind == "tiles":
        w = tiles(*window)
    elif kind == "even padding":  # PyTorch's own
        pads = tuple(draw(st.integers(0, k // 2)) for k in window)
        w = Windows(window, per_axis(1, 3), tuple((p, p) for p in pads))
    else:
        side = lambda k: draw(st.integers(0, k - 1))  # noqa: E731
        w = Windows(window, per_axis(1, 3), tuple((side(k), side(k)) for k in window))
    size = tuple(
        max(k - sum(pads), 1) + draw(st.integers(0, 5))
        for k, pads in zip(window, w.padding, strict=True)
    )
    w = w._replace(ceil_mode=ceil_mode)
    if op == "max_pool" and kind == "even padding" and draw(st.booleans()):
        dilation = per_axis(1, 3)  # a window is not to lie around the input
        size = tuple(n + d * k for n, d, k in zip(size, dilation, window, strict=True))
        w = w._replace(dilation=dilation)
    return (draw(st.integers(1, 2)), *size, draw(st.integers(1, 3))), w


@st.composite
def problems(draw):
    """Any pool, from one to three axes; small integers where ties are to be settled."""
    rank = draw(st.integers(1, 3))
    op = draw(st.sampled_from(POOLS))
    seed = draw(st.integers(0, 2**31 - 1))
    if op in WINDOWED:
        shape, w = draw(windowed(rank, op))
        function, torch = WINDOWED[op](draw, shape, w, jax.random.key(seed))
        how = w
    else:
        size = tuple(draw(st.integers(1, 9 if rank < 3 else 4)) for _ in range(rank))
        shape = (draw(st.integers(1, 2)), *size, draw(st.integers(1, 3)))
        how = tuple(draw(st.integers(1, 6 if rank < 3 else 3)) for _ in range(rank))
        function, torch = SIZED[op](how)
    rng = rng_of(draw)
    ties = "max" in op and draw(st.booleans())
    x = rng.integers(-3, 3, shape).astype(float) if ties else rng.standard_normal(shape)
    dtype = draw(st.sampled_from(DTYPES))
    return Problem(function, (x,), torch, dtype, f"{op} of {shape} {dtype}, {how}")


def _draw_avg(draw, shape, w, key):
    even = all(a == b <= k // 2 for (a, b), k in zip(w.padding, w.window, strict=True))
    options = {"count_include_pad": not even or draw(st.booleans())}
    return w.into(ops.avg_pool, **options), torch_pool("avg", w, **options)


def _draw_lp(draw, shape, w, key):
    p = draw(st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0, 7.5, inf]))
    return w.into(ops.lp_pool, p=p), torch_largest(w) if p == inf else torch_lp(w, p)


def _draw_mixed(draw, shape, w, key):
    train = draw(st.booleans())
    chance = coin(key) if train else 0.5
    return w.into(ops.mixed_pool, train=train, key=key), torch_mixed(w, chance)


def _draw_stochastic(draw, shape, w, key):
    train = draw(st.booleans())
    u = uniform(key, w.output(shape))
    torch = torch_drawn(w, u) if train else torch_expected(w)
    return w.into(ops.stochastic_pool, train=train, key=key), torch


WINDOWED = {
    "max_pool": lambda draw, shape, w, key: (w.into(ops.max_pool), torch_pool("max", w)),
    "avg_pool": _draw_avg,
    "lp_pool": _draw_lp,
    "mixed_pool": _draw_mixed,
    "stochastic_pool": _draw_stochastic,
}
SIZED = {
    "global_max_pool": lambda size: (ops.global_max_pool, torch_global("max")),
    "global_avg_pool": lambda size: (ops.global_avg_pool, torch_global("avg")),
    "adaptive_max_pool": lambda size: (
        lambda x: ops.adaptive_max_pool(x, size),
        torch_adaptive("max", size),
    ),
    "adaptive_avg_pool": lambda size: (
        lambda x: ops.adaptive_avg_pool(x, size),
        torch_adaptive("avg", size),
    ),
    "spatial_pyramid_pool": lambda size: (
        lambda x: ops.spatial_pyramid_pool(x, size),  # as many levels as axes
        torch_pyramid(size),
    ),
}
POOLS = [*WINDOWED, *SIZED]
