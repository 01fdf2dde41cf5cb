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


def convolve(x, k, stride, padding, dilation, groups):
    """y[n, i, o] = sum_{u,c} x[n, s i + d (K - 1 - u) - p, c] k[u, c, o]."""
    return conv(x, _flip(k), stride, padding, dilation, groups)


def convolve_grads(x, k, g, stride, padding, dilation, groups):
    """The gradients of sum(g * convolve(x, k)) in x and k."""
    gx, gk = conv_grads(x, _flip(k), g, stride, padding, dilation, groups)
    return gx, _flip(gk)


def conv_transpose(x, k, stride, low, output, dilation, groups):
    """y[n, s i + d u - p, o] += sum_c x[n, i, c] k[u, c, o], wherever that lies in the output."""
    Cg, Co = k.shape[-2:]
    y = np.zeros((x.shape[0], *output, Co))
    for i, u, j in _landings(x, k, stride, low, output, dilation):
        for o in range(Co):
            y[:, *j, o] += x[:, *i, _input_channels(o, Cg, Co, groups)] @ k[*u, :, o]
    return y


def conv_transpose_grads(x, k, g, stride, low, output, dilation, groups):
    """The gradients of sum(g * conv_transpose(x, k)): gx is a convolution of g, and no surprise."""
    Cg, Co = k.shape[-2:]
    gx, gk = np.zeros(x.shape), np.zeros(k.shape)
    for i, u, j in _landings(x, k, stride, low, output, dilation):
        for o in range(Co):
            c = _input_channels(o, Cg, Co, groups)
            gx[:, *i, c] += np.outer(g[:, *j, o], k[*u, :, o])
            gk[*u, :, o] += g[:, *j, o] @ x[:, *i, c]
    return gx, gk


def _landings(x, k, stride, low, output, dilation):
    """Every input position i and tap u, and the output position j where their product lands."""
    for i in product(*map(range, x.shape[1:-1])):
        for u in product(*map(range, k.shape[:-2])):
            j = tuple(np.subtract(_position(i, u, stride, dilation), low))
            if all(0 <= a < n for a, n in zip(j, output, strict=True)):
                yield i, u, j


def _flip(k):
    return np.flip(k, tuple(range(k.ndim - 2)))
