"""Boxes, anchors, matching, sampling and suppression, one box at a time."""

import numpy as np

# ------------------------------------------------------------------------- boxes, one by one


def area(b):
    """(x2 - x1) (y2 - y1), and its gradient; 0 for a side below 0."""
    w, h = max(b[2] - b[0], 0), max(b[3] - b[1], 0)
    return w * h, np.array([-h, -w, h, w]) * np.array([w > 0, h > 0, w > 0, h > 0])


def convert(b, in_format, out_format):
    """By way of two corners."""
    a, b, c, d = b
    x1, y1, x2, y2 = {
        "xyxy": (a, b, c, d),
        "xywh": (a, b, a + c, b + d),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
        "yxyx": (b, a, d, c),
    }[in_format]
    w, h = x2 - x1, y2 - y1
    return np.array(
        {
            "xyxy": (x1, y1, x2, y2),
            "xywh": (x1, y1, w, h),
            "cxcywh": (x1 + w / 2, y1 + h / 2, w, h),
            "yxyx": (y1, x1, y2, x2),
        }[out_format]
    )


def clip(b, H, W):
    """Each coordinate to its range, and whether it is inside."""
    limits = (W, H, W, H)
    y = [min(max(v, 0), limit) for v, limit in zip(b, limits, strict=True)]
    return np.array(y), np.array([0 < v < limit for v, limit in zip(b, limits, strict=True)])


def _overlap(a, b):
    """Intersection, union and the area around both, each with its gradients in a and b."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    W, H = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    (area_a, dA), (area_b, dB) = area(a), area(b)
    inner, outer = np.zeros((2, 4)), np.zeros((2, 4))
    for n, (own, other) in enumerate(((a, b), (b, a))):
        if w > 0 and h > 0:
            inner[n] = [
                -h if own[0] > other[0] else 0,
                -w if own[1] > other[1] else 0,
                h if own[2] < other[2] else 0,
                w if own[3] < other[3] else 0,
            ]
        outer[n] = [
            -H if own[0] < other[0] else 0,
            -W if own[1] < other[1] else 0,
            H if own[2] > other[2] else 0,
            W if own[3] > other[3] else 0,
        ]
    inside = w * h if w > 0 and h > 0 else 0.0
    union = area_a + area_b - inside
    return (inside, inner), (union, np.stack([dA, dB]) - inner), (W * H, outer)


def _quotient(a, da, b, db):
    return (0.0, 0 * da) if b == 0 else (a / b, (da * b - a * db) / b**2)


def iou(a, b):
    """I / U and its gradients in both boxes; 0 where U is."""
    (inside, inner), (union, dU), _ = _overlap(a, b)
    return _quotient(inside, inner, union, dU)


def giou(a, b):
    """IoU - 1 + U / C and its gradients."""
    _, (union, dU), (around, dC) = _overlap(a, b)
    q, dq = iou(a, b)
    r, dr = _quotient(union, dU, around, dC)
    return (q - 1 + r, dq + dr) if around else (q, dq)


def diou(a, b):
    """IoU - d^2 / c^2 and its gradients, d between the centers, c the diagonal around both."""
    W, H = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    far = np.array([[dx, dy, dx, dy], [-dx, -dy, -dx, -dy]])
    outer = np.zeros((2, 4))
    for n, (own, other) in enumerate(((a, b), (b, a))):
        outer[n] = [
            -2 * W if own[0] < other[0] else 0,
            -2 * H if own[1] < other[1] else 0,
            2 * W if own[2] > other[2] else 0,
            2 * H if own[3] > other[3] else 0,
        ]
    q, dq = iou(a, b)
    r, dr = _quotient(dx**2 + dy**2, far, W**2 + H**2, outer)
    return q - r, dq - dr


def ciou(a, b):
    """DIoU - alpha v and its gradients, alpha a constant."""
    q, _ = iou(a, b)
    d, dd = diou(a, b)
    (wa, ha), (wb, hb) = ((c[2] - c[0], c[3] - c[1]) for c in (a, b))
    turn = np.arctan(wb / hb) - np.arctan(wa / ha)
    v = 4 / np.pi**2 * turn**2
    alpha = v / (1 - q + v) if v else 0.0
    slope = 8 / np.pi**2 * turn
    dv = np.zeros((2, 4))
    for n, (w, h, sign) in enumerate(((wa, ha, -1), (wb, hb, 1))):
        dw, dh = sign * slope * h / (w**2 + h**2), -sign * slope * w / (w**2 + h**2)
        dv[n] = [-dw, -dh, dw, dh]
    return d - alpha * v, dd - alpha * dv


def encode(b, anchor, weights):
    """Offsets and their Jacobians in box and anchor, (4, 4) each."""
    t, db, da = np.zeros(4), np.zeros((4, 4)), np.zeros((4, 4))
    for i in range(2):
        side, own = b[i + 2] - b[i], anchor[i + 2] - anchor[i]
        away = (b[i] + b[i + 2] - anchor[i] - anchor[i + 2]) / 2
        t[i], t[i + 2] = weights[i] * away / own, weights[i + 2] * np.log(side / own)
        for j, sign in ((i, -1), (i + 2, 1)):
            db[i, j] = weights[i] / (2 * own)
            da[i, j] = weights[i] * (-1 / (2 * own) - sign * away / own**2)
            db[i + 2, j] = weights[i + 2] * sign / side
            da[i + 2, j] = -weights[i + 2] * sign / own
    return t, db, da


def decode(d, anchor, weights, clamp):
    """Corners and their Jacobians in offsets and anchor, (4, 4) each."""
    b, dd, da = np.zeros(4), np.zeros((4, 4)), np.zeros((4, 4))
    for i in range(2):
        own, center = anchor[i + 2] - anchor[i], (anchor[i] + anchor[i + 2]) / 2
        growth = np.exp(min(d[i + 2] / weights[i + 2], clamp))
        free = d[i + 2] / weights[i + 2] < clamp
        for corner, half in ((i, -0.5), (i + 2, 0.5)):
            b[corner] = d[i] / weights[i] * own + center + half * growth * own
            dd[corner, i] = own / weights[i]
            dd[corner, i + 2] = free * half * growth * own / weights[i + 2]
            for j, sign in ((i, -1), (i + 2, 1)):
                da[corner, j] = 0.5 + sign * (d[i] / weights[i] + half * growth)
    return b, dd, da


# ---------------------------------------------------------------------------------- pairwise


def pairwise(measure, boxes1, boxes2):
    """A measure of every pair."""
    return np.array([[measure(a, b)[0] for b in boxes2] for a in boxes1])


def pairwise_grads(measure, g, boxes1, boxes2):
    """The gradients of sum(g * measure)."""
    grads = np.zeros(boxes1.shape), np.zeros(boxes2.shape)
    for n, a in enumerate(boxes1):
        for m, b in enumerate(boxes2):
            da, db = measure(a, b)[1]
            grads[0][n] += g[n, m] * da
            grads[1][m] += g[n, m] * db
    return grads


# ----------------------------------------------------------------------------------- anchors


def cell_anchors(sizes, ratios):
    """For each ratio each size; not rounded."""
    made = []
    for r in ratios:
        for s in sizes:
            w, h = s / np.sqrt(r), s * np.sqrt(r)
            made.append((-w / 2, -h / 2, w / 2, h / 2))
    return np.array(made)


def grid_anchors(map_size, strides, cells, offset=0.0):
    """Row after row, in each place its anchors."""
    made = []
    for i in range(map_size[0]):
        for j in range(map_size[1]):
            y, x = (i + offset) * strides[0], (j + offset) * strides[1]
            made += [c + np.array([x, y, x, y]) for c in cells]
    return np.array(made)


# --------------------------------------------------------------------- matching and sampling


def match(objects, boxes, valid, ignored, high, low, least, share):
    """Indices and labels, box after box."""
    indices, labels = [], []
    own = [m for m in range(len(objects)) if valid[m] and not ignored[m]]
    top = {m: max((iou(objects[m], b)[0] for b in boxes), default=0) for m in own}
    for b in boxes:
        q = {m: iou(objects[m], b)[0] for m in own}
        best = max(q.values(), default=-1)
        indices.append(next((m for m in own if q[m] == best), 0))
        label = 1 if best >= high else 0 if best < low else -1
        if least is not None and any(
            top[m] > 0 and top[m] >= least and q[m] >= top[m] * (1 - 1e-6) for m in own
        ):
            label = 1
        for m in range(len(objects)):
            if label == 0 and valid[m] and ignored[m] and area(b)[0] > 0:
                inside = _overlap(objects[m], b)[0][0]
                if inside / area(b)[0] >= share:
                    label = -1
        labels.append(label)
    return np.array(indices), np.array(labels)


def sample(labels, bits, num_samples, fraction):
    """Indices, valid, positive, from a random number of each box for each of the two draws."""
    count = int(num_samples * fraction)
    largest_first = lambda label, bits: sorted(  # noqa: E731
        (a for a in range(len(labels)) if labels[a] == label), key=lambda a: -int(bits[a])
    )
    positives = largest_first(1, bits[0])[:count]
    negatives = largest_first(0, bits[1])[: num_samples - len(positives)]
    missing = num_samples - len(positives) - len(negatives)
    drawn = positives + negatives
    return (
        np.array(drawn + [0] * missing, int),
        np.array([True] * len(drawn) + [False] * missing),
        np.array([True] * len(positives) + [False] * (num_samples - len(positives))),
    )


# ------------------------------------------------------------------------------- suppression


def nms(boxes, scores, threshold, valid=None, groups=None, measure=None):
    """The indices that are kept, best first; an IoU of float32 if a measure is given."""
    measure = measure or (lambda a, b: iou(a, b)[0])
    R = len(boxes)
    valid = [not np.isnan(scores[i]) and (valid is None or bool(valid[i])) for i in range(R)]
    order = sorted((i for i in range(R) if valid[i]), key=lambda i: (-float(scores[i]), i))
    kept = []
    for i in order:
        same = [k for k in kept if groups is None or groups[k] == groups[i]]
        if not any(measure(boxes[k], boxes[i]) > threshold for k in same):
            kept.append(i)
    return kept


def soft_nms(boxes, scores, method, sigma, threshold, count, valid=None):
    """Indices and scores in the order of choice."""
    scores = [float(s) for s in scores]
    left = [i for i in range(len(boxes)) if not np.isnan(scores[i]) and (valid is None or valid[i])]
    chosen = []
    while left and len(chosen) < count:
        best = max(left, key=lambda i: (scores[i], -i))
        chosen.append((best, scores[best]))
        left.remove(best)
        for j in left:
            q = iou(boxes[best], boxes[j])[0]
            if method == "gaussian":
                scores[j] *= np.exp(-(q**2) / sigma)
            elif q > threshold:
                scores[j] *= 1 - q
    return chosen
