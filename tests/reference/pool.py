"""Pooling, one window at a time.

`windows` and `bins` say which elements each output reads; every pool is then a formula over those,
and its gradient hands g, the gradient of the output, back to them.
"""

from itertools import product

import numpy as np


def windows(size, window, stride, padding, dilation=None, ceil_mode=False):
    """Per output position its elements inside the input, in row-major order: {i: [at, ...]}."""
    dilation = dilation or (1,) * len(size)
    axes = list(zip(size, window, stride, padding, dilation, strict=True))
    out = [len(_starts(*axis, ceil_mode)) for axis in axes]
    places = {}
    for i in product(*map(range, out)):
        taps = (
            tuple(
                s * a - low + d * b for a, b, (_, _, s, (low, _), d) in zip(i, u, axes, strict=True)
            )
            for u in product(*map(range, window))
        )
        places[i] = [at for at in taps if all(0 <= a < n for a, n in zip(at, size, strict=True))]
    return places


def _starts(n, k, s, padding, d, ceil_mode):
    """Where windows begin along an axis: those that fit in, and in ceil mode one more."""
    low, high = padding
    starts, start = [], -low
    while start + d * (k - 1) < n + high:
        starts.append(start)
        start += s
    missed = n + high > (starts[-1] if starts else -low - s) + d * (k - 1) + 1
    return starts + [start] * (ceil_mode and start < n and missed)


def bins(size, output):
    """The same for adaptive pooling: bin i of O reaches from floor(i I / O) to ceil((i + 1) I / O)."""
    places = {}
    for i in product(*map(range, output)):
        ranges = (
            range(int(np.floor(a * n / o)), int(np.ceil((a + 1) * n / o)))
            for a, n, o in zip(i, size, output, strict=True)
        )
        places[i] = list(product(*ranges))
    return places


# --------------------------------------------------------------------------------- max and mean


def max_pool(x, places):
    """y[i] = max over the window of x."""
    y = _output(x, places)
    for n, i, c, inside in _each(x, places):
        y[n, *i, c] = max(x[n, *at, c] for at in inside)
    return y


def max_pool_grad(g, x, places):
    """All of g goes to the first element that is the maximum."""
    gx = np.zeros(x.shape)
    for n, i, c, inside in _each(x, places):
        winner = inside[0]
        for at in inside:
            if x[n, *at, c] > x[n, *winner, c]:
                winner = at
        gx[n, *winner, c] += g[n, *i, c]
    return gx


def max_pool_indices(x, places):
    """The number of that element in row-major order."""
    indices = _output(x, places)
    for n, i, c, inside in _each(x, places):
        winner = max(inside, key=lambda at: x[n, *at, c])  # the first of equals
        indices[n, *i, c] = np.ravel_multi_index(winner, x.shape[1:-1])
    return indices


def max_unpool(x, indices, size):
    """Each element where it was, among zeros."""
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for n, *i, c in np.ndindex(x.shape):
        y[n, *np.unravel_index(indices[n, *i, c], size), c] = x[n, *i, c]
    return y


def max_unpool_grad(g, x, indices, size):
    """Each element gets g from where it went; no two go to one place."""
    gx = np.zeros(x.shape)
    for n, *i, c in np.ndindex(x.shape):
        gx[n, *i, c] = g[n, *np.unravel_index(indices[n, *i, c], size), c]
    return gx


def avg_pool(x, places, count=None):
    """y[i] = sum over the window of x / count; left out, the count is that of the elements inside."""
    y = _output(x, places)
    for n, i, c, inside in _each(x, places):
        y[n, *i, c] = sum(x[n, *at, c] for at in inside) / (count or len(inside))
    return y


def avg_pool_grad(g, x, places, count=None):
    """Each element gets its share of g."""
    gx = np.zeros(x.shape)
    for n, i, c, inside in _each(x, places):
        for at in inside:
            gx[n, *at, c] += g[n, *i, c] / (count or len(inside))
    return gx


def mixed_pool(x, places, count, chance):
    """y = lambda max + (1 - lambda) mean."""
    return chance * max_pool(x, places) + (1 - chance) * avg_pool(x, places, count)


def mixed_pool_grad(g, x, places, count, chance):
    """Lambda of g as the maximum hands it back, 1 - lambda of it as the mean does."""
    of_max, of_mean = max_pool_grad(g, x, places), avg_pool_grad(g, x, places, count)
    return chance * of_max + (1 - chance) * of_mean


# -------------------------------------------------------------------------------------- p-norm


def lp_pool(x, places, p):
    """y[i] = (sum over the window of |x|^p)^(1/p)."""
    y = _output(x, places)
    for n, i, c, inside in _each(x, places):
        y[n, *i, c] = sum(abs(x[n, *at, c]) ** p for at in inside) ** (1 / p)
    return y


def lp_pool_grad(g, x, places, p):
    """dy/dx = (|x| / y)^(p-1) sign(x), and 0 where y = 0."""
    y, gx = lp_pool(x, places, p), np.zeros(x.shape)
    for n, i, c, inside in _each(x, places):
        if y[n, *i, c] > 0:
            for at in inside:
                share = (abs(x[n, *at, c]) / y[n, *i, c]) ** (p - 1) * np.sign(x[n, *at, c])
                gx[n, *at, c] += g[n, *i, c] * share
    return gx


# ---------------------------------------------------------------------------------- stochastic


def stochastic_pool(x, places, u):
    """y[i] = the first positive element up to which the running sum exceeds u times the whole."""
    y = _output(x, places)
    for n, i, c, inside in _each(x, places):
        if (at := _drawn(x, n, c, inside, u[n, *i, c])) is not None:
            y[n, *i, c] = x[n, *at, c]
    return y


def stochastic_pool_grad(g, x, places, u):
    """All of g goes to the element that was drawn; without a positive element there is none."""
    gx = np.zeros(x.shape)
    for n, i, c, inside in _each(x, places):
        if (at := _drawn(x, n, c, inside, u[n, *i, c])) is not None:
            gx[n, *at, c] += g[n, *i, c]
    return gx


def _drawn(x, n, c, inside, u):
    total = sum(max(x[n, *at, c], 0) for at in inside)
    running = 0
    for at in inside:
        running += max(x[n, *at, c], 0)
        if running > u * total:
            return at
    return None


def stochastic_mean(x, places):
    """y[i] = sum a^2 / sum a with a = max(x, 0), and 0 without a positive element."""
    y = _output(x, places)
    for n, i, c, inside in _each(x, places):
        a = [max(x[n, *at, c], 0) for at in inside]
        if sum(a) > 0:
            y[n, *i, c] = sum(b * b for b in a) / sum(a)
    return y


def stochastic_mean_grad(g, x, places):
    """dy/da = (2 a - y) / sum a, for the positive elements."""
    y, gx = stochastic_mean(x, places), np.zeros(x.shape)
    for n, i, c, inside in _each(x, places):
        total = sum(max(x[n, *at, c], 0) for at in inside)
        for at in inside:
            if x[n, *at, c] > 0:
                gx[n, *at, c] += g[n, *i, c] * (2 * x[n, *at, c] - y[n, *i, c]) / total
    return gx


# ------------------------------------------------------------------------------------- pyramid


def spatial_pyramid_pool(x, levels):
    """The levels one after the other, in each the bins in row-major order, in each the channels."""
    y = []
    for level in levels:
        places = bins(x.shape[1:-1], (level,) * (x.ndim - 2))
        y.append(max_pool(x, places).reshape(x.shape[0], -1))
    return np.concatenate(y, axis=1)


def spatial_pyramid_pool_grad(g, x, levels):
    """The sum of what each level hands back of its part of g."""
    gx, start = np.zeros(x.shape), 0
    for level in levels:
        places = bins(x.shape[1:-1], (level,) * (x.ndim - 2))
        shape = _output(x, places).shape
        stop = start + int(np.prod(shape[1:]))
        gx += max_pool_grad(g[:, start:stop].reshape(shape), x, places)
        start = stop
    return gx


# -------------------------------------------------------------------------------------- shared


def _output(x, places):
    return np.zeros((x.shape[0], *(n + 1 for n in max(places)), x.shape[-1]))


def _each(x, places):
    """Every image n, output position i and channel c, with the elements that the output reads."""
    for i, inside in places.items():
        for n, c in np.ndindex(x.shape[0], x.shape[-1]):
            yield n, i, c, inside
