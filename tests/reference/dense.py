"""The affine map, one scalar product at a time."""

import numpy as np


def dense(x, W, b):
    """y[n, o] = b[o] + sum_c x[n, c] W[c, o]."""
    y = np.zeros((x.shape[0], W.shape[1]))
    for n in range(x.shape[0]):
        for o in range(W.shape[1]):
            y[n, o] = b[o] + sum(x[n, c] * W[c, o] for c in range(x.shape[1]))
    return y


def dense_grads(x, W, g):
    """The gradients of sum(g * dense(x, W, b)) in x, W and b."""
    gx, gW, gb = np.zeros(x.shape), np.zeros(W.shape), np.zeros(W.shape[1])
    for n in range(x.shape[0]):
        for o in range(W.shape[1]):
            gb[o] += g[n, o]
            for c in range(x.shape[1]):
                gx[n, c] += g[n, o] * W[c, o]
                gW[c, o] += x[n, c] * g[n, o]
    return gx, gW, gb
