"""Windows as columns, one tap at a time: unfolded, and added back up."""

from itertools import product

import numpy as np


def unfold(x, window, stride, padding, dilation):
    """y[i, u C + c] = x[s i + d u - p, c], and 0 beyond the image."""
    size, C = x.shape[1:-1], x.shape[-1]
    out = places(size, window, stride, padding, dilation)
    y = np.zeros((x.shape[0], *out, int(np.prod(window)) * C))
    for i, u, at in _taps(size, window, stride, padding, dilation):
        y[:, *i, u * C : (u + 1) * C] = x[:, *at]
    return y


def fold(x, size, window, stride, padding, dilation):
    """Each column adds its taps to the elements they are of."""
    C = x.shape[-1] // int(np.prod(window))
    y = np.zeros((x.shape[0], *size, C))
    for i, u, at in _taps(size, window, stride, padding, dilation):
        y[:, *at] += x[:, *i, u * C : (u + 1) * C]
    return y


def places(size, window, stride, padding, dilation):
    axes = zip(size, window, stride, padding, dilation, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]


def _taps(size, window, stride, padding, dilation):
    """Of every place the number of each tap, and the element of the image that it is."""
    for i in product(*map(range, places(size, window, stride, padding, dilation))):
        for u, tap in enumerate(product(*map(range, window))):
            axes = zip(i, tap, stride, padding, dilation, strict=True)
            at = tuple(s * a + d * b - p for a, b, s, p, d in axes)
            if all(0 <= a < n for a, n in zip(at, size, strict=True)):
                yield i, u, at
