"""The linear classifiers and box regressors of R-CNN, from features alone."""

import numpy as np
import pytest

from convax.model.detection.linear import SVMOptions
from convax.training.tasks.detection.objects import TrueObjects
from convax.training.tasks.detection.svm import (
    NEVER,
    NORM,
    Near,
    Regions,
    fit_refinement,
    fit_svm,
    fit_svms,
    label_regions,
)

CLASSES = ("cat", "dog", "owl")
NONE = Near(np.zeros((0, 2)), np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0, int))


def regions(features, true_features, true_classes, negative=None):
    """Regions of an image, by default all of them negatives of all classes."""
    if negative is None:
        negative = np.ones((len(features), len(CLASSES)), bool)
    features, true_features = (np.asarray(x, np.float32) for x in (features, true_features))
    return Regions(features, negative, true_features, np.asarray(true_classes, int), NONE)


def separable(rng, images=12, R=40, F=6):
    """Images whose cats lie along the first feature and dogs along the second; no owls."""

    def draw(image):
        classes = np.arange(2) if image % 3 else np.arange(1)
        objects = 8 * np.eye(F)[classes] + 0.3 * rng.normal(size=(len(classes), F))
        return regions(rng.normal(size=(R, F)), objects, classes)

    return [draw(image) for image in range(images)]


class Streamed:
    """Images that are made anew each time, and counted."""

    def __init__(self, images):
        self.images, self.passes = images, 0

    def __iter__(self):
        self.passes += 1
        return (image._replace(features=image.features.copy()) for image in self.images)


def test_an_svm_whose_examples_are_all_within_the_margin_is_their_sum():
    fit = fit_svm(np.array([[3.0], [-1.0]]), np.array([True, False]), C=0.001, seed=0)
    # Each multiplier is at its bound, C for the negative and twice that for the positive:
    np.testing.assert_allclose(fit.weights, [2 * 0.001 * 3 + 0.001 * 1], rtol=1e-6)
    np.testing.assert_allclose(fit.offset, 10**2 * (2 * 0.001 - 0.001), rtol=1e-6)


def test_an_svm_of_a_large_c_has_its_examples_on_the_margin():
    fit = fit_svm(np.array([[3.0, 1], [-1, 1]]), np.array([True, False]), C=10.0, seed=0)
    # 3 w + v + b = 1 and -w + v + b = -1, at the least norm
    np.testing.assert_allclose(fit.weights[0], 0.5, atol=0.005)
    np.testing.assert_allclose(fit.weights[1] + fit.offset, -0.5, atol=0.005)
    np.testing.assert_allclose(fit.offset, 100 * fit.weights[1], rtol=1e-3)


def test_an_svm_has_the_least_objective(rng):
    X, y = rng.normal(size=(60, 4)), np.arange(60) < 20
    X[y] += 1
    fit = fit_svm(X, y, C=0.1, seed=0)

    def objective(w, b):
        hinge = np.maximum(0, 1 - np.where(y, 1, -1) * (X @ w + b))
        return (w @ w + (b / 10) ** 2) / 2 + 0.1 * (2 * hinge[y].sum() + hinge[~y].sum())

    least = objective(fit.weights, fit.offset)
    for step in (1e-1, 1e-2):
        for direction in rng.normal(size=(100, 5)):
            moved = fit.weights + step * direction[:4], fit.offset + step * direction[4]
            assert objective(*moved) > least - 1e-6


def test_svms_tell_classes_from_the_background_and_from_each_other(rng):
    images, notes = separable(rng), []
    fitted = fit_svms(images, CLASSES, SVMOptions(C=1.0), seed=0, note=notes.append)
    everything = np.concatenate([x for i in images for x in (i.features, i.true_features)])
    norms = np.linalg.norm(fitted.scale * everything, axis=1)
    np.testing.assert_allclose(norms.mean(), NORM, rtol=1e-5)
    for image in images:
        scores = fitted(image.true_features)
        np.testing.assert_array_equal(scores[:, :2] > 0, np.eye(2)[image.true_classes] > 0)
        assert (fitted(image.features) < 0).all()
    assert (fitted(everything)[:, 2] == NEVER).all(), "of owls there is no example"
    assert notes[0] == "SVMs: 2 fitted, to 120 negatives"  # 5 of each of 12 images, for each
    assert {array.dtype for array in fitted} == {np.dtype(np.float32)}


def test_the_same_seed_gives_the_same_bytes_from_memory_and_streamed(rng):
    images = separable(rng)
    streamed = Streamed(images)
    fits = [
        fit_svms(source, CLASSES, SVMOptions(), seed=seed, note=lambda line: None)
        for source, seed in ((images, 1), (streamed, 1), (images, 2))
    ]
    contents = [b"".join(array.tobytes() for array in fit) for fit in fits]
    assert contents[0] == contents[1] != contents[2]
    assert 2 <= streamed.passes <= 4


def hard(**options):
    """Fit cats at 10 in an image of 400 regions near 0 and one at 8; return what was said, too.

    The other feature is 20 everywhere, and so is the mean norm: the scale is 1.
    """
    rng = np.random.default_rng(0)
    features = np.stack([rng.normal(size=400), np.full(400, 20.0)], axis=1)
    features[123, 0] = 8
    notes, images = [], [regions(features, [[10, 20.0]] * 3, [0] * 3)]
    fitted = fit_svms(images, CLASSES, SVMOptions(C=100.0, **options), seed=0, note=notes.append)
    return fitted, images[0].features, notes


def test_a_hard_negative_is_found_and_learned_from():
    fitted, features, notes = hard()
    counts = [int(note.split()[-2].replace(",", "")) for note in notes]
    assert counts[0] == 5 and counts[1] > 5 and counts == sorted(counts)
    scores = fitted(features)[:, 0]
    assert scores[123] == pytest.approx(-1, abs=0.05) and scores.argmax() == 123
    assert fitted(np.array([[10, 20]], np.float32))[0, 0] == pytest.approx(1, abs=0.05)


def test_negatives_of_an_image_are_at_most_so_many_and_the_hardest():
    fitted, features, notes = hard(negatives=6)
    assert [note.split()[-2] for note in notes] == ["5", "6"]
    assert fitted(features)[123, 0] < -0.9


def test_without_a_negative_every_region_is_of_the_class():
    image = regions(np.ones((2, 2)), [[1.0, 1]], [1], np.zeros((2, 3), bool))
    fitted = fit_svms([image], CLASSES, SVMOptions(), seed=0, note=lambda line: None)
    assert fitted(image.features).tolist() == [[NEVER, 1, NEVER]] * 2


def test_regions_are_labeled_by_their_overlap_with_each_class():
    truth = TrueObjects(
        boxes=np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]),
        classes=np.array([0, 2, 1]),
        ignored=np.array([False, False, True]),
        areas=np.full(3, 100.0),
        masks=(),
        size=(0, 0),
    )
    # IoU 1 with the cat; 0.6 and 0.3 with the owl; 0.29 with it; in the ignored dog; none at all
    boxes = np.array(
        [
            [0, 0, 10, 10],
            [20, 0, 30, 6],
            [20, 0, 30, 3],
            [20, 0, 30, 2.9],
            [42, 0, 50, 4],
            [60, 0, 70, 10],
        ],
        np.float32,
    )
    negative, objects = label_regions(boxes, truth, 3, SVMOptions())
    assert negative.tolist() == [
        [False, True, True],
        [True, True, False],
        [True, True, False],
        [True, True, True],
        [False, False, False],
        [True, True, True],
    ]
    assert objects.tolist() == [0, 1, -1, -1, -1, -1]
    nothing = TrueObjects(*(x[:0] for x in truth[:4]), (), (0, 0))
    negative, objects = label_regions(boxes, nothing, 3, SVMOptions())
    assert negative.all() and (objects == -1).all()


def test_boxes_are_refined_by_a_ridge_regression_of_each_class(rng):
    X, labels = rng.normal(size=(30, 8)).astype(np.float32), np.arange(30) % 2
    targets = rng.normal(size=(30, 4))
    fitted = fit_refinement(X, labels, targets, 3, ridge=10.0)
    scaled = 20 / np.linalg.norm(X, axis=1).mean() * X
    offsets = fitted(X).reshape(30, 3, 4)
    for k in (0, 1):
        own = scaled[labels == k].astype(float)
        T, mean = targets[labels == k], own.mean(axis=0)
        A = own - mean
        W = np.linalg.solve(A.T @ A + 10 * np.eye(8), A.T @ (T - T.mean(axis=0)))
        expected = (scaled - mean) @ W + T.mean(axis=0)
        np.testing.assert_allclose(offsets[:, k], expected, rtol=1e-4, atol=1e-4)
    assert not offsets[:, 2].any(), "of owls there is no region"


def test_boxes_without_a_region_near_an_object_stay():
    fitted = fit_refinement(np.zeros((0, 5)), np.zeros(0, int), np.zeros((0, 4)), 2, ridge=1.0)
    assert fitted.kernel.shape == (5, 8) and fitted.scale == 1
    assert not fitted(np.ones((3, 5), np.float32)).any()


@pytest.mark.parametrize(
    ("key", "value"), [("C", 0.0), ("rounds", 0), ("negatives", -1), ("bg_iou_thresh", 1.1)]
)
def test_numbers_that_do_not_fit_are_named(key, value):
    with pytest.raises(ValueError, match=f"svm: bad {key}: got {value}, need "):
        SVMOptions(**{key: value})
