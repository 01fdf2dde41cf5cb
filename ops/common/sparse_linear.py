"""A fixed sparse linear map along one axis, as one JAX primitive that is its own transpose.

    y[.., o, ..] = sum over (i, w) in rows[o] of  w x[.., i, ..]

Interpolation, the means of unequal bins and the gathering of windows all have this form. So has the
transpose, with the table turned round:

    gx[.., i, ..] = sum over (o, w) in transposed[i] of  w g[.., o, ..]

Hence the gradient is gathered too. What autodiff makes of a gather is a scatter, which on CPU adds
up one element after the other. Written as a matrix product the map would multiply by zeros, which
costs time and turns an infinity anywhere into NaN everywhere; here an element reaches the outputs
whose rows name it, and no other.

Most tables are periodic: with every p outputs the inputs move on by s, as in "twice as large"
(p = 2, s = 1) and in its transpose (p = 1, s = 2). On CPU such a map is a few slices instead of
gathers, two to four times as fast. Other platforms gather, in the program that `jnp.take` makes.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial, reduce
from itertools import product
from math import gcd
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .implementation import uses_xla
from .jax_compat import Primitive, ad, batching, mlir

# Up to so many terms are written out. More are one reduction, several times slower, in a program
# that does not grow.
_UNROLLED = 32

# The longest period that is looked for, in outputs and in inputs.
_PERIOD = 4


class Table(NamedTuple):
    """The map's matrix, without its zeros: hashable, so a static argument."""

    size: int  # of the axis before the map
    rows: tuple[tuple[tuple[int, float], ...], ...]  # per output its (input, weight) pairs


def table(size: int, rows: Iterable[Iterable[tuple[int, float]]]) -> Table:
    """Write a table out: pairs with one input are added up, weights of zero left out."""
    merged = []
    for row in rows:
        weights: dict[int, float] = {}
        for i, w in row:
            weights[int(i)] = weights.get(int(i), 0.0) + float(w)
        merged.append(tuple((i, w) for i, w in weights.items() if w != 0))
    return Table(size, tuple(merged))


def linear_map(x: jax.Array, table: Table, axis: int) -> jax.Array:
    """Apply the map along `axis`, in the dtype of `x`: callers widen what is below float32.

    Args:
        x: ``(..., table.size, ...)``.
        table: the map's rows.
        axis: of `x`, along which it is applied.

    Returns:
        ``(..., len(table.rows), ...)``, dtype of `x`.
    """
    if uses_xla():
        return _gather(x, table=table, axis=axis)
    return linear_map_p.bind(x, table=table, axis=axis)


@lru_cache(maxsize=1024)
def transpose(table: Table) -> Table:
    """Return the table of the transposed map."""
    rows: list[list[tuple[int, float]]] = [[] for _ in range(table.size)]
    for o, row in enumerate(table.rows):
        for i, w in row:
            rows[i].append((o, w))
    return Table(len(table.rows), tuple(map(tuple, rows)))


# ------------------------------------------------------------------------------- the primitive

linear_map_p = Primitive("convax_linear_map")


def _abstract_eval(x, *, table, axis):
    shape = (*x.shape[:axis], len(table.rows), *x.shape[axis + 1 :])
    return x.update(shape=shape, weak_type=False)


def _evaluate(x, *, table, axis):
    with jax.disable_jit(False):  # under `disable_jit` a primitive would call itself for ever
        return _compiled(x, table=table, axis=axis)


@partial(jax.jit, static_argnames=("table", "axis"))
def _compiled(x, *, table, axis):
    return linear_map_p.bind(x, table=table, axis=axis)


def _transpose_rule(g, x, *, table, axis):
    return [linear_map_p.bind(g, table=transpose(table), axis=axis)]


def _batch(args, dims, *, table, axis):
    (x,), (dim,) = args, dims
    return linear_map_p.bind(x, table=table, axis=axis + (dim <= axis)), dim


# ---------------------------------------------------------------------------------- the forms


def _gather(x, *, table, axis):
    """Gather term t of every row at once, and sum over t."""
    index, weight = _columns(table.rows)
    if index.shape[1] > _UNROLLED:
        terms = _take(x, index.ravel(), axis)
        terms = terms.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        return jnp.sum(_weighted(terms, weight, axis), axis=axis + 1)
    return reduce(
        add, (_weighted(_take(x, i, axis), w, axis) for i, w in zip(index.T, weight.T, strict=True))
    )


def _columns(rows: Sequence[Sequence[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights, ``(outputs, terms)``; short rows end in terms of weight zero."""
    terms = max(1, *map(len, rows))  # one of weight zero, where no row reads anything
    index, weight = np.zeros((len(rows), terms), np.int32), np.zeros((len(rows), terms))
    for o, row in enumerate(rows):
        for t, (i, w) in enumerate(row):
            index[o, t:], weight[o, t] = i, w
    return index, weight


def _take(x, index, axis):
    return jnp.take(x, index, axis=axis, mode="clip")


def _weighted(terms, weight, axis):
    """Multiply, but by one; a weight of zero gives zero whatever it meets."""
    shape = (1,) * axis + weight.shape + (1,) * (terms.ndim - axis - weight.ndim)
    weight = weight.reshape(shape)
    if np.any((weight != 0) & (weight != 1)):
        terms = terms * jnp.asarray(weight, terms.dtype)
    if np.all(weight):
        return terms
    return jnp.where(jnp.asarray(weight != 0), terms, jnp.zeros((), terms.dtype))


class _Period(NamedTuple):
    """Of a table whose row p m + r reads the inputs s m + d, for a few d."""

    outputs: int  # p
    inputs: int  # s
    weights: dict[int, np.ndarray]  # by d, for every m and r


def _slices(x, *, table, axis):
    """Sum over d a slice of the inputs times the weights of every m and r."""
    period = _period(table)
    if period is None:
        return _gather(x, table=table, axis=axis)
    p, s, weights = period
    count = -(-len(table.rows) // p)
    first, last = min(weights) // s, max(weights) // s  # blocks of s inputs, around block m
    blocks = count + last - first
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (-first * s, (blocks + first) * s - table.size, 0)  # a negative number crops
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    x = x.reshape(*x.shape[:axis], blocks, s, *x.shape[axis + 1 :])

    def term(d, weight):
        m, r = d // s - first, d % s
        part = lax.slice_in_dim(x, m, m + count, axis=axis)
        part = lax.slice_in_dim(part, r, r + 1, axis=axis + 1)
        part = jnp.broadcast_to(part, (*part.shape[: axis + 1], p, *part.shape[axis + 2 :]))
        return _weighted(part, weight[:1, :1] if np.ptp(weight) == 0 else weight, axis)

    y = reduce(add, (term(d, weight) for d, weight in weights.items()))
    y = y.reshape(*y.shape[:axis], count * p, *y.shape[axis + 2 :])
    return lax.slice_in_dim(y, 0, len(table.rows), axis=axis)


@lru_cache(maxsize=1024)
def _period(table: Table) -> _Period | None:
    """Return the table by its shortest period, or None if it has none that makes it short."""
    rows, longest = len(table.rows), max(map(len, table.rows))
    numbers = range(1, _PERIOD + 1)
    for p, s in sorted(product(numbers, numbers), key=sum):
        # From the first row to the last a period that is none drifts by more than a row reaches.
        if gcd(p, s) > 1 or abs(rows * s - table.size * p) > p * s * (longest + 2):
            continue
        weights: dict[int, np.ndarray] = {}
        for o, row in enumerate(table.rows):
            for i, w in row:
                of_offset = weights.setdefault(i - o // p * s, np.zeros((-(-rows // p), p)))
                of_offset[o // p, o % p] = w
        count = -(-rows // p)
        if not 0 < len(weights) <= min(longest + 1, count // 2):
            continue
        for d, weight in weights.items():  # x is zero beyond its ends: any weight does for those
            at = np.arange(count) * s + d
            weight[(at < 0) | (at >= table.size)] = weight[count // 2]
        return _Period(p, s, weights)
    return None


linear_map_p.def_impl(_evaluate)
linear_map_p.def_abstract_eval(_abstract_eval)
mlir.register_lowering(linear_map_p, mlir.lower_fun(_gather, multiple_results=False))
mlir.register_lowering(
    linear_map_p, mlir.lower_fun(_slices, multiple_results=False), platform="cpu"
)
ad.deflinear2(linear_map_p, _transpose_rule)
batching.primitive_batchers[linear_map_p] = _batch
