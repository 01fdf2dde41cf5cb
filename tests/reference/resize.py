"""Resampling, one output at a time: which elements it reads, and with which weights."""

from itertools import product
from math import floor, prod

import numpy as np


def resize(x, size, method, align_corners=False, antialias=False):
    """y[o] = sum of w x[i] over the pairs (i, w) that o reads, axis by axis multiplied."""
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for o, at, w in _reads(x, size, method, align_corners, antialias):
        y[:, *o] += w * x[:, *at]
    return y


def resize_grad(g, x, size, method, align_corners=False, antialias=False):
    """Each element collects g from the outputs that read it, with the same weights."""
    gx = np.zeros(x.shape)
    for o, at, w in _reads(x, size, method, align_corners, antialias):
        gx[:, *at] += w * g[:, *o]
    return gx


def _reads(x, size, method, align_corners, antialias):
    axes = list(zip(x.shape[1:-1], size, strict=True))
    for o in product(*map(range, size)):
        pairs = [
            _read(*axis, a, method, align_corners, antialias)
            for a, axis in zip(o, axes, strict=True)
        ]
        for terms in product(*pairs):
            yield o, tuple(i for i, _ in terms), prod(w for _, w in terms)


def _read(I, O, o, method, align_corners, antialias):
    """The pairs (element, weight) of output o along one axis of I elements, with O outputs."""
    if I == O:
        return [(o, 1)]
    if method == "nearest":
        return [(o * I // O, 1)]
    if method == "nearest-exact":
        return [(floor((o + 0.5) * I / O), 1)]
    position = (o + 0.5) * I / O - 0.5
    if align_corners:
        position = o * (I - 1) / max(O - 1, 1)
    cubic = method == "bicubic"
    if antialias:
        wider = max(I / O, 1)
        weights = [_weight(abs(position - j) / wider, cubic, -0.5) for j in range(I)]
        return [(j, w / sum(weights)) for j, w in enumerate(weights)]
    around = range(floor(position) - 1, floor(position) + 3)
    return [(min(max(j, 0), I - 1), _weight(abs(position - j), cubic, -0.75)) for j in around]


def _weight(t, cubic, a):
    """Of an element at a distance of t."""
    if not cubic:
        return max(1 - t, 0)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0
