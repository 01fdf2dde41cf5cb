"""Sets of classes that hold the true one as often as is asked for: split conformal prediction."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .calibration import check_probabilities


class ConformalSets(NamedTuple):
    """Which classes are in the set of an image: all that are at least so probable."""

    coverage: float  # the share of images whose set is to hold their class
    threshold: float  # the least probability of a class in a set


class SetMetrics(NamedTuple):
    """What the sets of a split are like."""

    count: int  # type: ignore[override] -- tuple has a method of that name
    coverage: float  # the share of images whose set holds their class
    size: float  # how many classes a set has, in the mean
    empty: float  # the share of images of which no class is probable enough


def fit_sets(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> ConformalSets:
    r"""Find the threshold of which sets hold the true class of an image with a given probability.

    .. math:: C(x) = \{ k : p_k(x) \ge t \}, \qquad
        1 - t = s_{(\lceil (n + 1) c \rceil)}, \qquad s_i = 1 - p_{y_i}(x_i)

    the scores in ascending order; all classes where that is beyond the last of n. Whatever the
    network, a set holds the class of an image drawn as those n were with a probability of at least
    c, in the mean over such draws.

    Args:
        probabilities: ``(n, K)`` of images that neither weights nor choices were fitted to.
        labels: ``(n,)``, whole numbers below K.
        coverage: c, more than 0 and less than 1.

    Raises:
        ValueError, TypeError: shapes, types or values that do not belong together.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
        >>> fit_sets(p, np.array([0, 1, 1, 0]), 0.6)  # scores 0.1, 0.6, 0.3, 0.2: the third
        ConformalSets(coverage=0.6, threshold=0.7)

    References:
        Vovk et al., Algorithmic Learning in a Random World, 2005. Sadinle et al., arXiv:1609.00451:
        of all sets with this coverage those by a threshold have the fewest classes.
    """
    probabilities, labels = check_probabilities("fit_sets", probabilities, labels)
    if not 0 < coverage < 1:
        raise ValueError(f"fit_sets: coverage: got {coverage}, need more than 0 and less than 1")
    rank = math.ceil((len(labels) + 1) * Fraction(str(coverage)))  # 0.55 of 100 is 55
    if rank > len(labels):
        return ConformalSets(coverage, 0.0)
    likely = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]  # ascending scores
    return ConformalSets(coverage, float(likely[rank - 1]))


def classes_in_set(probabilities: np.ndarray, sets: ConformalSets) -> np.ndarray:
    """Return which classes are in the set of each image, ``(..., K)`` truth values.

    A set may be empty: no class is plausible, as of an image unlike those of the training.
    """
    return np.asarray(probabilities) >= sets.threshold


def measure_sets(probabilities: np.ndarray, labels: np.ndarray, sets: ConformalSets) -> SetMetrics:
    """Return how often sets hold the true class, and how large they are, of ``(N, K)``, N > 0."""
    probabilities, labels = check_probabilities("measure_sets", probabilities, labels)
    inside = classes_in_set(probabilities, sets)
    sizes = inside.sum(axis=-1)
    holds = inside[np.arange(len(labels)), labels]
    return SetMetrics(
        len(labels), float(holds.mean()), float(sizes.mean()), float((sizes == 0).mean())
    )
