"""Activations and their derivatives as written in a textbook, one number at a time."""

from math import cosh, erf, exp, log, pi, sqrt
from math import tanh as tanh_of

import numpy as np


def sigmoid(x):
    """s(x) = 1 / (1 + e^-x)."""
    return 1 / (1 + exp(-x))


def normal_cdf(x):
    """P(x), of the standard normal distribution."""
    return (1 + erf(x / sqrt(2))) / 2


def normal_density(x):
    """p(x) = P'(x)."""
    return exp(-(x**2) / 2) / sqrt(2 * pi)


def tanh_cdf(x):
    """P(x), nearly: (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    return (1 + tanh_of(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2


def tanh_density(x):
    """The derivative of `tanh_cdf`: u' / (2 cosh^2 u)."""
    u = sqrt(2 / pi) * (x + 0.044715 * x**3)
    return sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2) / cosh(u) ** 2 / 2


# Of selu, Klambauer et al., arXiv:1706.02515, equation 14: what makes (0, 1) its fixed point.
LAMBDA, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

# name: (function, derivative) of one number, and of the settings by keyword
ELEMENTWISE = {
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "relu6": (lambda x: min(max(x, 0.0), 6.0), lambda x: float(0 < x < 6)),
    "leaky_relu": (
        lambda x, negative_slope=0.01: x if x >= 0 else negative_slope * x,
        lambda x, negative_slope=0.01: 1.0 if x >= 0 else negative_slope,
    ),
    "elu": (
        lambda x, alpha=1.0: x if x > 0 else alpha * (exp(x) - 1),
        lambda x, alpha=1.0: 1.0 if x > 0 else alpha * exp(x),
    ),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (tanh_of, lambda x: 1 - tanh_of(x) ** 2),
    "gelu": (
        lambda x, approximate=False: x * (tanh_cdf if approximate else normal_cdf)(x),
        lambda x, approximate=False: (
            tanh_cdf(x) + x * tanh_density(x)
            if approximate
            else normal_cdf(x) + x * normal_density(x)
        ),
    ),
    "silu": (
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
    ),
    "hardtanh": (
        lambda x, min_val=-1.0, max_val=1.0: min(max(x, min_val), max_val),
        lambda x, min_val=-1.0, max_val=1.0: float(min_val < x < max_val),
    ),
    "hardsigmoid": (lambda x: min(max(x + 3, 0.0), 6.0) / 6, lambda x: float(-3 < x < 3) / 6),
    "hardswish": (
        lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
        lambda x: (2 * x + 3) / 6 if -3 < x < 3 else float(x >= 3),
    ),
    "selu": (
        lambda x: LAMBDA * (x if x > 0 else ALPHA * (exp(x) - 1)),
        lambda x: LAMBDA * (1.0 if x > 0 else ALPHA * exp(x)),
    ),
    "celu": (
        lambda x, alpha=1.0: x if x > 0 else alpha * (exp(x / alpha) - 1),
        lambda x, alpha=1.0: 1.0 if x > 0 else exp(x / alpha),
    ),
    "softplus": (
        lambda x, beta=1.0: log(1 + exp(beta * x)) / beta,
        lambda x, beta=1.0: sigmoid(beta * x),
    ),
    "mish": (
        lambda x: x * tanh_of(log(1 + exp(x))),
        lambda x: tanh_of(log(1 + exp(x))) + x * sigmoid(x) * (1 - tanh_of(log(1 + exp(x))) ** 2),
    ),
}


def elementwise(name, x, **settings):
    """The activation of that name, of every number in x."""
    f, _ = ELEMENTWISE[name]
    return np.array([f(float(a), **settings) for a in x.ravel()]).reshape(x.shape)


def elementwise_grad(name, g, x, **settings):
    """g f'(x)."""
    _, df = ELEMENTWISE[name]
    return g * np.array([df(float(a), **settings) for a in x.ravel()]).reshape(x.shape)


def prelu(x, slope):
    """x for x > 0, a_c x below; the slope one per channel, or a single number."""
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        y[i] = x[i] if x[i] > 0 else _of_channel(slope, i) * x[i]
    return y


def prelu_grads(g, x, slope):
    """1 or a_c in x; min(x, 0) in a_c, added up over all places of the channel."""
    gx, g_slope = np.zeros(x.shape), np.zeros(slope.shape)
    for i in np.ndindex(x.shape):
        gx[i] = g[i] if x[i] > 0 else _of_channel(slope, i) * g[i]
        g_slope[i[-1:] if slope.ndim else ()] += g[i] * min(x[i], 0.0)
    return gx, g_slope


def _of_channel(slope, i):
    return slope[i[-1]] if slope.ndim else slope[()]


def maxout(x, pieces):
    """The largest of each `pieces` neighboring channels."""
    y = np.zeros((*x.shape[:-1], x.shape[-1] // pieces))
    for *i, k in np.ndindex(y.shape):
        y[*i, k] = max(x[*i, pieces * k + j] for j in range(pieces))
    return y


def maxout_grad(g, x, pieces):
    """All of g goes to the first of the largest."""
    gx = np.zeros(x.shape)
    for *i, k in np.ndindex(g.shape):
        values = [x[*i, pieces * k + j] for j in range(pieces)]
        gx[*i, pieces * k + values.index(max(values))] = g[*i, k]
    return gx


def softmax(x):
    """p_k = exp(x_k) / sum_j exp(x_j) along the last axis, the largest taken off before."""
    p = np.zeros(x.shape)
    for n in np.ndindex(x.shape[:-1]):
        e = [exp(a - max(x[n])) for a in x[n]]
        p[n] = [a / sum(e) for a in e]
    return p


def softmax_grad(g, x):
    """sum_k g_k dp_k/dx_j with dp_k/dx_j = p_k ([k = j] - p_j)."""
    p, gx = softmax(x), np.zeros(x.shape)
    for *n, j in np.ndindex(x.shape):
        for k in range(x.shape[-1]):
            gx[*n, j] += g[*n, k] * p[*n, k] * ((k == j) - p[*n, j])
    return gx


def log_softmax(x):
    """log p_k = x_k - log sum_j exp(x_j)."""
    y = np.zeros(x.shape)
    for n in np.ndindex(x.shape[:-1]):
        largest = max(x[n])
        y[n] = x[n] - largest - log(sum(exp(a - largest) for a in x[n]))
    return y


def log_softmax_grad(g, x):
    """sum_k g_k ([k = j] - p_j)."""
    p, gx = softmax(x), np.zeros(x.shape)
    for *n, j in np.ndindex(x.shape):
        for k in range(x.shape[-1]):
            gx[*n, j] += g[*n, k] * ((k == j) - p[*n, j])
    return gx


def glu(x):
    """a s(b), of the first half a and the second half b of the channels."""
    half = x.shape[-1] // 2
    y = np.zeros((*x.shape[:-1], half))
    for *i, c in np.ndindex(y.shape):
        y[*i, c] = x[*i, c] * sigmoid(x[*i, half + c])
    return y


def glu_grad(g, x):
    """s(b) in a, a s(b) (1 - s(b)) in b."""
    half, gx = x.shape[-1] // 2, np.zeros(x.shape)
    for *i, c in np.ndindex(g.shape):
        a, gate = x[*i, c], sigmoid(x[*i, half + c])
        gx[*i, c] = g[*i, c] * gate
        gx[*i, half + c] = g[*i, c] * a * gate * (1 - gate)
    return gx
