"""Padding, one output at a time: which element of the image it is, or none."""

import numpy as np


def pad(x, pairs, mode):
    """y[o] = x[source(o - low)], axis by axis; 0 where there is no source."""
    y = np.zeros((x.shape[0], *_sizes(x, pairs), x.shape[-1]))
    for o, i in _sources(x, pairs, mode):
        y[:, *o] = x[:, *i]
    return y


def pad_grad(g, x, pairs, mode):
    """Each element collects g from all its copies."""
    gx = np.zeros(x.shape)
    for o, i in _sources(x, pairs, mode):
        gx[:, *i] += g[:, *o]
    return gx


def _sizes(x, pairs):
    return [low + n + high for n, (low, high) in zip(x.shape[1:-1], pairs, strict=True)]


def _sources(x, pairs, mode):
    for o in np.ndindex(*_sizes(x, pairs)):
        axes = zip(o, x.shape[1:-1], pairs, strict=True)
        i = [_source(a - low, n, mode) for a, n, (low, _) in axes]
        if None not in i:
            yield o, i


def _source(j, n, mode):
    """The element that stands at position j of an axis of n."""
    if 0 <= j < n:
        return j
    if mode == "reflect":
        return -j if j < 0 else 2 * (n - 1) - j
    if mode == "replicate":
        return 0 if j < 0 else n - 1
    return j % n if mode == "circular" else None
