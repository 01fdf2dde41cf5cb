"""Reliability, the calibration error and the temperature, against loops and by hand."""

import numpy as np
import pytest

from convax.training.tasks.classification.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    with_temperature,
)


def draw(seed, count=400, classes=4, sharpness=2.0):
    """Labels drawn from the softmax of random logits, and the logits."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(count, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=p) for p in shares])
    return logits, labels


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_reliability_against_a_loop(bins):
    logits, labels = draw(0)
    p = softmax(logits)
    found = reliability(p, labels, bins)
    assert found.counts.sum() == len(labels)
    error = 0.0
    for i in range(bins):
        inside = [n for n in range(len(p)) if i / bins < p[n].max() <= (i + 1) / bins]
        assert found.counts[i] == len(inside)
        if not inside:
            assert np.isnan(found.confidence[i]) and np.isnan(found.accuracy[i])
            continue
        confidence = np.mean([p[n].max() for n in inside])
        accuracy = np.mean([p[n].argmax() == labels[n] for n in inside])
        np.testing.assert_allclose(found.confidence[i], confidence, rtol=1e-12)
        np.testing.assert_allclose(found.accuracy[i], accuracy, rtol=1e-12)
        error += len(inside) / len(p) * abs(accuracy - confidence)
    np.testing.assert_allclose(expected_calibration_error(found), error, rtol=1e-12)


def test_reliability_by_hand():
    p = np.array([[0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.0, 1.0]])
    found = reliability(p, np.array([0, 0, 0, 1]), bins=2)
    # All are surer than a half: (0.6 + 0.6 + 0.9 + 1) / 4 = 0.775 sure, 3 of 4 right.
    assert found.counts.tolist() == [0, 4]
    np.testing.assert_allclose(found.confidence[1], 0.775)
    np.testing.assert_allclose(found.accuracy[1], 0.75)
    np.testing.assert_allclose(expected_calibration_error(found), 0.025)
    # An edge belongs to the bin below it.
    assert reliability(np.array([[0.5, 0.5]]), np.array([0]), bins=2).counts.tolist() == [1, 0]
    nobody = reliability(np.zeros((0, 3)), np.zeros(0, int))
    assert expected_calibration_error(nobody) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature):
    logits, labels = draw(1, count=20_000)
    sharpened = softmax(logits * temperature)
    found = fit_temperature(sharpened, labels)
    np.testing.assert_allclose(found, temperature, rtol=0.05)
    mended = with_temperature(sharpened, found)
    before, after = (
        expected_calibration_error(reliability(p, labels)) for p in (sharpened, mended)
    )
    assert after < 0.015
    if temperature != 1:
        assert before > 0.1


@pytest.mark.parametrize("seed", range(5))
def test_no_temperature_is_better(seed):
    logits, labels = draw(seed, count=60)
    p = softmax(3 * logits)
    found = fit_temperature(p, labels)
    least = negative_log_likelihood(p, labels, temperature=found)
    for other in (*np.geomspace(0.02, 50, 200), found * 1.001, found / 1.001):
        assert least <= negative_log_likelihood(p, labels, temperature=other)


def test_the_likelihood_and_the_temperature_by_hand():
    p = np.array([[0.8, 0.2], [0.5, 0.5]])
    expected = -(np.log(0.8) + np.log(0.5)) / 2
    np.testing.assert_allclose(negative_log_likelihood(p, np.array([0, 1])), expected)
    # Squares of 0.8 and 0.2 are 0.64 and 0.04: divided by their sum, 16/17 and 1/17.
    np.testing.assert_allclose(with_temperature(p, 0.5), [[16 / 17, 1 / 17], [0.5, 0.5]])
    logits = np.random.default_rng(2).normal(size=(5, 3))
    np.testing.assert_allclose(with_temperature(softmax(logits), 1.7), softmax(logits / 1.7))


def test_where_the_likelihood_has_no_greatest_value():
    right = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(right, np.array([0, 1])) == 0.01
    assert fit_temperature(right, np.array([1, 0])) == 100
    assert fit_temperature(np.full((3, 2), 0.5), np.array([0, 1, 0])) == 100


def test_a_probability_of_zero_is_no_accident():
    p = np.array([[1.0, 0.0], [1.0, 0.0], [0.7, 0.3]], np.float32)
    labels = np.array([0, 1, 0])
    found = fit_temperature(p, labels)
    assert np.isfinite(negative_log_likelihood(p, labels)) and 1 < found <= 100
    assert np.isfinite(with_temperature(p, found)).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: reliability(np.zeros((3, 2)), np.zeros(4, int)),
            ValueError,
            r"reliability: shapes do not fit: got probabilities \(3, 2\) and labels \(4,\), need",
        ),
        (
            lambda: fit_temperature(np.ones((2, 1)), np.zeros(2)),
            TypeError,
            "fit_temperature: labels: got float64, need whole numbers",
        ),
        (
            lambda: negative_log_likelihood(np.ones((2, 2)), np.array([0, 2])),
            ValueError,
            "negative_log_likelihood: labels: got 0 to 2, need 0 to 1",
        ),
        (
            lambda: reliability(np.array([[3.0, -1.0]]), np.array([0])),
            ValueError,
            r"must lie in \[0, 1\]: got -1 to 3; take the softmax of logits first",
        ),
        (
            lambda: reliability(np.ones((1, 1)), np.array([0]), bins=0),
            ValueError,
            "reliability: bins: got 0, need 1 or more",
        ),
        (
            lambda: with_temperature(np.ones((1, 1)), 0.0),
            ValueError,
            "with_temperature: temperature: got 0.0, need more than 0",
        ),
        (
            lambda: fit_temperature(np.ones((0, 2)), np.zeros(0, int)),
            ValueError,
            "fit_temperature: got no examples, need 1 or more",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
