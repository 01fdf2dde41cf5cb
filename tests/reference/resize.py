"""Resampling, one output at a time: which elements it reads, and with which weights."""

from itertools import product
from math import floor, prod

import numpy as np


def resize(x, size, method, align_corners=False):
    """y[o] = sum of w x[i] over the pairs (i, w) that o reads, axis by axis multiplied."""
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for o, at, w in _reads(x, size, method, align_corners):
        y[:, *o] += w * x[:, *at]
    return y


def resize_grad(g, x, size, method, align_corners=False):
    """Each element collects g from the outputs that read it, with the same weights."""
    gx = np.zeros(x.shape)
    for o, at, w in _reads(x, size, method, align_corners):
        gx[:, *at] += w * g[:, *o]
    return gx


def _reads(x, size, method, align_corners):
    axes = list(zip(x.shape[1:-1], size, strict=True))
    for o in product(*map(range, size)):
        pairs = [_read(*axis, a, method, align_corners) for a, axis in zip(o, axes, strict=True)]
        for terms in product(*pairs):
            yield o, tuple(i for i, _ in terms), prod(w for _, w in terms)


def _read(I, O, o, method, align_corners):
    """The pairs (element, weight) of output o along one axis of I elements, with O outputs."""
    if method == "nearest":
        return [(o * I // O, 1)]
    if align_corners:
        position = o * (I - 1) / (O - 1) if O > 1 else 0
    else:
        position = max((o + 0.5) * I / O - 0.5, 0)
    i = min(floor(position), I - 1)
    f = position - i
    return [(i, 1 - f), (min(i + 1, I - 1), f)]
