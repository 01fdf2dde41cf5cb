"""Pooling, one window at a time."""

from itertools import product

import numpy as np


def max_pool(x, window, stride, padding):
    """The maximum of each window and where in the padded x it is: the first in row-major order."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
    out = _output_size(padded, window, stride)
    y = np.zeros((x.shape[0], *out, x.shape[-1]), x.dtype)
    where = np.zeros(y.shape, object)
    for n, *i, c in np.ndindex(y.shape):
        best = None
        for u in product(*map(range, window)):
            at = _position(i, u, stride)
            if _inside(at, x.shape, padding) and (best is None or padded[n, *at, c] > y[n, *i, c]):
                best, y[n, *i, c] = at, padded[n, *at, c]
        where[n, *i, c] = best
    return y, where


def max_pool_grad(x, g, window, stride, padding):
    """The gradient of sum(g * max_pool(x)): all of g goes to the winner of its window."""
    _, where = max_pool(x, window, stride, padding)
    low = [a for a, _ in padding]
    gx = np.zeros(x.shape)
    for n, *i, c in np.ndindex(g.shape):
        at = np.subtract(where[n, *i, c], low)
        gx[n, *at, c] += g[n, *i, c]
    return gx


def avg_pool(x, window, stride, padding, count_include_pad):
    """The mean of each window, over all of it or over its elements inside x."""
    weights = _avg_weights(x, window, stride, padding, count_include_pad)
    return _apply(np.pad(x, ((0, 0), *padding, (0, 0))), weights)


def avg_pool_grad(x, g, window, stride, padding, count_include_pad):
    """The gradient of sum(g * avg_pool(x)): each element gets its share of each of its windows."""
    gx = np.zeros(np.pad(x, ((0, 0), *padding, (0, 0))).shape)
    for i, at, weight in _avg_weights(x, window, stride, padding, count_include_pad):
        gx[:, *at, :] += weight * g[:, *i, :]
    inside = (slice(low, low + n) for (low, _), n in zip(padding, x.shape[1:-1], strict=True))
    return gx[:, *inside]


def _apply(padded, weights):
    out = tuple(np.max([i for i, _, _ in weights], axis=0) + 1)
    y = np.zeros((padded.shape[0], *out, padded.shape[-1]))
    for i, at, weight in weights:
        y[:, *i, :] += weight * padded[:, *at, :]
    return y


def _avg_weights(x, window, stride, padding, count_include_pad):
    """Every (output position, padded input position, weight) of the mean."""
    weights = []
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    for i in product(*map(range, _output_size(padded, window, stride))):
        taps = [_position(i, u, stride) for u in product(*map(range, window))]
        if not count_include_pad:
            taps = [at for at in taps if _inside(at, x.shape, padding)]
        weights += [(i, at, 1 / len(taps)) for at in taps]
    return weights


def _output_size(padded, window, stride):
    return tuple(
        (n - w) // s + 1 for n, w, s in zip(padded.shape[1:-1], window, stride, strict=True)
    )


def _position(i, u, stride):
    return tuple(s * a + b for a, b, s in zip(i, u, stride, strict=True))


def _inside(at, shape, padding):
    return all(low <= a < low + n for a, n, (low, _) in zip(at, shape[1:-1], padding, strict=True))
