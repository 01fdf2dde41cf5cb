"""Sets of classes by split conformal prediction: by hand, and what they promise."""

import re

import numpy as np
import pytest

from convax.training.tasks.classification.conformal import (
    ConformalSets,
    classes_in_set,
    fit_sets,
    measure_sets,
)

P = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
LABELS = np.array([0, 1, 1, 0])  # whose probabilities are 0.9, 0.4, 0.7 and 0.8


@pytest.mark.parametrize(
    ("coverage", "threshold"),
    [(0.2, 0.9), (0.21, 0.8), (0.6, 0.7), (0.61, 0.4), (0.8, 0.4), (0.81, 0.0)],
)
def test_the_threshold_by_hand(coverage, threshold):
    """The ceil(5 c)-th of four in descending order; beyond the last, all classes."""
    assert fit_sets(P, LABELS, coverage) == ConformalSets(coverage, threshold)


def test_sets_and_what_they_are_like_by_hand():
    sets = ConformalSets(0.6, 0.7)
    inside = classes_in_set(P, sets)
    assert inside.tolist() == [[True, False], [False, False], [False, True], [True, False]]
    assert measure_sets(P, LABELS, sets) == (4, 0.75, 0.75, 0.25)
    assert classes_in_set(P[0], sets).tolist() == [True, False]


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_promise_is_kept_in_the_mean_over_draws(coverage):
    """Between c and c + 1 / (n + 1), whatever the network: this one is far too sure."""
    rng, n, found = np.random.default_rng(0), 19, []
    for _ in range(2000):
        logits = rng.normal(size=(n + 1, 3))
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        labels = (rng.random((n + 1, 1)) > shares.cumsum(-1)).sum(-1).clip(max=2)
        said = shares**3 / (shares**3).sum(-1, keepdims=True)
        sets = fit_sets(said[:n], labels[:n], coverage)
        found.append(classes_in_set(said[n], sets)[labels[n]])
    deviation = np.sqrt(coverage * (1 - coverage) / len(found))
    low, high = coverage, coverage + 1 / (n + 1)
    assert low - 3 * deviation < np.mean(found) < high + 3 * deviation


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 90, float("nan")])
def test_a_coverage_that_is_none(coverage):
    message = f"fit_sets: coverage: got {coverage}, need more than 0 and less than 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_sets(P, LABELS, coverage)
