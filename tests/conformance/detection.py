"""Boxes, anchors, and what is taken of boxes after matching, sampling and suppression.

Indices and truth values have no derivative; an entry of an operation that gives them takes the
boxes or scores that it points at, which have one. Coordinates are drawn far enough apart that no
step of a derivative makes another choice.
"""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from convax import ops
from tests.reference import detection as reference

from .entry import Entry, Problem
from .random import DTYPES, rng_of

NO_TORCH = "PyTorch has none; torchvision's is the oracle of tests/ops/detection"


def boxes(rng, n):
    """Boxes of which no two coordinates are equal, in quarters that every dtype holds exactly."""
    x, y = (
        np.sort(rng.permutation(np.arange(1, 64))[: 2 * n].reshape(n, 2), axis=1) / 4
        for _ in range(2)
    )
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def drawn(*counts):
    return lambda rng: tuple(boxes(rng, n) for n in counts)


# ------------------------------------------------------------------------------------- boxes


def overlap_parts(xp, a, b):
    """Intersection, union and the area around both, in jax.numpy or PyTorch."""
    zero = 0 * a[..., 0] * b[..., 0]
    side = lambda i: xp.maximum(  # noqa: E731
        xp.minimum(a[..., i + 2], b[..., i + 2]) - xp.maximum(a[..., i], b[..., i]), zero
    )
    outer = lambda i: (  # noqa: E731
        xp.maximum(a[..., i + 2], b[..., i + 2]) - xp.minimum(a[..., i], b[..., i])
    )
    area = lambda c: (c[..., 2] - c[..., 0]) * (c[..., 3] - c[..., 1])  # noqa: E731
    inside = side(0) * side(1)
    return inside, area(a) + area(b) - inside, outer(0) * outer(1)


def _iou(xp, a, b):
    inside, union, _ = overlap_parts(xp, a, b)
    return inside / union


def _giou(xp, a, b):
    inside, union, around = overlap_parts(xp, a, b)
    return inside / union - 1 + union / around


MEASURES = {
    "box_iou": (ops.box_iou, _iou, reference.iou),
    "box_giou": (ops.box_giou, _giou, reference.giou),
}


def pairwise_entry(name):
    function, formula, loop = MEASURES[name]
    of_pairs = lambda xp: lambda a, b: formula(xp, a[:, None], b[None])  # noqa: E731
    return Entry(
        *(name, "", function, drawn(3, 2)),
        plain=of_pairs(jnp),
        loops=lambda a, b: reference.pairwise(loop, a, b),
        loops_grad=lambda g, a, b: reference.pairwise_grads(loop, g, a, b),
        torch=lambda torch, a, b: of_pairs(torch)(a, b),
    )


def _area_grad(g, b):
    return (np.stack([reference.area(box)[1] * g_box for box, g_box in zip(b, g, strict=True)]),)


def _plain_area(b):
    return (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])


def convert_entry(in_format, out_format):
    function = lambda b: ops.box_convert(b, in_format, out_format)  # noqa: E731
    of_one = lambda b: reference.convert(b, in_format, out_format)  # noqa: E731
    # Linear: the columns of its matrix are what it makes of the unit vectors.
    matrix = np.stack([of_one(e) for e in np.eye(4)], axis=1)
    return Entry(
        *("box_convert", f"{in_format} to {out_format}", function, drawn(3)),
        plain=lambda b: b @ jnp.asarray(matrix.T, b.dtype),
        loops=lambda b: np.stack([of_one(one) for one in b]),
        loops_grad=lambda g, b: (np.stack([matrix.T @ one for one in g]),),
        torch=lambda torch, b: b @ torch.tensor(matrix.T, dtype=b.dtype),
    )


H, W = 9, 7
CLIP = Entry(
    *("box_clip", "", lambda b: ops.box_clip(b, (H, W)), lambda rng: (boxes(rng, 4) - 2.125,)),
    plain=lambda b: jnp.stack([jnp.clip(b[:, i], 0, (W, H)[i % 2]) for i in range(4)], 1),
    loops=lambda b: np.stack([reference.clip(one, H, W)[0] for one in b]),
    loops_grad=lambda g, b: (g * np.stack([reference.clip(one, H, W)[1] for one in b]),),
    torch=lambda torch, b: torch.stack([b[:, i].clip(0, (W, H)[i % 2]) for i in range(4)], 1),
)
SCALE = np.array([3.0, 0.5, 3.0, 0.5])
WEIGHTS, CLAMP = (10.0, 8.0, 5.0, 4.0), 0.3


def _encode(log, stack, b, a):
    (ox, oy, ow, oh), (ax, ay, aw, ah) = (
        (
            (c[..., 0] + c[..., 2]) / 2,
            (c[..., 1] + c[..., 3]) / 2,
            c[..., 2] - c[..., 0],
            c[..., 3] - c[..., 1],
        )
        for c in (b, a)
    )
    wx, wy, ww, wh = WEIGHTS
    return stack(
        [wx * (ox - ax) / aw, wy * (oy - ay) / ah, ww * log(ow / aw), wh * log(oh / ah)], -1
    )


def _decode(xp, stack, d, a):
    w, h = a[..., 2] - a[..., 0], a[..., 3] - a[..., 1]
    wx, wy, ww, wh = WEIGHTS
    x, y = d[..., 0] / wx * w + a[..., 0] + w / 2, d[..., 1] / wy * h + a[..., 1] + h / 2
    clamp = CLAMP + 0 * d[..., 2]
    w, h = (
        xp.exp(xp.minimum(d[..., 2] / ww, clamp)) * w,
        xp.exp(xp.minimum(d[..., 3] / wh, clamp)) * h,
    )
    return stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)


def _jacobian_loops(function):
    """Value, and gradients by the Jacobians, of a function of one box and one anchor."""
    value = lambda a, b: np.stack([function(*ab)[0] for ab in zip(a, b, strict=True)])  # noqa: E731

    def grads(g, a, b):
        made = [(function(*ab), g_one) for *ab, g_one in zip(a, b, g, strict=True)]
        return tuple(np.stack([jacobians[i].T @ g for jacobians, g in made]) for i in (1, 2))

    return {"loops": value, "loops_grad": grads}


def _deltas(rng, n):
    """Some above the clamp, none near it, whatever the point."""
    d = rng.uniform(-1, 0.7, (n, 4))
    d[::2, 2:] = rng.uniform(4, 6, (len(d[::2]), 2))
    return d


ENCODE = Entry(
    *("box_encode", "", lambda b, a: ops.box_encode(b, a, WEIGHTS), drawn(3, 3)),
    plain=lambda b, a: _encode(jnp.log, jnp.stack, b, a),
    **_jacobian_loops(lambda b, a: reference.encode(b, a, WEIGHTS)),
    torch=lambda torch, b, a: _encode(torch.log, torch.stack, b, a),
)
DECODE = Entry(
    *("box_decode", "", lambda d, a: ops.box_decode(d, a, WEIGHTS, scale_clamp=CLAMP)),
    lambda rng: (_deltas(rng, 3), boxes(rng, 3)),
    plain=lambda d, a: _decode(jnp, jnp.stack, d, a),
    **_jacobian_loops(lambda d, a: reference.decode(d, a, WEIGHTS, CLAMP)),
    torch=lambda torch, d, a: _decode(torch, torch.stack, d, a),
)

# ----------------------------------------------------------------------------------- anchors

MAP, STRIDES = (2, 3), (8, 4)


def _grid(xp, cells):
    shifts = [[(j * 4, i * 8, j * 4, i * 8)] for i in range(2) for j in range(3)]
    return (cells[None] + xp(np.array(shifts, float))).reshape(-1, 4)


GRID = Entry(
    *("grid_anchors", "", lambda c: ops.grid_anchors(MAP, STRIDES, c), drawn(2)),
    plain=lambda c: _grid(lambda shifts: jnp.asarray(shifts, c.dtype), c),
    loops=lambda c: reference.grid_anchors(MAP, STRIDES, c),
    loops_grad=lambda g, c: (g.reshape(-1, *c.shape).sum(0),),
    torch=lambda torch, c: _grid(lambda shifts: torch.tensor(shifts, dtype=c.dtype), c),
)

# ------------------------------------------------------- what is chosen, as what it points at


def _scatter(g, like, indices, counts):
    """The gradient of like[indices] where counts."""
    grad = np.zeros(like.shape)
    for row, index, count in zip(g, indices, counts, strict=True):
        grad[index] += row * count
    return grad


def _matched(objects, boxes):
    """The objects of positive boxes, zero for others."""
    m = ops.match_boxes(objects, boxes, high_threshold=0.3, low_threshold=0.1, min_positive_iou=0.0)
    return jnp.where((m.labels == 1)[:, None], objects[m.indices], 0) * boxes


def _matched_in_loops(objects, boxes):
    none = np.zeros(len(objects), bool)
    return reference.match(objects, boxes, ~none, none, 0.3, 0.1, 0.0, 0.7)


def _matched_grads(g, objects, boxes):
    indices, labels = _matched_in_loops(objects, boxes)
    positive = labels == 1
    return (
        _scatter(g * boxes, objects, indices, positive),
        g * objects[indices] * positive[:, None],
    )


def _plain_matched(objects, boxes):
    q = _iou(jnp, objects[:, None], boxes[None])
    chosen = jax.nn.one_hot(jnp.argmax(q, 0), len(objects), dtype=q.dtype)
    positive = (jnp.max(q, 0) >= 0.3) | jnp.any((q == jnp.max(q, 1, keepdims=True)) & (q > 0), 0)
    return (chosen @ objects) * boxes * positive[:, None].astype(boxes.dtype)


def _matched_loops(objects, boxes):
    indices, labels = _matched_in_loops(objects, boxes)
    return objects[indices] * (labels == 1)[:, None] * boxes


MATCH = Entry(
    *("match_boxes", "objects of positive boxes", _matched, drawn(2, 5)),
    plain=_plain_matched,
    loops=_matched_loops,
    loops_grad=_matched_grads,
    torch=NO_TORCH,
)

LABELS = np.array([0, 1, -1, 1, 0, 0, 1, 1], np.int32)
SAMPLING = {"num_samples": 4, "positive_fraction": 0.5}


def _sample_in_loops():
    """The draw, from the same random numbers."""
    with jax.ensure_compile_time_eval():
        bits = [
            np.asarray(jax.random.bits(key, LABELS.shape, jnp.uint32)) >> 1
            for key in jax.random.split(jax.random.key(3))
        ]
    return reference.sample(LABELS, bits, 4, 0.5)


def _sampled(x):
    drawn = ops.sample_balanced(LABELS, **SAMPLING, key=jax.random.key(3))
    return jnp.where(drawn.valid, x[drawn.indices], 0) ** 2


def _masked(x):
    mask = ops.sample_mask(LABELS, **SAMPLING, key=jax.random.key(3))
    return jnp.where(mask, x, 0) ** 2


def _sample_mask_in_loops():
    return np.isin(np.arange(len(LABELS)), _sample_in_loops()[0])


SAMPLES = [
    Entry(
        *("sample_balanced", "squares of what is drawn", _sampled),
        lambda rng: (rng.standard_normal(len(LABELS)),),
        plain=lambda x: x[_sample_in_loops()[0]] ** 2,
        loops=lambda x: x[_sample_in_loops()[0]] ** 2,
        loops_grad=lambda g, x: (
            _scatter(2 * g * x[_sample_in_loops()[0]], x, *_sample_in_loops()[:2]),
        ),
        torch=NO_TORCH,
    ),
    Entry(
        *("sample_mask", "squares of what is drawn", _masked),
        lambda rng: (rng.standard_normal(len(LABELS)),),
        plain=lambda x: jnp.where(_sample_mask_in_loops(), x, 0) ** 2,
        loops=lambda x: np.where(_sample_mask_in_loops(), x, 0) ** 2,
        loops_grad=lambda g, x: (np.where(_sample_mask_in_loops(), 2 * g * x, 0),),
        torch=NO_TORCH,
    ),
]

GROUPS = np.array([0, 0, 1, 0, 1, 1], np.int32)
R = len(GROUPS)


def _clustered(rng):
    """Two places with three boxes each; scores apart, in sixteenths."""
    centers = np.repeat([[6.0, 6.0], [20.0, 12.0]], 3, axis=0) + rng.integers(-8, 9, (R, 2)) / 8
    sides = rng.integers(16, 33, (R, 2)) / 4
    corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    return corners, rng.permutation(np.arange(3, 3 + R)) / 16


def suppressed(case, groups, implementation):
    """Boxes times scores of those that are kept, best first."""

    def function(boxes, scores):
        with ops.implementation(implementation):
            kept = ops.nms(boxes, scores, iou_threshold=0.3, groups=groups)
        return jnp.where(kept.valid[:, None], boxes[kept.indices] * scores[kept.indices, None], 0)

    def plain(boxes, scores):
        """Each box after those with better scores, unrolled."""
        order = jnp.argsort(-scores)
        b, s = boxes[order], scores[order]
        of = None if groups is None else jnp.asarray(groups)[order]
        q = _iou(jnp, b[:, None], b[None])
        keep = []
        for j in range(R):
            hit = jnp.zeros((), bool)
            for i in range(j):
                same = True if of is None else of[i] == of[j]
                hit |= keep[i] & (q[i, j] > 0.3) & same
            keep.append(~hit)
        keep = jnp.stack(keep)
        first = jnp.argsort(~keep, stable=True)
        return jnp.where(keep[first][:, None], (b * s[:, None])[first], 0)

    def kept_in_loops(boxes, scores):
        kept = reference.nms(boxes, scores, 0.3, groups=groups)
        return np.array(kept + [0] * (R - len(kept))), np.arange(R) < len(kept)

    def loops(boxes, scores):
        indices, valid = kept_in_loops(boxes, scores)
        return (boxes * scores[:, None])[indices] * valid[:, None]

    def loops_grad(g, boxes, scores):
        chosen = kept_in_loops(boxes, scores)
        g = _scatter(g, boxes, *chosen)
        return g * scores[:, None], (g * boxes).sum(1)

    return Entry(*("nms", case, function, _clustered), plain, loops, loops_grad, NO_TORCH)


def _soft():
    """The scores at the time of choice; a linear factor is a case of tests/ops/detection."""
    R, count = 4, 3

    def function(boxes, scores):
        return ops.soft_nms(boxes, scores, sigma=0.5, max_output=count).scores

    def plain(boxes, scores):
        q, left, chosen = _iou(jnp, boxes[:, None], boxes[None]), jnp.ones(R, bool), []
        for _ in range(count):
            i = jnp.argmax(jnp.where(left, scores, -1))
            chosen.append(scores[i])
            left &= jnp.arange(R) != i
            scores = jnp.where(left, scores * jnp.exp(-(q[i] ** 2) / 0.5), scores)
        return jnp.stack(chosen)

    def chosen_in_loops(boxes, scores):
        return reference.soft_nms(boxes, scores, "gaussian", 0.5, 0.3, count)

    def loops_grad(g, boxes, scores):
        """A score when chosen is its first one times a factor of each box chosen before."""
        order = [i for i, _ in chosen_in_loops(boxes, scores)]
        g_boxes, g_scores = np.zeros(boxes.shape), np.zeros(R)
        for place, j in enumerate(order):
            before = [(i, *reference.iou(boxes[i], boxes[j])) for i in order[:place]]
            factor = np.exp(-sum(q**2 for _, q, _ in before) / 0.5)
            g_scores[j] += g[place] * factor
            for i, q, (di, dj) in before:
                slope = g[place] * scores[j] * factor * -4 * q
                g_boxes[i] += slope * di
                g_boxes[j] += slope * dj
        return g_boxes, g_scores

    return Entry(
        *("soft_nms", "scores", function),
        lambda rng: tuple(a[:R] for a in _clustered(rng)),
        plain=plain,
        loops=lambda *arrays: np.array([score for _, score in chosen_in_loops(*arrays)]),
        loops_grad=loops_grad,
        torch=NO_TORCH,
    )


ENTRIES = [
    Entry(
        *("box_area", "", ops.box_area, drawn(3)),
        plain=_plain_area,
        loops=lambda b: np.array([reference.area(one)[0] for one in b]),
        loops_grad=_area_grad,
        torch=lambda torch, b: _plain_area(b),
    ),
    convert_entry("cxcywh", "xyxy"),
    convert_entry("yxyx", "xywh"),
    Entry(
        *("box_scale", "", lambda b: ops.box_scale(b, (0.5, 3.0)), drawn(3)),
        plain=lambda b: b * jnp.asarray(SCALE, b.dtype)[None],
        loops=lambda b: np.stack([one * SCALE for one in b]),
        loops_grad=lambda g, b: (np.stack([one * SCALE for one in g]),),
        torch=lambda torch, b: b * torch.tensor(SCALE, dtype=b.dtype),
    ),
    CLIP,
    pairwise_entry("box_iou"),
    pairwise_entry("box_giou"),
    ENCODE,
    DECODE,
    GRID,
    MATCH,
    *SAMPLES,
    suppressed("by rows", None, "cpu"),
    suppressed("groups, in rounds", GROUPS, "xla"),
    _soft(),
]


# --------------------------------------------------------------------------------------- drawn


OF_BOXES = {entry.name: entry for entry in ENTRIES if entry.op.startswith("box_")}


@st.composite
def problems(draw):
    """Overlaps, formats and offsets of any number of boxes."""
    rng, dtype = rng_of(draw), draw(st.sampled_from(DTYPES))
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    entry = OF_BOXES[draw(st.sampled_from(sorted(OF_BOXES)))]
    arrays = entry.draw(rng)
    if entry.op in MEASURES:
        arrays = boxes(rng, n), boxes(rng, m)
    elif entry.op in ("box_area", "box_convert", "box_scale", "box_clip"):
        arrays = (boxes(rng, n) - (2.125 if entry.op == "box_clip" else 0),)
    return Problem(entry.function, arrays, entry.torch, dtype, f"{entry.name} {n} {m} {dtype}")
