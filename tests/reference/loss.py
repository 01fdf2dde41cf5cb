"""Losses and their gradients, one example at a time.

Each function takes one example and returns its loss with the gradients in its arguments, in their
order; `over_examples` and `over_examples_grads` go through a batch of them.
"""

import numpy as np


def over_examples(loss, arrays, given, axes):
    """The loss of every example, which is what is left of the arrays after so many axes."""
    out = np.zeros(arrays[0].shape[:axes])
    for n in np.ndindex(out.shape):
        out[n], _ = loss(*(a[n] for a in (*arrays, *given)))
    return out


def over_examples_grads(loss, g, arrays, given, axes):
    """The gradients of sum(g * loss): no example knows of another."""
    grads = [np.zeros(a.shape) for a in arrays]
    for n in np.ndindex(arrays[0].shape[:axes]):
        _, own = loss(*(a[n] for a in (*arrays, *given)))
        for total, grad in zip(grads, own, strict=False):
            total[n] += g[n] * grad
    return tuple(grads)


def mean(loss, weights):
    """L = sum_i w_i l_i / sum_i w_i; the weights may have fewer axes than the losses."""
    total = weight = 0.0
    for i in np.ndindex(loss.shape):
        w = weights[i[: weights.ndim]]
        total += w * loss[i]
        weight += w
    return total / weight


def mean_grads(loss, weights):
    """dL/dl_i = w_i / W and dL/dw_i = (l_i - L) / W."""
    g_loss, g_weights = np.zeros(loss.shape), np.zeros(weights.shape)
    L = mean(loss, weights)
    W = sum(weights[i[: weights.ndim]] for i in np.ndindex(loss.shape))
    for i in np.ndindex(loss.shape):
        g_loss[i] = weights[i[: weights.ndim]] / W
        g_weights[i[: weights.ndim]] += (loss[i] - L) / W
    return g_loss, g_weights


# ------------------------------------------------------------------------------ classification


def log_softmax(z):
    """log p_k = z_k - log sum_j exp z_j, with the largest z taken out of the sum."""
    top = max(z)
    log_sum = top + np.log(sum(np.exp(z_k - top) for z_k in z))
    return np.array([z_k - log_sum for z_k in z])


def softmax_cross_entropy(z, q):
    """l = -sum_k q_k log p_k; in z_k it is p_k sum_j q_j - q_k, in q_k -log p_k."""
    log_p = log_softmax(z)
    loss = -sum(q[k] * log_p[k] for k in range(len(z)))
    gz = np.array([np.exp(log_p[k]) * sum(q) - q[k] for k in range(len(z))])
    return loss, (gz, -log_p)


def one_hot(y, K):
    """q_k = [k = y]."""
    return np.array([1.0 if k == y else 0.0 for k in range(K)])


def smooth(q, e):
    """q'_k = (1 - e) q_k + e / K."""
    return np.array([(1 - e) * q_k + e / len(q) for q_k in q])


def kl_divergence(z, p):
    """l = sum_k p_k (log p_k - log q_k), q = softmax(z); a class with p_k = 0 adds nothing."""
    log_q = log_softmax(z)
    loss, gz, gp = 0.0, np.zeros(len(z)), np.zeros(len(z))
    for k in range(len(z)):
        gz[k] = np.exp(log_q[k]) * sum(p) - p[k]
        if p[k] > 0:
            loss += p[k] * (np.log(p[k]) - log_q[k])
            gp[k] = 1 + np.log(p[k]) - log_q[k]
    return loss, (gz, gp)


def nll(x, y):
    """l = -x_y."""
    return -x[y], (-one_hot(y, len(x)),)


def multiclass_hinge(z, y, power, margin):
    """l = sum_k max(0, m - d_k z_k)^p, d_k = 1 for the class, else -1."""
    loss, gz = 0.0, np.zeros(len(z))
    for k in range(len(z)):
        d = 1 if k == y else -1
        if margin - d * z[k] > 0:
            loss += (margin - d * z[k]) ** power
            gz[k] = -power * d * (margin - d * z[k]) ** (power - 1)
    return loss, (gz,)


def multi_margin(z, y, power, margin):
    """l = sum_{k != y} max(0, m - z_y + z_k)^p / K: what pulls z_k down pushes z_y up."""
    K = len(z)
    loss, gz = 0.0, np.zeros(K)
    for k in range(K):
        h = margin - z[y] + z[k]
        if k != y and h > 0:
            loss += h**power / K
            gz[k] += power * h ** (power - 1) / K
            gz[y] -= power * h ** (power - 1) / K
    return loss, (gz,)


# ------------------------------------------------------------------------------------ elements


def squared_error(p, t):
    """l = (p - t)^2."""
    return (p - t) ** 2, (2 * (p - t), -2 * (p - t))


def absolute_error(p, t):
    """l = |p - t|."""
    slope = float(p > t) - float(p < t)
    return abs(p - t), (slope, -slope)


def huber(p, t, delta):
    """l = e^2 / 2 near 0, delta (|e| - delta / 2) beyond delta; l' = e, or delta with e's sign."""
    e = p - t
    if abs(e) <= delta:
        return e**2 / 2, (e, -e)
    slope = delta if e > 0 else -delta
    return delta * (abs(e) - delta / 2), (slope, -slope)


def smooth_l1(p, t, beta):
    """l = e^2 / 2 beta near 0, |e| - beta / 2 beyond beta."""
    loss, slopes = huber(p, t, beta)
    return loss / beta, tuple(slope / beta for slope in slopes)


def kl_div(x, t, log_target):
    """l = t (log t - x), or with u = log t of e^u (u - x)."""
    if log_target:
        p = np.exp(t)
        return p * (t - x), (-p, p * (1 + t - x))
    return t * (np.log(t) - x), (-t, 1 + np.log(t) - x)


def margin_ranking(a, b, first, margin):
    """l = max(0, m - y (a - b)) with y = 1, or -1."""
    y = 1 if first else -1
    loss = margin - y * (a - b)
    return (loss, (-y, y)) if loss > 0 else (0.0, (0.0, 0.0))


def binary_cross_entropy(z, t, c):
    """l = -c t log p - (1 - t) log(1 - p), p = sigmoid(z); dp/dz = p (1 - p)."""
    p = 1 / (1 + np.exp(-z))
    loss = -c * t * np.log(p) - (1 - t) * np.log(1 - p)
    return loss, (-c * t * (1 - p) + (1 - t) * p, -c * np.log(p) + np.log(1 - p))


def focal(z, t, gamma, positive, negative):
    """l = t l_1 + (1 - t) l_0, l_1 = -a (1 - p)^g log p, and l_0 the same of 1 - p.

    dl_1/dz = a [g (1 - p)^(g-1) log p - (1 - p)^g / p] p (1 - p).
    """
    p = 1 / (1 + np.exp(-z))

    def one(p):
        loss = -((1 - p) ** gamma) * np.log(p)
        return loss, (1 - p) ** gamma * (gamma * p * np.log(p) + p - 1)

    (l1, g1), (l0, g0) = one(p), one(1 - p)  # the second changes sign with z
    loss = positive * t * l1 + negative * (1 - t) * l0
    return loss, (positive * t * g1 - negative * (1 - t) * g0, positive * l1 - negative * l0)


# --------------------------------------------------------------------------------------- masks


def dice(p, t, mask, smooth, squared):
    """l = 1 - I / S of the pixels of one example's channel that are in the mask.

    dl/dp_i = (I dS/dp_i - 2 t_i S) / S^2, and dS/dp_i is 1, or 2 p_i.
    """
    I = S = smooth
    inside = [i for i in np.ndindex(p.shape) if mask[i]]
    for i in inside:
        I += 2 * p[i] * t[i]
        S += p[i] ** 2 + t[i] ** 2 if squared else p[i] + t[i]
    gp, gt = np.zeros(p.shape), np.zeros(p.shape)
    for i in inside:
        gp[i] = (I * (2 * p[i] if squared else 1) - 2 * t[i] * S) / S**2
        gt[i] = (I * (2 * t[i] if squared else 1) - 2 * p[i] * S) / S**2
    return 1 - I / S, (gp, gt)


# ---------------------------------------------------------------------------------- embeddings


def distance(a, b, squared):
    """|a - b|, or its square, and the gradient in a; in b it is the opposite."""
    d = sum((a_k - b_k) ** 2 for a_k, b_k in zip(a, b, strict=True))
    if squared:
        return d, 2 * (a - b)
    return np.sqrt(d), (a - b) / np.sqrt(d) if d > 0 else np.zeros(len(a))


def contrastive(a, b, same, margin, positive_margin):
    """l = max(D - m_+, 0)^2 / 2 for a pair of one class, max(m - D, 0)^2 / 2 for one of two."""
    D, direction = distance(a, b, squared=False)
    if same:
        over = max(D - positive_margin, 0)
        return over**2 / 2, (over * direction, -over * direction)
    under = max(margin - D, 0)
    return under**2 / 2, (-under * direction, under * direction)


def contrastive_squared(a, b, same, margin, positive_margin):
    """l = max(d - m_+, 0) / 2 for a pair of one class, max(m - d, 0) / 2 for one of two."""
    d, direction = distance(a, b, squared=True)
    loss, slope = (d - positive_margin, 1) if same else (margin - d, -1)
    if loss <= 0:
        return 0.0, (0 * direction, 0 * direction)
    return loss / 2, (slope * direction / 2, -slope * direction / 2)


def cosine_embedding(a, b, same, margin):
    """l = 1 - c for a pair of one class, max(0, c - m) for one of two; dc/da = (b' - c a') / |a|."""
    length = lambda v: np.sqrt(sum(v_k**2 for v_k in v))  # noqa: E731
    u, v = a / length(a), b / length(b)
    c = sum(u_k * v_k for u_k, v_k in zip(u, v, strict=True))
    slope = -1.0 if same else float(c > margin)
    loss = 1 - c if same else max(0, c - margin)
    return loss, (slope * (v - c * u) / length(a), slope * (u - c * v) / length(b))


def triplet(a, p, n, margin, squared):
    """l = max(0, m + D_ap - D_an)."""
    near, to_near = distance(a, p, squared)
    far, to_far = distance(a, n, squared)
    loss = margin + near - far
    if loss <= 0:
        return 0.0, (0 * a, 0 * a, 0 * a)
    return loss, (to_near - to_far, -to_near, to_far)
