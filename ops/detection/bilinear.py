"""Where regions sample a map along one axis, and the bilinear weights they read it with.

A region covers a span of an axis, cut into bins, each with samples side by side. A sample at y in
[-1, size] reads two neighbors, with weights that add up to 1; beyond, it reads nothing:

    phi(y, i) = 1 - f  at i = l,   f  at i = l + 1,   with  l = floor(max(y, 0)),  f = max(y, 0) - l

and from size - 1 on all of the last element. Two forms: the neighbors of each sample (`Taps`), or
the matrix of a region, bins by elements, of means over the samples of a bin. At whole numbers,
where phi has a kink, the derivative is that from the right.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Samples of an adaptive bin are more than 1/2 apart, or there is one. So at most four of them meet
# an element, which reaches 1 to both sides; one more on each side for rounding.
_MEETING = 6


class Span(NamedTuple):
    """Of every region along one axis, in elements of the map."""

    start: jax.Array  # (...), the middle of element i at i
    length: jax.Array  # (...)


class Taps(NamedTuple):
    """The elements that the samples of every region read along one axis."""

    low: jax.Array  # (..., bins, samples), int32; the other neighbor is the next element
    weights: jax.Array  # (..., bins, samples, 2), divided by the number of samples


def spans(boxes: jax.Array, scale: float | jax.Array, aligned: bool) -> tuple[Span, Span]:
    """Return the spans of boxes (..., 4) along y and x; scale: a number, or (...)."""
    half = 0.5 if aligned else 0.0

    def span(low, high):
        start, stop = low * scale - half, high * scale - half
        length = stop - start
        if not aligned:
            length = jnp.where(length > 1, length, 1.0)
        return Span(start, length)

    return span(boxes[..., 1], boxes[..., 3]), span(boxes[..., 0], boxes[..., 2])


def sample_taps(span: Span, bins: int, samples: int, size: int | jax.Array) -> Taps:
    """Return what a fixed number of samples a bin reads; size: of the axis, a number or (...)."""
    start, bin_length = span.start[..., None, None], span.length[..., None, None] / bins
    p = jnp.arange(bins, dtype=start.dtype)[:, None]
    k = jnp.arange(samples, dtype=start.dtype)
    p, k = (a.reshape((1,) * (start.ndim - 2) + a.shape) for a in (p, k[None]))
    low, *weights = _neighbors(
        start + p * bin_length + (k + 0.5) * bin_length / samples, _last_axes(size, 2)
    )
    return Taps(low, jnp.stack(weights, axis=-1) / samples)


def tap_matrix(taps: Taps, size: int) -> jax.Array:
    """Write taps out as the matrix of each region, (..., bins, size)."""
    low, weights = taps.low[..., None], taps.weights[..., None]
    i = _elements(size, low.ndim, low.dtype)
    at_low = jnp.where(low == i, weights[..., 0, :], 0.0)
    at_high = jnp.where(jnp.minimum(low + 1, size - 1) == i, weights[..., 1, :], 0.0)
    return jnp.sum(at_low + at_high, axis=-2)


def adaptive_matrix(span: Span, bins: int, size: int) -> jax.Array:
    """Return the matrix of each region, (..., bins, size), with samples at most one element apart.

    A bin has S samples, the least number with S bins >= length; none where the length is not above
    zero. Of them only those are looked at that can meet an element, whatever S is.
    """
    empty = ~(span.length > 0)  # true for NaN
    start, length = jnp.where(empty, 0.0, span.start), jnp.where(empty, 1.0, span.length)
    S = jnp.maximum(jnp.ceil(length / bins), 1)
    S = jnp.where((S - 1) * bins >= length, S - 1, S)  # division by a constant may be rounded up
    start, length, S, empty = (a[..., None, None, None] for a in (start, length, S, empty))
    step = length / bins / S
    p, i, t = (jnp.arange(n, dtype=start.dtype) for n in (bins, size, _MEETING))
    shape = (1,) * (start.ndim - 3)
    p, i, t = p.reshape(*shape, -1, 1, 1), i.reshape(*shape, 1, -1, 1), t.reshape(*shape, 1, 1, -1)
    first = start + p * (length / bins) + 0.5 * step
    k = jnp.ceil((i - 1 - first) / step) - 1  # the first sample that can meet element i
    k = jnp.clip(jax.lax.stop_gradient(k), 0, S - 1) + t
    low, at_low, at_high = _neighbors(first + k * step, size)
    low = low.astype(start.dtype)
    weights = jnp.where(low == i, at_low, 0) + jnp.where(
        jnp.minimum(low + 1, size - 1) == i, at_high, 0
    )
    return jnp.sum(jnp.where((k < S) & ~empty, weights / S, 0.0), axis=-1)


def _neighbors(y, size):
    """Return the lower neighbor of samples at `y`, its weight and that of the next element."""
    size = jnp.asarray(size, jnp.int32)
    last = _like(y, size - 1)
    inside = (y >= -1) & (y <= _like(y, size).astype(y.dtype))  # false for NaN
    y = jnp.where(inside & (y >= 0), y, 0.0)
    low = jnp.minimum(jnp.floor(y).astype(jnp.int32), last)
    f = jnp.where(low >= last, 0.0, y - low.astype(y.dtype))
    return low, jnp.where(inside, 1 - f, 0.0), jnp.where(inside, f, 0.0)


def _like(y, a):
    return a.reshape((1,) * (y.ndim - a.ndim) + a.shape)


def _last_axes(a, number):
    return a if isinstance(a, int) else a[(..., *(None,) * number)]


def _elements(size, ndim, dtype):
    return jnp.arange(size, dtype=dtype).reshape((1,) * (ndim - 1) + (size,))
