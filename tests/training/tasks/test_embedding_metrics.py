"""Retrieval and verification against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from convax.training.tasks.embedding.metrics import (
    neighbors,
    principal_plane,
    recalls,
    verification,
)


def examples_of(rng, count):
    labels = rng.integers(0, 4, count)
    return (rng.normal(size=(count, 5)) + labels[:, None]).astype(np.float32), labels


@pytest.mark.parametrize("count", [60, 600])  # within one block of scikit-learn's, and in several
def test_recalls_are_those_of_a_loop(rng, count):
    x, labels = examples_of(rng, count)
    hits = {1: 0, 5: 0}
    for i in range(count):
        distances = np.linalg.norm(x[i].astype(float) - x, axis=1)
        distances[i] = np.inf
        order = np.argsort(distances)
        for k in hits:
            hits[k] += labels[i] in labels[order[:k]]
    assert recalls(x, labels, (1, 5)) == [hits[1] / count, hits[5] / count]
    near = neighbors(x, 3)
    assert near.shape == (count, 3) and (near != np.arange(count)[:, None]).all()


def test_recalls_leave_out_examples_alone_in_their_class():
    x = np.array([[0.0], [1.0], [2.5]])
    assert recalls(x, np.array([0, 0, 1]), (1, 5)) == [1.0, 1.0]  # the third cannot be asked for
    assert recalls(x, np.array([0, 1, 2]), (1, 5)) == [0.0, 0.0]


def test_verification_agrees_with_the_roc_curve_of_all_pairs(rng):
    x, labels = examples_of(rng, 60)
    first, second = np.triu_indices(60, 1)
    distances = np.linalg.norm(x[first].astype(float) - x[second], axis=1)
    same = labels[first] == labels[second]
    found = verification(x, labels)
    closer = distances[same][:, None] < distances[~same]
    np.testing.assert_allclose(found.auc, closer.mean(), rtol=1e-9)  # no two are the same
    np.testing.assert_allclose(found.auc, roc_auc_score(same, -distances), rtol=1e-9)
    steps = np.cumsum([same[i] for i in np.argsort(distances)])
    np.testing.assert_allclose(found.true_positives, [0, *steps / same.sum()])
    false, true, _ = roc_curve(same, -distances, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positives, false)
    np.testing.assert_allclose(found.true_positives, true)
    below = distances <= found.threshold + 1e-9
    assert found.accuracy == pytest.approx((below[same].mean() + (~below[~same]).mean()) / 2)
    assert found.accuracy == pytest.approx((1 + (true - false).max()) / 2)
    at = np.argmin(np.abs(1 - true - false))
    assert found.eer == pytest.approx((1 - true + false)[at] / 2)


def test_verification_of_equal_distances_is_half_right():
    found = verification(np.zeros((6, 2)), np.array([0, 0, 0, 1, 1, 1]))
    assert found.auc == 0.5 and found.eer == 0.5 and found.accuracy == 0.5
    assert verification(np.zeros((3, 2)), np.zeros(3, int)).auc == 0.5  # no pair of two classes


def test_principal_plane_holds_the_most_variance(rng):
    x = np.zeros((50, 4))
    x[:, 1], x[:, 3] = rng.normal(size=(2, 50)) * [[3], [1]]
    points, share = principal_plane(x + 7)
    assert points.shape == (50, 2) and share == pytest.approx(1)
    np.testing.assert_allclose(
        np.linalg.norm(points[0] - points[1]), np.linalg.norm(x[0] - x[1]), rtol=1e-9
    )
    values, vectors = np.linalg.eigh(np.cov((x := rng.normal(size=(40, 6))).T))
    points, share = principal_plane(x)
    along = (x - x.mean(axis=0)) @ vectors[:, :-3:-1]
    np.testing.assert_allclose(np.abs(points), np.abs(along), rtol=1e-7, atol=1e-9)
    assert share == pytest.approx(values[-2:].sum() / values.sum())
    assert principal_plane(np.ones((3, 1)))[0].shape == (3, 2)
    points, share = principal_plane(np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(np.abs(points), [[1, 0], [1, 0]])
    assert share == pytest.approx(1)
