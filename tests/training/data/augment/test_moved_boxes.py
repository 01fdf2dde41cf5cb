"""Boxes and masks go the way of their images: a drawn rectangle is where its box is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convax.model.detection.structures import GroundTruth
from convax.training.config.augment import Augment
from convax.training.data import IGNORED
from convax.training.data.augment.affine import affine_map
from convax.training.data.augment.boxes import AffineMap, flipped, follow, objects_of, settle
from convax.training.data.augment.pipeline import augment
from convax.training.data.augment.zoom import zoom, zoom_map
from convax.training.data.preprocess import Preprocessing
from convax.training.tasks.detection.spec import DETECTION

N, H, W, M = 8, 40, 48, 2
SPEC = Preprocessing((H, W), "letterbox", (0.0,), (1.0,))
OPERATIONS = {
    "flip": {"flip": True},
    "alternating": {"flip": "alternating"},
    "translate": {"translate": 12},
    "crop": {"crop": {"scale": [0.3, 1.0], "ratio": [0.6, 1.6]}},
    "zoom": {"zoom": {"scale": [0.5, 2.0]}},
    "moved": {
        "affine": {
            "degrees": 0.0,
            "translate": [0.3, 0.2],
            "scale": [0.7, 1.4],
            "shear": [0.0, 0.0],
        }
    },
    "turned": {
        "affine": {
            "degrees": 40.0,
            "translate": [0.1, 0.1],
            "scale": [0.8, 1.2],
            "shear": [10.0, 5.0],
        }
    },
    "all": {
        "flip": True,
        "translate": 4,
        "zoom": {"scale": [0.7, 1.3]},
        "affine": {
            "degrees": 10.0,
            "translate": [0.1, 0.1],
            "scale": [0.9, 1.1],
            "shear": [0.0, 0.0],
        },
    },
}
RECTANGLES = st.tuples(
    st.integers(0, W - 8), st.integers(0, H - 8), st.integers(6, 20), st.integers(6, 20)
).map(lambda r: (r[0], r[1], min(r[0] + r[2], W), min(r[1] + r[3], H)))


def program(**tables):
    spec = Augment.model_validate(tables)

    @jax.jit
    def run(key, x, truth):
        rest = {"spec": spec, "preprocessing": SPEC, "classes": 3, "examples": N}
        return augment(key, x, truth, images=x, step=jnp.int32(0), **rest)

    return run


PROGRAMS = {name: program(**tables) for name, tables in OPERATIONS.items()}


def drawn(box, *, masks=True):
    """Images of one bright rectangle, and their labels, in whose second row is nothing."""
    x1, y1, x2, y2 = box
    ids = np.zeros((N, H, W), np.uint8)
    ids[:, y1:y2, x1:x2] = 1
    boxes = np.zeros((N, M, 4), np.float32)
    boxes[:, 0] = box
    classes = np.tile(np.array([2, -1], np.int32), (N, 1))
    kept = ids if masks else np.zeros((N, 0, 0), np.uint8)
    truth = GroundTruth(boxes, classes, np.zeros((N, M), bool), kept)
    return ids[..., None].astype(np.float32), jax.tree.map(jnp.asarray, truth)


def bounds(there):
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("name", OPERATIONS)
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), box=RECTANGLES)
def test_a_drawn_rectangle_is_where_its_box_is(name, seed, box):
    x, truth = drawn(box)
    moved, after = jax.tree.map(np.asarray, PROGRAMS[name](jax.random.key(seed), x, truth))
    assert after.boxes.shape == truth.boxes.shape and after.masks.dtype == np.uint8
    assert (after.classes[:, 1] == -1).all() and (after.boxes[:, 1] == 0).all()
    for n in range(N):
        assert set(np.unique(after.masks[n])) <= {0, 1}
        if after.classes[n, 0] < 0:
            assert (after.boxes[n] == 0).all() and (after.masks[n] == 0).all()
            continue
        np.testing.assert_allclose(bounds(moved[n, ..., 0] > 0.5), after.boxes[n, 0], atol=1.01)
        np.testing.assert_allclose(bounds(after.masks[n] == 1), after.boxes[n, 0], atol=1.01)
        assert (after.boxes[n, 0, 2:] <= (W, H)).all() and (after.boxes[n, 0] >= 0).all()


@pytest.mark.parametrize("name", ["crop", "zoom"])
def test_boxes_without_masks_go_the_same_way(name):
    x, truth = drawn((5, 10, 20, 22))
    with_masks = PROGRAMS[name](jax.random.key(3), x, truth)[1]
    without = PROGRAMS[name](jax.random.key(3), x, drawn((5, 10, 20, 22), masks=False)[1])[1]
    np.testing.assert_array_equal(without.boxes, with_masks.boxes)
    np.testing.assert_array_equal(without.classes, with_masks.classes)
    assert without.masks.shape == (N, 0, 0)


def test_a_mosaic_has_the_objects_of_four_images():
    """Of other images too, each where its pixels are; images that it passes over stay."""
    x, truth = drawn((6, 8, 30, 34))
    x = x * np.arange(1, N + 1, dtype=np.float32)[:, None, None, None]
    classes = truth.classes.at[:, 0].set(jnp.arange(N, dtype=jnp.int32) % 3)
    truth = truth._replace(classes=classes)
    run = program(mosaic={"probability": 0.6})
    moved, after = jax.tree.map(np.asarray, run(jax.random.key(0), x, truth))
    assert after.boxes.shape == (N, 4 * M, 4)
    alone = [n for n in range(N) if (moved[n] == x[n]).all()]
    assert 0 < len(alone) < N
    seen = set()
    for n in range(N):
        if n in alone:
            np.testing.assert_array_equal(after.boxes[n, :M], truth.boxes[n])
            np.testing.assert_array_equal(after.masks[n], truth.masks[n])
            assert (after.classes[n, 1:] == -1).all() and (after.boxes[n, M:] == 0).all()
            continue
        for row in np.flatnonzero(after.classes[n] >= 0):
            quarter, own = divmod(row, M)
            source = (n - quarter) % N
            assert own == 0 and after.classes[n, row] == classes[source, 0]
            its = after.masks[n] == row + 1
            np.testing.assert_array_equal(bounds(its), after.boxes[n, row])
            assert (moved[n, ..., 0][its] == source + 1).all()
            seen.add(quarter)
        lost = set(np.unique(after.masks[n])) - {0, *(np.flatnonzero(after.classes[n] >= 0) + 1)}
        assert not lost
    assert seen == {0, 1, 2, 3}


def test_a_turned_box_is_taken_from_its_mask():
    x, truth = drawn((10, 8, 34, 32))
    turned = PROGRAMS["turned"](jax.random.key(1), x, truth)[1]
    loose = PROGRAMS["turned"](jax.random.key(1), x, drawn((10, 8, 34, 32), masks=False)[1])[1]
    inside = np.asarray(loose.boxes[:, 0]) - np.asarray(turned.boxes[:, 0])
    assert (inside[:, :2] <= 1).all() and (inside[:, 2:] >= -1).all()


def test_cutout_and_colors_leave_boxes_and_masks():
    x, truth = drawn((5, 10, 20, 22))
    color = {"brightness": 0.5, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    after = program(cutout={"size": 20}, color=color)(jax.random.key(0), x, truth)[1]
    for one, other in zip(after, truth, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("box", "whole", "stays"),
    [
        ((0, 0, 10, 10), 100.0, True),
        ((0, 0, 3, 9.9), 100.0, False),
        ((0, 0, 3, 10.1), 100.0, True),
        ((0, 0, 1.9, 10), 19.0, False),
        ((0, 0, 2, 2), 4.0, True),
    ],
)
def test_settle_leaves_out_what_hardly_shows_or_is_tiny(box, whole, stays):
    boxes = jnp.array([[box, (5, 5, 20, 20)]], jnp.float32)
    ids = jnp.array([[[1, 2, IGNORED, 0]]], jnp.uint8)
    truth = GroundTruth(boxes, jnp.array([[1, 0]]), jnp.array([[True, False]]), ids)
    objects = objects_of(truth)
    after = settle(objects._replace(whole=objects.whole.at[0, 0].set(whole)))
    assert after.classes.tolist() == [[1 if stays else -1, 0]]
    assert after.ignored.tolist() == [[stays, False]]
    assert after.masks.tolist() == [[[int(stays), 2, 0, 0]]]
    assert (after.boxes[0, 0] == 0).all() != stays


def test_zoom_scales_both_axes_alike_and_fills_with_the_mean():
    x = jnp.ones((64, 20, 30, 1))
    to = zoom_map(jax.random.key(0), (64, 20, 30), (0.5, 2.0))
    s, move = np.asarray(to.matrix[:, 0, 0]), np.asarray(to.move)
    assert s.min() >= 0.5 and s.max() <= 2 and (s < 0.75).any() and (s > 1.5).any()
    np.testing.assert_array_equal(to.matrix[:, 1, 1], s)
    for size, at in ((30, move[:, 0]), (20, move[:, 1])):
        far = at + s * size
        assert (np.minimum(at, size - far) >= np.minimum(0, (1 - s) * size) - 1e-3).all()
    moved, masks = zoom(jax.random.key(0), x, jnp.ones((64, 20, 30), jnp.uint8), scale=(0.5, 2.0))
    shares = np.asarray(moved).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shares, np.minimum(s, 1) ** 2, atol=0.02)
    assert set(np.unique(masks)) == {1, IGNORED}


@pytest.mark.parametrize(
    ("tables", "match"),
    [
        ({"mixup": {"alpha": 0.2}}, "augment.mixup would lay objects"),
        ({"cutmix": {"alpha": 1.0, "probability": 0.5}}, "augment.cutmix would lay objects"),
        (
            {"translate": 4, "padding_mode": "reflect"},
            'augment.padding_mode = "reflect" would show',
        ),
        ({"policy": {"num_ops": 1, "magnitude": 3}}, "augment.policy.operations would move"),
        ({"policy": {"num_ops": 1, "magnitude": 3, "operations": ["contrast"]}}, None),
        ({"translate": 4, "flip": True, "zoom": {"scale": [0.5, 1.0]}}, None),
    ],
)
def test_what_boxes_cannot_follow_is_refused(tables, match):
    why = Augment.model_validate(tables).unfit_for(DETECTION.unfit)
    assert why is None if match is None else (why or "").startswith(match)


@pytest.mark.parametrize("move", ["flip", "zoom", "affine"])
def test_proposals_go_where_boxes_go(move):
    _, truth = drawn((4, 6, 20, 30), masks=False)
    proposals = jnp.concatenate([truth.boxes, jnp.zeros((N, 1, 4))], axis=1)
    key, size = jax.random.key(0), (H, W)
    turned = {"degrees": 40.0, "translate": [0.1, 0.1], "scale": [0.8, 1.2], "shear": [10.0, 5.0]}
    to = {
        "flip": flipped(jnp.arange(N) % 2 == 0, W),
        "zoom": zoom_map(key, (N, H, W), [0.5, 2.0]),
        "affine": affine_map(key, (N, H, W), **turned),
    }[move]
    objects = follow(objects_of(truth._replace(proposals=proposals)), to, None, size)
    moved = settle(objects).proposals
    np.testing.assert_array_equal(moved[:, 0], objects.truth.boxes[:, 0])
    assert bool((moved[:, 0] != proposals[:, 0]).any())
    assert not bool((moved[:, 1:, 2:] > moved[:, 1:, :2]).all(-1).any()), "padding stays padding"


def test_a_proposal_that_was_clipped_to_a_line_does_not_come_back():
    _, truth = drawn((4, 6, 20, 30), masks=False)
    line = jnp.broadcast_to(jnp.array([0.0, 5.0, 0.0, 25.0]), (N, 1, 4))  # beyond the left edge
    matrix = jnp.broadcast_to(jnp.array([[0.8, -0.6], [0.6, 0.8]]), (N, 2, 2))
    to = AffineMap(matrix, jnp.full((N, 2), 20.0), turns=True)
    objects = follow(objects_of(truth._replace(proposals=line)), to, None, (H, W))
    assert not np.asarray(settle(objects).proposals).any()
