"""Retrieval and verification against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from convax.training.tasks.embedding import metrics
from convax.training.tasks.embedding.metrics import (
    neighbours,
    principal_plane,
    recalls,
    verification,
)


@pytest.fixture
def examples(rng):
    labels = rng.integers(0, 4, 60)
    return (rng.normal(size=(60, 5)) + labels[:, None]).astype(np.float32), labels


@pytest.mark.parametrize("chunk", [7, 1000])
def test_recall_by_a_loop(examples, monkeypatch, chunk):
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    x, labels = examples
    hits = {1: 0, 5: 0}
    for i in range(60):
        distances = [np.linalg.norm(x[i] - x[j]) if j != i else np.inf for j in range(60)]
        order = np.argsort(distances)
        for k in hits:
            hits[k] += labels[i] in labels[order[:k]]
    assert recalls(x, labels, (1, 5)) == [hits[1] / 60, hits[5] / 60]
    near = neighbours(x, 3)
    assert near.shape == (60, 3) and (near != np.arange(60)[:, None]).all()


def test_recall_of_few_examples():
    x = np.array([[0.0], [1.0], [2.0]])
    assert recalls(x, np.array([0, 0, 1]), (1, 5)) == [1.0, 1.0]  # the third cannot be asked for
    assert recalls(x, np.array([0, 1, 2]), (1, 5)) == [0.0, 0.0]


def test_verification_is_scikit_learns(examples):
    x, labels = examples
    first, second = np.triu_indices(60, 1)
    distances = np.linalg.norm(x[first].astype(float) - x[second], axis=1)
    same = labels[first] == labels[second]
    found = verification(x, labels)
    np.testing.assert_allclose(found.auc, roc_auc_score(same, -distances), rtol=1e-9)
    false, true, _ = roc_curve(same, -distances, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positives, false)
    np.testing.assert_allclose(found.true_positives, true)
    below = distances <= found.threshold + 1e-9
    assert found.accuracy == pytest.approx((below[same].mean() + (~below[~same]).mean()) / 2)
    assert found.accuracy == pytest.approx((1 + (true - false).max()) / 2)
    at = np.argmin(np.abs(1 - true - false))
    assert found.eer == pytest.approx((1 - true + false)[at] / 2)


def test_equal_distances_are_half_right():
    found = verification(np.zeros((6, 2)), np.array([0, 0, 0, 1, 1, 1]))
    assert found.auc == 0.5 and found.eer == 0.5 and found.accuracy == 0.5
    assert verification(np.zeros((3, 2)), np.zeros(3, int)).auc == 0.5  # no pair of two classes


def test_the_plane_of_most_variance(rng):
    x = np.zeros((50, 4))
    x[:, 1], x[:, 3] = rng.normal(size=(2, 50)) * [[3], [1]]
    points, share = principal_plane(x + 7)
    assert points.shape == (50, 2) and share == pytest.approx(1)
    np.testing.assert_allclose(
        np.linalg.norm(points[0] - points[1]), np.linalg.norm(x[0] - x[1]), rtol=1e-9
    )
    assert principal_plane(np.ones((3, 1)))[0].shape == (3, 2)
