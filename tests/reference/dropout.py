"""What regularizes, one number at a time."""

import numpy as np


def dropout(x, kept, rate):
    """y_i = b_i x_i / (1 - p), for b that say what is kept; they may have one entry a channel."""
    y = np.zeros(x.shape)
    b = np.broadcast_to(kept, x.shape)
    for i in np.ndindex(x.shape):
        y[i] = x[i] / (1 - rate) if b[i] else 0.0
    return y


def dropout_grad(g, kept, rate):
    """The map is linear and diagonal: the gradient goes the same way."""
    return dropout(g, kept, rate)


def l2(arrays, rate):
    """rate / 2 times the sum of the squares of all numbers."""
    return rate / 2 * sum(float(a) ** 2 for array in arrays for a in array.ravel())


def l2_grads(g, arrays, rate):
    """rate times each number."""
    return tuple(g * rate * array for array in arrays)
