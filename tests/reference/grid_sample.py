"""Images read at places of a grid, one place at a time; and the grids of affine maps."""

from itertools import product
from math import floor

import numpy as np


def grid_sample(x, grid, method, padding_mode, align_corners):
    """y[i] = sum of w x[at] over the elements around the place, and their weights."""
    y = np.zeros((*grid.shape[:-1], x.shape[-1]))
    for i in np.ndindex(grid.shape[:-1]):
        for at, weights, _ in _around(x, grid[i], method, padding_mode, align_corners):
            y[i] += np.prod(weights) * x[i[0], *at]
    return y


def grid_sample_grad(g, x, grid, method, padding_mode, align_corners):
    """An element collects what it gave; a coordinate moves the weights along its axis."""
    gx, ggrid = np.zeros(x.shape), np.zeros(grid.shape)
    for i in np.ndindex(grid.shape[:-1]):
        for at, weights, slopes in _around(x, grid[i], method, padding_mode, align_corners):
            gx[i[0], *at] += np.prod(weights) * g[i]
            for axis, slope in enumerate(slopes):
                others = np.prod(np.delete(weights, axis))
                ggrid[*i, -1 - axis] += slope * others * (g[i] @ x[i[0], *at])
    return gx, ggrid


def _around(x, place, method, padding_mode, align_corners):
    """The elements that count, with the weight along each axis and its slope in the coordinate."""
    axes = [
        list(_along(n, c, method, padding_mode, align_corners))
        for n, c in zip(x.shape[1:-1], place[::-1], strict=True)
    ]
    for taps in product(*axes):
        at, weights, slopes = zip(*taps, strict=True)
        yield at, weights, slopes


def _along(n, coordinate, method, padding_mode, align_corners):
    unit = (n - 1) / 2 if align_corners else n / 2  # positions for a step of 1
    s = (coordinate + 1) * unit - (0 if align_corners else 0.5)
    low, high = (0, n - 1) if align_corners else (-0.5, n - 0.5)
    if padding_mode == "reflection":
        while not low <= s <= high:
            s, unit = (2 * low - s if s < low else 2 * high - s), -unit
    if padding_mode != "zeros" and not 0 < s < n - 1:
        s, unit = min(max(s, 0), n - 1), 0
    if method == "nearest":
        around = [(round(s), 1, 0)]
    else:
        i = floor(s)
        around = [(i, 1 - (s - i), -unit), (i + 1, s - i, unit)]
    return [tap for tap in around if 0 <= tap[0] < n]


def affine_grid(theta, size, align_corners):
    """g[i] = A p[i] + b."""
    N, d, _ = theta.shape
    y = np.zeros((N, *size, d))
    for n, *i in np.ndindex(y.shape[:-1]):
        p = [*(_coordinate(*axis, align_corners) for axis in zip(i, size, strict=True))][::-1]
        y[n, *i] = theta[n] @ [*p, 1]
    return y


def affine_grid_grad(g, theta, size, align_corners):
    """Each entry of theta collects g times the coordinate that it stands before."""
    gtheta = np.zeros(theta.shape)
    for n, *i in np.ndindex(g.shape[:-1]):
        p = [*(_coordinate(*axis, align_corners) for axis in zip(i, size, strict=True))][::-1]
        gtheta[n] += np.outer(g[n, *i], [*p, 1])
    return gtheta


def _coordinate(i, n, align_corners):
    if align_corners:
        return 2 * i / (n - 1) - 1 if n > 1 else 0
    return (2 * i + 1) / n - 1
