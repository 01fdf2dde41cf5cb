"""Matching and sampling: by hand, against loops and torchvision, uniformity, messages."""

from functools import partial

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax import ops
from tests.golden.detection import golden
from tests.reference import detection as reference

OBJECTS = jnp.array([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
# IoU 0.8, 0.5 and 0.2 with the first object, 0.4 with the second, nothing
BOXES = jnp.array(
    [
        [0.0, 0.0, 10.0, 8.0],
        [0.0, 0.0, 10.0, 5.0],
        [0.0, 0.0, 10.0, 2.0],
        [20.0, 20.0, 30.0, 24.0],
        [50.0, 50.0, 60.0, 60.0],
    ]
)
match = partial(ops.match_boxes, high_threshold=0.7, low_threshold=0.3)


def test_match_boxes_equals_hand_arithmetic():
    indices, labels = match(OBJECTS, BOXES)
    np.testing.assert_array_equal(indices, [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(labels, [1, -1, 0, -1, 0])
    assert indices.dtype == labels.dtype == jnp.int32


@pytest.mark.parametrize(("least", "label"), [(0.0, 1), (0.4, 1), (0.45, -1), (None, -1)])
def test_the_best_box_of_an_object_is_positive_from_a_floor_on(least, label):
    labels = match(OBJECTS, BOXES, min_positive_iou=least).labels
    np.testing.assert_array_equal(labels, [1, -1, 0, label, 0])


def test_an_object_that_meets_no_box_makes_none_positive():
    """torchvision makes every box positive: their IoUs with the object tie at 0."""
    far = jnp.array([[900.0, 900.0, 910.0, 910.0]])
    labels = match(far, BOXES, min_positive_iou=0.0).labels
    np.testing.assert_array_equal(labels, 0)


def test_best_boxes_tie_whatever_rounding_makes_of_them(rng):
    """Boxes of one size inside an object have one IoU, but for rounding."""
    objects = jnp.array([[0.0, 0.0, 77.0, 77.0]])
    corner = rng.uniform(1, 60, (50, 2)).astype(np.float32)
    boxes = jnp.asarray(np.concatenate([corner, corner + np.float32(0.1) + 11], 1))
    assert len(set(np.asarray(ops.box_iou(objects, boxes)[0]).tolist())) > 1
    np.testing.assert_array_equal(match(objects, boxes, min_positive_iou=0.0).labels, 1)


def test_a_rescued_box_keeps_its_own_best_object():
    objects = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 2.0, 2.0]])
    boxes = jnp.array([[0.0, 0.0, 10.0, 9.0]])  # the best there is for the second, but the first's
    indices, labels = match(objects, boxes, min_positive_iou=0.0)
    assert (indices[0], labels[0]) == (0, 1)


def test_no_valid_object_is_all_background():
    indices, labels = match(OBJECTS, BOXES, valid=jnp.zeros(2, bool), min_positive_iou=0.0)
    np.testing.assert_array_equal(indices, 0)
    np.testing.assert_array_equal(labels, 0)


def test_boxes_inside_an_ignored_object_are_neither():
    crowd = jnp.array([[0.0, 0.0, 10.0, 10.0], [45.0, 45.0, 90.0, 60.0]])
    ignored = jnp.array([False, True])
    of = partial(match, crowd, BOXES, ignored=ignored)
    np.testing.assert_array_equal(of().labels, [1, -1, 0, 0, -1])
    np.testing.assert_array_equal(of(valid=~ignored).labels, [1, -1, 0, 0, 0])  # padding, then
    half = BOXES + jnp.array([[0.0, 7.0, 0.0, 7.0]])  # 3 of 10 rows are inside
    labels = match(crowd, half, ignored=ignored, ignored_overlap=0.3).labels
    assert labels[-1] == -1
    assert match(crowd, half, ignored=ignored).labels[-1] == 0


SOME = hnp.arrays(np.int8, (4, 2, 2), elements=st.integers(0, 16)).map(
    lambda corners: np.sort(corners, axis=1).reshape(4, 4).astype(np.float32) / 2
)
MASK = hnp.arrays(bool, 4)
RULES = [(0.7, 0.3, None), (0.5, 0.5, 0.0), (0.6, 0.2, 0.25)]
PROGRAMS = [
    jax.jit(
        partial(ops.match_boxes, high_threshold=high, low_threshold=low, min_positive_iou=least)
    )
    for high, low, least in RULES
]


@given(SOME, SOME, MASK, MASK, st.integers(0, len(RULES) - 1))
@settings(max_examples=80)
def test_matches_of_drawn_boxes_equal_loops(objects, boxes, valid, ignored, rule):
    # Whole and half pixels: areas are exact; thresholds that no quotient of them is, but 1 / 2.
    indices, labels = map(np.asarray, PROGRAMS[rule](objects, boxes, valid=valid, ignored=ignored))
    wide = objects.astype(float), boxes.astype(float)
    expected = reference.match(*wide, valid, ignored, *RULES[rule], 0.7)
    best = [max((reference.iou(wide[0][m], b)[0] for m in range(4)), default=0) for b in wide[1]]
    exact = [all(abs(q - t) > 1e-6 for t in RULES[rule][:2]) for q in best]
    np.testing.assert_array_equal(labels[exact], expected[1][exact])
    np.testing.assert_array_equal(indices, expected[0])


def test_matches_equal_torchvision():
    with golden() as g:
        for low_quality in (False, True):
            least = 0.0 if low_quality else None
            indices, labels = match(g["truth"], g["candidates"], min_positive_iou=least)
            expected = g[f"matched_{low_quality}"]  # -1 background, -2 between
            wanted = np.where(expected >= 0, 1, np.where(expected == -1, 0, -1))
            np.testing.assert_array_equal(labels, wanted)
            np.testing.assert_array_equal(indices[expected >= 0], expected[expected >= 0])


# ---------------------------------------------------------------------------------- sampling

LABELS = jnp.array([0] * 12 + [1] * 6 + [-1] * 3, jnp.int32)
KEYS = jax.random.split(jax.random.key(0), 6000)


@pytest.mark.parametrize(
    ("labels", "size", "fraction", "positives", "negatives"),
    [
        (LABELS, 8, 0.25, 2, 6),
        (LABELS, 8, 0.0, 0, 8),
        (LABELS, 8, 1.0, 6, 2),
        (LABELS, 64, 0.5, 6, 12),  # fewer boxes than samples
        (jnp.full(21, -1), 8, 0.5, 0, 0),
        (jnp.zeros(3, jnp.int32), 8, 0.5, 0, 3),
        (jnp.ones(21, jnp.int32), 8, 0.5, 4, 0),
        (LABELS, 100, 0.29, 6, 12),
    ],
)
def test_samples_are_as_many_as_hand_arithmetic_says(labels, size, fraction, positives, negatives):
    options = {"num_samples": size, "positive_fraction": fraction, "key": jax.random.key(1)}
    indices, valid, positive = ops.sample_balanced(labels, **options)
    assert indices.shape == valid.shape == positive.shape == (size,)
    assert (positive.sum(), valid.sum()) == (positives, positives + negatives)
    np.testing.assert_array_equal(positive, np.arange(size) < positives)
    np.testing.assert_array_equal(valid, np.arange(size) < positives + negatives)
    drawn = indices[valid]
    assert len(set(drawn.tolist())) == len(drawn)
    np.testing.assert_array_equal(labels[drawn], positive[valid].astype(np.int32))
    np.testing.assert_array_equal(indices[~valid], 0)
    mask = ops.sample_mask(labels, **options)
    np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(drawn))


def test_every_box_is_drawn_equally_often():
    """Chi-square over 6000 keys, of single boxes and of pairs of positives."""
    draw = partial(ops.sample_mask, LABELS, num_samples=8, positive_fraction=0.4)
    masks = np.asarray(jax.jit(jax.vmap(lambda key: draw(key=key)))(KEYS)).astype(int)
    counts, expected = masks.sum(0), np.array([5 / 12] * 12 + [3 / 6] * 6) * len(KEYS)
    assert counts[18:].sum() == 0
    for some, share in ((slice(0, 12), 5 / 12), (slice(12, 18), 3 / 6)):
        variance = expected[some] * (1 - share)
        # Counts of draws without repetition: n - 1 degrees of freedom after this correction.
        n = len(expected[some])
        chi2 = np.sum((counts[some] - expected[some]) ** 2 / variance) * (n - 1) / n
        assert chi2 < {12: 31.3, 6: 20.5}[n]  # a chance of 0.001
    i, j = np.triu_indices(6, 1)
    pairs = (masks[:, 12 + i] & masks[:, 12 + j]).sum(0)
    share = 3 / 6 * 2 / 5
    assert np.all(np.abs(pairs - share * len(KEYS)) < 4 * np.sqrt(len(KEYS) * share * (1 - share)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: match(OBJECTS[0], BOXES), ValueError, "match_boxes: objects are no list of boxes"),
        (lambda: match(OBJECTS[:0], BOXES), ValueError, "match_boxes: no row for an object"),
        (
            lambda: match(OBJECTS, BOXES, valid=jnp.ones(2)),
            TypeError,
            "match_boxes: valid are no truth values: got float32, need bool",
        ),
        (
            lambda: match(OBJECTS, BOXES, ignored=jnp.ones(5, bool)),
            ValueError,
            r"match_boxes: ignored do not match: got shape \(5,\), need \(2,\)",
        ),
        (
            lambda: match(OBJECTS, BOXES, high_threshold=0.0),
            ValueError,
            "match_boxes: bad high_threshold: got 0.0, need 0 < high_threshold <= 1",
        ),
        (
            lambda: match(OBJECTS, BOXES, low_threshold=0.8),
            ValueError,
            "match_boxes: bad low_threshold: got 0.8, need 0 <= low_threshold <= high_threshold",
        ),
        (
            lambda: match(OBJECTS, BOXES, min_positive_iou=-1.0),
            ValueError,
            "match_boxes: bad min_positive_iou: got -1.0",
        ),
        (
            lambda: match(OBJECTS, BOXES, ignored_overlap=0.0),
            ValueError,
            "match_boxes: bad ignored_overlap: got 0.0",
        ),
        (
            lambda: ops.sample_balanced(
                LABELS.astype(float), num_samples=8, positive_fraction=0.5, key=KEYS[0]
            ),
            TypeError,
            "sample_balanced: labels are not integers",
        ),
        (
            lambda: ops.sample_mask(
                LABELS[None], num_samples=8, positive_fraction=0.5, key=KEYS[0]
            ),
            ValueError,
            r"sample_mask: labels are no list: got shape \(1, 21\)",
        ),
        (
            lambda: ops.sample_mask(LABELS, num_samples=0, positive_fraction=0.5, key=KEYS[0]),
            ValueError,
            "sample_mask: bad num_samples: got 0, need an integer >= 1",
        ),
        (
            lambda: ops.sample_balanced(LABELS, num_samples=8, positive_fraction=2.0, key=KEYS[0]),
            ValueError,
            "sample_balanced: bad positive_fraction: got 2.0",
        ),
        (
            lambda: ops.sample_balanced(LABELS, num_samples=8, positive_fraction=0.5, key=None),
            ValueError,
            r"sample_balanced: no random key: got key=None, need .*write key=jax.random.key\(seed\)$",
        ),
    ],
)
def test_errors_name_the_argument_and_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
