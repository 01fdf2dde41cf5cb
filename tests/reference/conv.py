"""Convolution and its gradients, one scalar product at a time.

With x padded by `low` zeros in front, the output at i reads the padded input at s i + d u, for
every tap u of the window. The gradients follow from the chain rule, term by term: where y adds
x * k, gx adds g * k and gk adds x * g.
"""

from itertools import product

import numpy as np


def conv(x, k, stride, padding, dilation, groups):
    """y[n, i, o] = sum_{u,c} x[n, s i + d u - p, c] k[u, c, o]."""
    x = _pad(x, padding)
    Cg, Co = k.shape[-2:]
    out = _output_size(x, k, stride, dilation)
    y = np.zeros((x.shape[0], *out, Co))
    for i in product(*map(range, out)):
        for u in product(*map(range, k.shape[:-2])):
            at = _position(i, u, stride, dilation)
            for o in range(Co):
                c = _input_channels(o, Cg, Co, groups)
                y[:, *i, o] += x[:, *at, c] @ k[*u, :, o]
    return y


def conv_grads(x, k, g, stride, padding, dilation, groups):
    """The gradients of sum(g * conv(x, k)) in x and k."""
    padded = _pad(x, padding)
    Cg, Co = k.shape[-2:]
    gx, gk = np.zeros(padded.shape), np.zeros(k.shape)
    for i in product(*map(range, g.shape[1:-1])):
        for u in product(*map(range, k.shape[:-2])):
            at = _position(i, u, stride, dilation)
            for o in range(Co):
                c = _input_channels(o, Cg, Co, groups)
                gx[:, *at, c] += np.outer(g[:, *i, o], k[*u, :, o])
                gk[*u, :, o] += g[:, *i, o] @ padded[:, *at, c]
    inside = (slice(low, low + n) for (low, _), n in zip(padding, x.shape[1:-1], strict=True))
    return gx[:, *inside], gk


def _pad(x, padding):
    return np.pad(np.asarray(x, float), ((0, 0), *padding, (0, 0)))


def _output_size(padded, k, stride, dilation):
    return tuple(
        (n - d * (w - 1) - 1) // s + 1
        for n, w, s, d in zip(padded.shape[1:-1], k.shape[:-2], stride, dilation, strict=True)
    )


def _position(i, u, stride, dilation):
    return tuple(s * a + d * b for a, b, s, d in zip(i, u, stride, dilation, strict=True))


def _input_channels(o, Cg, Co, groups):
    """The input channels that output channel `o` reads: those of its group."""
    group = o // (Co // groups)
    return slice(group * Cg, (group + 1) * Cg)
