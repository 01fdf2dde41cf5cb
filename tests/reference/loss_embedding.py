"""Losses of a whole batch of embeddings, and their gradients."""

import numpy as np

from .loss import distance, one_hot, softmax_cross_entropy, triplet

# ------------------------------------------------------------------------------------- triplets


def hardest(x, y, squared):
    """For each anchor that has both: its farthest positive and its nearest negative."""
    found = {}
    for a in range(len(x)):
        positive = negative = None
        for j in range(len(x)):
            d = distance(x[a], x[j], squared)[0]
            if y[j] == y[a] and j != a and (positive is None or d > positive[0]):
                positive = d, j
            if y[j] != y[a] and (negative is None or d < negative[0]):
                negative = d, j
        if positive and negative:
            found[a] = a, positive[1], negative[1]
    return found


def semi_hard(x, y, squared):
    """For each pair of a class: the nearest negative beyond the positive, or else the farthest."""
    found = {}
    for a in range(len(x)):
        to = [distance(x[a], x[j], squared)[0] for j in range(len(x))]
        negatives = [n for n in range(len(x)) if y[n] != y[a]]
        for p in range(len(x)):
            if p == a or y[p] != y[a] or not negatives:
                continue
            beyond = [n for n in negatives if to[n] > to[p]]
            n = min(beyond, key=lambda n: to[n]) if beyond else max(negatives, key=lambda n: to[n])
            found[a, p] = a, p, n
    return found


def mined(found, x, shape, margin, squared):
    """The loss of each triplet, at its place, and zero where there is none."""
    loss = np.zeros(shape)
    for at, (a, p, n) in found.items():
        loss[at] = triplet(x[a], x[p], x[n], margin, squared)[0]
    return loss


def mined_grads(found, x, g, margin, squared):
    """The gradient of sum(g * loss) in x: an example collects those of all its roles."""
    gx = np.zeros(x.shape)
    for at, roles in found.items():
        _, grads = triplet(*(x[i] for i in roles), margin, squared)
        for i, grad in zip(roles, grads, strict=True):
            gx[i] += g[at] * grad
    return gx


# ------------------------------------------------------------------------------- angular margin


def angular_margin(x, W, y, s, m, in_angle):
    """The loss of each example, and its gradients in x_n and in W.

    With c_k = cos theta_k and p the softmax of s c_k, but s c' in the place of the label:
    c' = cos(theta + m) and dc'/dc = sin(theta + m) / sin(theta) where theta + m < pi, else
    c' = c - m sin m; or c' = c - m.
    """
    found = []
    for x_n, label in zip(x, y, strict=True):
        units = [W[:, k] / np.sqrt(np.sum(W[:, k] ** 2)) for k in range(W.shape[1])]
        length = np.sqrt(np.sum(x_n**2))
        unit = x_n / length
        c = np.array([np.sum(unit * w) for w in units])
        theta, slope = np.arccos(c[label]), np.ones(len(units))
        z = s * c
        if not in_angle:
            z[label] = s * (c[label] - m)
        elif theta + m < np.pi:
            z[label] = s * np.cos(theta + m)
            slope[label] = np.sin(theta + m) / np.sin(theta)
        else:
            z[label] = s * (c[label] - m * np.sin(m))
        loss, (g, _) = softmax_cross_entropy(z, one_hot(label, len(units)))
        g = s * g * slope
        gx = sum(g[k] * (units[k] - c[k] * unit) / length for k in range(len(units)))
        gW = [
            g[k] * (unit - c[k] * units[k]) / np.sqrt(np.sum(W[:, k] ** 2))
            for k in range(len(units))
        ]
        found.append((loss, gx, np.stack(gW, axis=1)))
    return found


# ------------------------------------------------------------------------------------ histogram


def histogram_loss(x, y, bins, w):
    """L = sum_r h-_r sum_{q <= r} h+_q, of the similarities shared out among the nodes."""
    apart, alike = (_histogram(x, w, pairs, bins)[0] for pairs in _pairs(y))
    return sum(apart[r] * alike[q] for r in range(bins) for q in range(r + 1))


def histogram_grads(x, y, bins, w):
    """The gradients in x and w.

    L is linear in each histogram: with slopes c_r = dL/dh_r, a pair adds p f / P, where p is its
    weight, P the sum of them, and f = sum_r c_r share_r(s). So dL/dp = (f - L) / P, and
    dL/ds = p / P * (c_{r+1} - c_r) / Delta between the nodes r and r + 1.
    """
    length = [np.sqrt(np.sum(x_i**2)) for x_i in x]
    unit = [x_i / n for x_i, n in zip(x, length, strict=True)]
    two, one = _pairs(y)
    apart, alike = (_histogram(x, w, pairs, bins)[0] for pairs in (two, one))
    slopes = [
        (two, [sum(alike[q] for q in range(r + 1)) for r in range(bins)]),
        (one, [sum(apart[r] for r in range(q, bins)) for q in range(bins)]),
    ]
    L, delta = histogram_loss(x, y, bins, w), 2 / (bins - 1)
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    for pairs, c in slopes:
        _, shares, P = _histogram(x, w, pairs, bins)
        for i, j in pairs:
            (r, low), (_, high), s = shares[i, j]
            f = low * c[r] + high * c[r + 1]
            gw[i] += (f - L) / P * w[j]
            gw[j] += (f - L) / P * w[i]
            gs = w[i] * w[j] / P * (c[r + 1] - c[r]) / delta
            gx[i] += gs * (unit[j] - s * unit[i]) / length[i]
            gx[j] += gs * (unit[i] - s * unit[j]) / length[j]
    return gx, gw


def _pairs(y):
    """Those of two classes, those of one."""
    pairs = [(i, j) for i in range(len(y)) for j in range(i)]
    return [(i, j) for i, j in pairs if y[i] != y[j]], [(i, j) for i, j in pairs if y[i] == y[j]]


def _histogram(x, w, pairs, bins):
    """h, the two nodes beside each similarity with their shares of it, and the sum of weights."""
    h, shares, total = np.zeros(bins), {}, 0.0
    for i, j in pairs:
        s = np.sum(x[i] * x[j]) / np.sqrt(np.sum(x[i] ** 2) * np.sum(x[j] ** 2))
        position = (s + 1) * (bins - 1) / 2
        r = min(int(position), bins - 2)
        low, high = (r, r + 1 - position), (r + 1, position - r)
        shares[i, j] = low, high, s
        for node, share in (low, high):
            h[node] += w[i] * w[j] * share
        total += w[i] * w[j]
    return h / total, shares, total


# ------------------------------------------------------------------------------------------ LDA


def lda_loss(x, y, regularization, epsilon, w):
    """L = -(mean of the chosen v), of S_b e = v (S_w + lambda I) e."""
    return -np.mean([v for v, _ in _chosen(x, y, regularization, epsilon, w)])


def lda_grads(x, y, regularization, epsilon, w):
    """The gradients in x and w.

    With e^T (S_w + lambda I) e = 1, dv = e^T (dS_b - v dS_w) e. The means may be held fixed: each
    is where its sum of squares is least. That gives the formula of the docstring in x, and in w

        dv/dw_i = [(e (x_i - m))^2 - (1 + v) (e (x_i - m_c))^2 - v lambda e e] / W.
    """
    means, mean, _, _ = _moments(x, y, w)
    chosen = _chosen(x, y, regularization, epsilon, w)
    W, gx, gw = sum(w), np.zeros(x.shape), np.zeros(w.shape)
    for v, e in chosen:
        for i in range(len(x)):
            between, within = e @ (means[y[i]] - mean), e @ (x[i] - means[y[i]])
            gx[i] -= 2 * w[i] / W * (between - v * within) * e / len(chosen)
            square = (e @ (x[i] - mean)) ** 2 - (1 + v) * within**2 - v * regularization * (e @ e)
            gw[i] -= square / W / len(chosen)
    return gx, gw


def _moments(x, y, w):
    """The means of the classes, that of all, and the scatter between and within the classes."""
    D, W = x.shape[1], sum(w)
    mean = sum(w_i * x_i for w_i, x_i in zip(w, x, strict=True)) / W
    means, between, within = {}, np.zeros((D, D)), np.zeros((D, D))
    for c in sorted(set(y)):
        members = [i for i in range(len(x)) if y[i] == c]
        W_c = sum(w[i] for i in members)
        means[c] = sum(w[i] * x[i] for i in members) / W_c
        between += W_c / W * np.outer(means[c] - mean, means[c] - mean)
        for i in members:
            within += w[i] / W * np.outer(x[i] - means[c], x[i] - means[c])
    return means, mean, between, within


def _chosen(x, y, regularization, epsilon, w):
    """The eigenvalues below the least plus epsilon, with their eigenvectors, zeros left out."""
    means, _, between, within = _moments(x, y, w)
    D = x.shape[1]
    root = np.linalg.inv(np.linalg.cholesky(within + regularization * np.eye(D)))
    v, V = np.linalg.eigh(root @ between @ root.T)
    rank = min(len(means) - 1, D)
    pairs = [(v[j], root.T @ V[:, j]) for j in range(D - rank, D)]
    return [(v, e) for v, e in pairs if v < pairs[0][0] + epsilon]
