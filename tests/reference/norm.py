"""Normalization and its gradients, one set of values at a time.

Of a set of n values, m = sum x / n, v = sum (x - m)^2 / n and x_hat = r (x - m), r = (v + eps)^-1/2.
Each of the n values moves m and v, so the chain rule gives, for a gradient h of x_hat,

    gx_i = r (h_i - sum_j h_j / n - x_hat_i sum_j h_j x_hat_j / n)
"""

import numpy as np


def batch_sets(shape):
    """One channel of all examples."""
    return [np.s_[..., c] for c in range(shape[-1])]


def group_sets(shape, groups):
    """C / G neighboring channels of one example."""
    size = shape[-1] // groups
    return [
        np.s_[n, ..., g * size : (g + 1) * size] for n in range(shape[0]) for g in range(groups)
    ]


def layer_sets(shape, axes):
    """The last `axes` axes, at one place of the others."""
    return list(np.ndindex(shape[: len(shape) - axes]))


def normalize(x, sets, scale, bias, eps):
    """y = x_hat s + b, with scale and bias as they broadcast against x."""
    return _normalized(x, sets, eps)[0] * scale + bias


def normalize_grads(g, x, sets, scale, bias, eps):
    """The gradients of sum(g y) in x, scale and bias."""
    x_hat, r = _normalized(x, sets, eps)
    gx = np.zeros(x.shape)
    for s in sets:
        h, n = (g * scale)[s], x_hat[s].size
        gx[s] = r[s] * (h - np.sum(h) / n - x_hat[s] * np.sum(h * x_hat[s]) / n)
    return gx, _unbroadcast(g * x_hat, scale.shape), _unbroadcast(g, bias.shape)


def rms(x, sets, scale, eps):
    """y = r x s with r = (sum x^2 / n + eps)^-1/2."""
    return _divided(x, sets, eps)[0] * scale


def rms_grads(g, x, sets, scale, eps):
    """The gradients of sum(g y) in x and scale: with y = x_hat s, those of no mean that moves."""
    x_hat, r = _divided(x, sets, eps)
    gx = np.zeros(x.shape)
    for s in sets:
        h = (g * scale)[s]
        gx[s] = r[s] * (h - x_hat[s] * np.sum(h * x_hat[s]) / h.size)
    return gx, _unbroadcast(g * x_hat, scale.shape)


def _divided(x, sets, eps):
    r = np.zeros(x.shape)
    for s in sets:
        r[s] = 1 / np.sqrt(np.sum(x[s] ** 2) / x[s].size + eps)
    return r * x, r


def _normalized(x, sets, eps):
    x_hat, r = np.zeros(x.shape), np.zeros(x.shape)
    for s in sets:
        m = np.sum(x[s]) / x[s].size
        v = np.sum((x[s] - m) ** 2) / x[s].size
        r[s] = 1 / np.sqrt(v + eps)
        x_hat[s] = r[s] * (x[s] - m)
    return x_hat, r


def _unbroadcast(g, shape):
    """What was used at several places collects the gradients of all of them."""
    total = np.zeros(shape)
    for i in np.ndindex(g.shape):
        total[i[len(i) - len(shape) :]] += g[i]
    return total


# ------------------------------------------------------------------------------ running values


def running(x, mean, var, momentum):
    """new = (1 - momentum) old + momentum batch; the variance divides by n - 1."""
    new_mean, new_var = np.zeros(mean.shape), np.zeros(var.shape)
    for c in range(x.shape[-1]):
        values = x[..., c]
        m = np.sum(values) / values.size
        unbiased = np.sum((values - m) ** 2) / (values.size - 1)
        new_mean[c] = (1 - momentum) * mean[c] + momentum * m
        new_var[c] = (1 - momentum) * var[c] + momentum * unbiased
    return new_mean, new_var


def running_grads(g_mean, g_var, x, momentum):
    """The gradients of sum(g_mean new_mean) + sum(g_var new_var) in x, mean and var."""
    gx = np.zeros(x.shape)
    for c in range(x.shape[-1]):
        values = x[..., c]
        n, m = values.size, np.sum(values) / values.size
        gx[..., c] = momentum * (g_mean[c] / n + g_var[c] * 2 * (values - m) / (n - 1))
    return gx, (1 - momentum) * g_mean, (1 - momentum) * g_var


def evaluate(x, mean, var, scale, bias, eps):
    """Batch normalization by the running statistics: y = s (x - mean) r + b."""
    y = np.zeros(x.shape)
    for *i, c in np.ndindex(x.shape):
        y[*i, c] = scale[c] * (x[*i, c] - mean[c]) / np.sqrt(var[c] + eps) + bias[c]
    return y


def evaluate_grads(g, x, mean, var, scale, bias, eps):
    """The gradients of sum(g y) in x, mean, var, scale and bias."""
    gx = np.zeros(x.shape)
    g_mean, g_var, g_scale, g_bias = (np.zeros(x.shape[-1]) for _ in range(4))
    for *i, c in np.ndindex(x.shape):
        r = 1 / np.sqrt(var[c] + eps)
        gx[*i, c] = g[*i, c] * scale[c] * r
        g_mean[c] -= g[*i, c] * scale[c] * r
        g_var[c] -= g[*i, c] * scale[c] * (x[*i, c] - mean[c]) * r**3 / 2  # dr/dvar = -r^3 / 2
        g_scale[c] += g[*i, c] * (x[*i, c] - mean[c]) * r
        g_bias[c] += g[*i, c]
    return gx, g_mean, g_var, g_scale, g_bias


# --------------------------------------------------------------------- local response


def local_response_norm(x, size, alpha, beta, k):
    """y_c = x_c / d_c^beta, d_c = k + alpha times the sum of x_j^2 over the channels around c."""
    y = np.zeros(x.shape)
    for *i, c in np.ndindex(x.shape):
        d = k + alpha * sum(x[*i, j] ** 2 for j in _around(c, x.shape[-1], size))
        y[*i, c] = x[*i, c] / d**beta
    return y


def local_response_norm_grad(g, x, size, alpha, beta, k):
    """The gradient of sum(g y): x_c itself, and each x_j of d_c = k + alpha sum_j x_j^2."""
    gx = np.zeros(x.shape)
    for *i, c in np.ndindex(x.shape):
        around = _around(c, x.shape[-1], size)
        d = k + alpha * sum(x[*i, j] ** 2 for j in around)
        gx[*i, c] += g[*i, c] / d**beta
        for j in around:
            gx[*i, j] -= g[*i, c] * x[*i, c] * beta * d ** (-beta - 1) * 2 * alpha * x[*i, j]
    return gx


def _around(c, C, size):
    """From size // 2 channels below c to (size - 1) // 2 above."""
    return [j for j in range(c - size // 2, c + (size - 1) // 2 + 1) if 0 <= j < C]
