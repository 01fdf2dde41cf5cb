"""Losses: each per example, and some through their weighted mean."""

import numpy as np
from hypothesis import strategies as st

from . import losses_boxes as boxes
from . import losses_embedding as embedding
from . import losses_example as example
from .entry import Problem
from .losses_common import entry, weighted_mean
from .random import DTYPES, rng_of

# ------------------------------------------------------------------------------------- entries

# Of 32 bits, which are the same with and without jax_enable_x64.
LABELS = np.array([[0, 2], [3, 1]], np.int32)
FEW = np.array([0, 1, 0, 2, 1], np.int32)  # 2 is alone
CLASSES = [0, 1, 2, 0, 1, 2, 0]
SAME = np.array([True, False, True, False, False, True])
MASK = np.array([[[True, False], [True, True]], [[False, False], [True, True]]])

ENTRIES = [
    entry("softmax_cross_entropy", "indices", example.cross_entropy((2, 2, 4), LABELS, 0.0)),
    entry("softmax_cross_entropy", "probabilities", example.cross_entropy((3, 4), None, 0.1)),
    weighted_mean(
        "softmax_cross_entropy",
        "weighted mean",
        example.cross_entropy((2, 2, 4), LABELS, 0.1),
        (2, 2),
    ),
    entry("kl_divergence", "", example.kl((3, 4))),
    entry("nll_loss", "", example.nll((2, 2, 4), LABELS)),
    entry("kl_div_loss", "", example.kl_div((3, 4), log_target=False)),
    entry("kl_div_loss", "log target", example.kl_div((3, 4), log_target=True)),
    entry("margin_ranking_loss", "", example.margin_ranking(SAME, 0.4)),
    example.smooth((3, 4), 0.2),
    entry("multiclass_hinge_loss", "L1", example.hinge((2, 2, 4), LABELS, 1, 0.8)),
    entry("multiclass_hinge_loss", "L2", example.hinge((2, 2, 4), LABELS, 2, 0.8)),
    entry("multi_margin_loss", "L1", example.multi_margin((2, 2, 4), LABELS, 1, 0.8)),
    entry("multi_margin_loss", "L2", example.multi_margin((2, 2, 4), LABELS, 2, 0.8)),
    entry("mse_loss", "", example.mse((3, 4))),
    weighted_mean("mse_loss", "weighted mean", example.mse((3, 4)), (3,)),
    entry("l1_loss", "", example.l1((3, 4))),
    entry("huber_loss", "", example.huber((3, 4), 0.9)),
    entry("smooth_l1_loss", "", example.smooth_l1((3, 4), 0.6)),
    *boxes.ENTRIES,
    entry("binary_cross_entropy", "", example.binary((3, 4))),
    entry(
        "binary_cross_entropy", "pos_weight", example.binary((3, 4), np.array([0.5, 2.0, 1.0, 3.0]))
    ),
    entry("focal_loss", "", example.focal((3, 4), 2.0, 0.25)),
    entry("focal_loss", "no balance", example.focal((3, 4), 1.5, None)),
    entry("dice_loss", "", example.dice((2, 2, 2, 2), 1.0, squared=False)),
    entry("dice_loss", "squared, masked", example.dice((2, 2, 2, 2), 0.1, squared=True, mask=MASK)),
    entry("contrastive_loss", "", embedding.contrastive((6, 3), SAME, 3.0, 0.0, squared=False)),
    entry(
        "contrastive_loss",
        "double margin",
        embedding.contrastive((6, 3), SAME, 3.0, 0.7, squared=False),
    ),
    entry(
        "contrastive_loss", "squared", embedding.contrastive((6, 3), SAME, 9.0, 0.7, squared=True)
    ),
    entry("cosine_embedding_loss", "", embedding.cosine((6, 3), SAME, 0.1)),
    entry("triplet_loss", "", embedding.triplet((4, 3), 1.0, squared=False)),
    entry("triplet_loss", "squared", embedding.triplet((4, 3), 1.0, squared=True)),
    entry("batch_hard_triplet_loss", "", embedding.mined(False, FEW, 3, 1.0, squared=False)),
    entry("batch_hard_triplet_loss", "squared", embedding.mined(False, FEW, 3, 1.0, squared=True)),
    entry("semi_hard_triplet_loss", "", embedding.mined(True, FEW, 3, 1.0, squared=False)),
    entry("semi_hard_triplet_loss", "squared", embedding.mined(True, FEW, 3, 1.0, squared=True)),
    entry("arcface_loss", "", embedding.angular_margin(FEW, 3, 4, 4.0, 0.5, in_angle=True)),
    weighted_mean(
        "arcface_loss",
        "wide margin, weighted mean",
        embedding.angular_margin(FEW, 3, 4, 2.0, 1.4, in_angle=True),
        (5,),
    ),
    entry("cosface_loss", "", embedding.angular_margin(FEW, 3, 4, 4.0, 0.35, in_angle=False)),
    embedding.histogram("", [0, 0, 1, 1, 2], 3, 6),
    embedding.histogram("weighted", [0, 0, 1, 1], 3, 4, weighted=True),
    embedding.lda("fewer dimensions than classes", CLASSES, 3, 2, epsilon=100.0),
    embedding.lda("fewer classes than dimensions", CLASSES, 3, 3, epsilon=0.05),
    embedding.lda("classes missing", [0, 2, 0, 2, 2], 4, 4, epsilon=1.0),
    embedding.lda("weighted", CLASSES, 3, 2, epsilon=100.0, weighted=True),
]


# --------------------------------------------------------------------------------------- drawn

MARGINS = st.sampled_from([0.0, 0.37, 1.13, 2.71])  # no numbers that short dtypes hit exactly


@st.composite
def problems(draw):
    """Every loss; shapes, labels, hyper-parameters, weights and reductions."""
    rng, dtype = rng_of(draw), draw(st.sampled_from(DTYPES))
    kind = draw(st.sampled_from(sorted(DRAWN)))
    if kind in ("histogram_loss", "lda_loss", "smooth_labels"):
        return DRAWN[kind](draw, rng, dtype)
    loss, leading, text = DRAWN[kind](draw, rng)
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    w = None
    if draw(st.booleans()):
        # Without an example there are other triplets.
        mined = kind in ("batch_hard_triplet_loss", "semi_hard_triplet_loss")
        least = 0.5 if mined else 0.0
        w = np.maximum(rng.uniform(-0.5, 2, leading[:1]), least).astype(np.float32)
        w.flat[0] = 1

    def torch_function(torch, *tensors):
        each = loss.torch(torch, *tensors)
        full = loss.weigh(w)
        full = torch.ones(1) if full is None else torch.tensor(full).double()
        full = full.reshape(full.shape + (1,) * (each.ndim - full.ndim)).expand(each.shape)
        if reduction == "none":
            return full * each
        if reduction == "sum" or full.sum() == 0:  # a batch without a triplet has loss 0
            return (full * each).sum()
        return (full * each).sum() / full.sum()

    text = f"{kind} {text} {reduction} weights={w is not None} {dtype}"
    function = lambda *arrays: loss.function(*arrays, weights=w, reduction=reduction)  # noqa: E731
    return Problem(function, loss.draw(rng), torch_function, dtype, text)


def _leading(draw):
    return tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))


def _classes(draw, rng):
    leading, K = _leading(draw), draw(st.integers(2, 5))
    return leading, (*leading, K), rng.integers(0, K, leading, np.int32)


def _drawn_cross_entropy(draw, rng):
    leading, shape, labels = _classes(draw, rng)
    labels = draw(st.sampled_from([labels, None]))
    smoothing = draw(st.sampled_from([0.0, 0.1, 0.7]))
    return example.cross_entropy(shape, labels, smoothing), leading, f"{shape} {smoothing}"


def _drawn_kl(draw, rng):
    leading, shape, _ = _classes(draw, rng)
    return example.kl(shape), leading, f"{shape}"


def _drawn_nll(draw, rng):
    leading, shape, labels = _classes(draw, rng)
    return example.nll(shape, labels), leading, f"{shape}"


def _drawn_kl_div(draw, rng):
    shape, log_target = _leading(draw), draw(st.booleans())
    return example.kl_div(shape, log_target), shape, f"{shape} {log_target}"


def _drawn_margin_ranking(draw, rng):
    shape, margin = _leading(draw), draw(MARGINS)
    first = rng.integers(0, 2, shape).astype(bool)
    return example.margin_ranking(first, margin), shape, f"{shape} {margin}"


def _drawn_hinge(make):
    def drawn(draw, rng):
        leading, shape, labels = _classes(draw, rng)
        power, margin = draw(st.sampled_from([1, 2])), draw(MARGINS)
        return make(shape, labels, power, margin), leading, f"{shape} {power} {margin}"

    return drawn


def _drawn_mse(draw, rng):
    shape = _leading(draw)
    return example.mse(shape), shape, f"{shape}"


def _drawn_l1(draw, rng):
    shape = _leading(draw)
    return example.l1(shape), shape, f"{shape}"


def _drawn_huber(draw, rng):
    shape, delta = _leading(draw), draw(st.sampled_from([0.37, 1.13]))
    return example.huber(shape, delta), shape, f"{shape} {delta}"


def _drawn_smooth_l1(draw, rng):
    shape, beta = _leading(draw), draw(st.sampled_from([0.37, 1.13]))
    return example.smooth_l1(shape, beta), shape, f"{shape} {beta}"


def _drawn_overlap(make):
    def drawn(draw, rng):
        n = draw(st.integers(1, 5))
        return make(n), (n,), f"{n}"

    return drawn


def _drawn_binary(draw, rng):
    shape, hard = _leading(draw), draw(st.booleans())
    choices = [None, 2.5, rng.uniform(0.5, 2, shape[-1:]).astype(np.float32)]
    return example.binary(shape, draw(st.sampled_from(choices)), hard), shape, f"{shape} {hard}"


def _drawn_focal(draw, rng):
    shape, hard = _leading(draw), draw(st.booleans())
    gamma, alpha = draw(st.sampled_from([0.0, 1.0, 2.0, 3.5])), draw(st.sampled_from([None, 0.25]))
    return example.focal(shape, gamma, alpha, hard), shape, f"{shape} {gamma} {alpha} {hard}"


def _drawn_dice(draw, rng):
    spatial = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    shape = (draw(st.integers(1, 3)), *spatial, draw(st.integers(1, 3)))
    smooth, squared = draw(st.sampled_from([0.1, 1.0])), draw(st.booleans())
    mask = rng.integers(0, 2, shape[:-1]).astype(bool) if draw(st.booleans()) else None
    loss = example.dice(shape, smooth, squared, mask)
    return loss, (shape[0], shape[-1]), f"{shape} {smooth} {squared} mask={mask is not None}"


def _drawn_contrastive(draw, rng):
    leading, D = _leading(draw), draw(st.integers(1, 4))
    options = draw(MARGINS), draw(st.sampled_from([0.0, 0.37])), draw(st.booleans())
    same = rng.integers(0, 2, leading).astype(bool)
    return embedding.contrastive((*leading, D), same, *options), leading, f"{leading} {D} {options}"


def _drawn_cosine(draw, rng):
    leading, D, margin = _leading(draw), draw(st.integers(2, 4)), draw(st.sampled_from([0.0, 0.37]))
    same = rng.integers(0, 2, leading).astype(bool)
    return embedding.cosine((*leading, D), same, margin), leading, f"{leading} {D} {margin}"


def _drawn_triplet(draw, rng):
    leading, D = _leading(draw), draw(st.integers(1, 4))
    options = draw(MARGINS.filter(bool)), draw(st.booleans())  # PyTorch refuses a margin of 0
    return embedding.triplet((*leading, D), *options), leading, f"{leading} {D} {options}"


def _drawn_mined(semi_hard):
    def drawn(draw, rng):
        N, D = draw(st.integers(1, 6)), draw(st.integers(2, 4))
        options = draw(MARGINS), draw(st.booleans())
        labels = rng.integers(0, 3, N, np.int32)
        return embedding.mined(semi_hard, labels, D, *options), (N,), f"{labels} {D} {options}"

    return drawn


def _drawn_angular_margin(in_angle):
    def drawn(draw, rng):
        N, D, K = draw(st.integers(1, 4)), draw(st.integers(2, 4)), draw(st.integers(1, 4))
        options = draw(st.sampled_from([1.0, 8.0])), draw(st.sampled_from([0.0, 0.37, 1.13]))
        labels = rng.integers(0, K, N, np.int32)
        loss = embedding.angular_margin(labels, D, K, *options, in_angle)
        return loss, (N,), f"{labels} {D} {K} {options}"

    return drawn


def _drawn_smooth(draw, rng, dtype):
    shape, rate = (*_leading(draw), draw(st.integers(1, 5))), draw(st.sampled_from([0.0, 0.1, 0.9]))
    one = example.smooth(shape, rate)
    return Problem(one.function, one.draw(rng), one.torch, dtype, f"smooth {shape} {rate}")


def _drawn_histogram(draw, rng, dtype):
    """With at least one pair of each kind."""
    labels = np.array([0, 0, 1, *rng.integers(0, 3, draw(st.integers(0, 4)))], np.int32)
    bins, D = draw(st.sampled_from([2, 5, 12, 101])), draw(st.integers(2, 4))
    function, _, torch_loss, *_ = embedding.histogram_functions(labels, bins)
    arrays = rng.standard_normal((len(labels), D)), rng.uniform(0.5, 2, len(labels))
    return Problem(function, arrays, torch_loss, dtype, f"histogram {labels} {D} {bins} {dtype}")


def _drawn_lda(draw, rng, dtype):
    """Enough of a class that rounding does not swamp what is narrow."""
    K, D = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    labels = np.array([*range(K)] * 3, np.int32)[: 3 * K - draw(st.integers(0, 1))]
    missing = draw(st.integers(0, 1))
    regularization, epsilon = draw(st.sampled_from([0.1, 1.0])), draw(st.sampled_from([0.1, 100.0]))
    function, _, torch_loss, *_ = embedding.lda_functions(
        labels, K + missing, D, regularization, epsilon
    )
    arrays = embedding.spread(labels, D)(rng), rng.uniform(0.5, 2, len(labels))
    text = f"lda {labels} K={K + missing} {D} {regularization} {epsilon} {dtype}"
    return Problem(function, arrays, torch_loss, dtype, text)


DRAWN = {
    "softmax_cross_entropy": _drawn_cross_entropy,
    "kl_divergence": _drawn_kl,
    "nll_loss": _drawn_nll,
    "kl_div_loss": _drawn_kl_div,
    "margin_ranking_loss": _drawn_margin_ranking,
    "smooth_labels": _drawn_smooth,
    "multiclass_hinge_loss": _drawn_hinge(example.hinge),
    "multi_margin_loss": _drawn_hinge(example.multi_margin),
    "mse_loss": _drawn_mse,
    "l1_loss": _drawn_l1,
    "huber_loss": _drawn_huber,
    "smooth_l1_loss": _drawn_smooth_l1,
    **{name: _drawn_overlap(make) for name, make in boxes.LOSSES.items()},
    "binary_cross_entropy": _drawn_binary,
    "focal_loss": _drawn_focal,
    "dice_loss": _drawn_dice,
    "contrastive_loss": _drawn_contrastive,
    "cosine_embedding_loss": _drawn_cosine,
    "triplet_loss": _drawn_triplet,
    "batch_hard_triplet_loss": _drawn_mined(semi_hard=False),
    "semi_hard_triplet_loss": _drawn_mined(semi_hard=True),
    "arcface_loss": _drawn_angular_margin(in_angle=True),
    "cosface_loss": _drawn_angular_margin(in_angle=False),
    "histogram_loss": _drawn_histogram,
    "lda_loss": _drawn_lda,
}
