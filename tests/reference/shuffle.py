"""Shuffles, one output at a time: the element of the input that it is."""

import numpy as np


def shuffle(name, x, number):
    """y[o] = x[source(o)]."""
    y = np.zeros(_shape(name, x.shape, number))
    for o in np.ndindex(y.shape):
        y[o] = x[_source(name, o, x.shape, number)]
    return y


def shuffle_grad(name, g, x, number):
    """Each element gets the gradient of its one copy."""
    gx = np.zeros(x.shape)
    for o in np.ndindex(g.shape):
        gx[_source(name, o, x.shape, number)] = g[o]
    return gx


def _shape(name, shape, r):
    N, H, W, C = shape
    return {
        "pixel_shuffle": (N, r * H, r * W, C // r**2),
        "pixel_unshuffle": (N, H // r, W // r, C * r**2),
        "channel_shuffle": shape,
    }[name]


def _source(name, o, shape, r):
    n, i, j, c = o
    if name == "pixel_shuffle":
        return n, i // r, j // r, c * r**2 + i % r * r + j % r
    if name == "pixel_unshuffle":
        channel, a, b = c // r**2, c // r % r, c % r
        return n, r * i + a, r * j + b, channel
    k, g = divmod(c, r)
    return n, i, j, g * (shape[-1] // r) + k
