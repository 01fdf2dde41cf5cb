"""Whether a probability of 0.8 is right eight times in ten, and one number that mends it."""

from typing import NamedTuple

import numpy as np

SHARPEST, FLATTEST = 0.01, 100.0  # temperatures; beyond, the answers are hits or even chances
_SMALLEST = float(np.finfo(np.float32).tiny)  # of a probability that is to have a logarithm


class Reliability(NamedTuple):
    """What was said and what was so, by how sure the network was."""

    counts: np.ndarray  # (bins,) int64: the examples whose confidence lies in a bin
    confidence: np.ndarray  # (bins,) float64: their mean confidence; nan where there are none
    accuracy: np.ndarray  # (bins,) float64: the share of right answers; nan where there are none


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """The examples sorted into `bins` equally wide intervals of confidence.

    The confidence is the probability of the most probable class; the i-th interval is
    ``(i / bins, (i + 1) / bins]``.

    Args:
        probabilities: ``(N, K)``.
        labels: ``(N,)``, whole numbers below K.
        bins: how many intervals.

    Raises:
        ValueError, TypeError: shapes, types or values that do not belong together.

    References:
        Guo et al., arXiv:1706.04599, section 2.
    """
    probabilities, labels = check_probabilities("reliability", probabilities, labels)
    if bins < 1:
        raise ValueError(f"reliability: bins: got {bins}, need 1 or more")
    sure = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    there = np.where(counts, counts, np.nan)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (sure, right))
    confidence, accuracy = (total / there for total in sums)
    return Reliability(counts, confidence, accuracy)


def expected_calibration_error(found: Reliability) -> float:
    r"""Compute how far confidence and accuracy lie apart, in the mean over the examples.

    .. math:: \sum_b \frac{n_b}{N} \left| \mathrm{accuracy}_b - \mathrm{confidence}_b \right|

    Returns:
        A number in [0, 1]; 0 without examples.

    References:
        Naeini et al., AAAI 2015; Guo et al., arXiv:1706.04599, equation 3.
    """
    apart = np.nan_to_num(np.abs(found.accuracy - found.confidence))
    return float((found.counts * apart).sum() / max(int(found.counts.sum()), 1))


def negative_log_likelihood(
    probabilities: np.ndarray, labels: np.ndarray, *, temperature: float = 1.0
) -> float:
    r"""The mean of :math:`-\log p_y`, after a change of temperature.

    Args:
        probabilities: ``(N, K)``; below float32's least normal number they count as that.
        labels: ``(N,)``.
        temperature: see `with_temperature`.
    """
    probabilities, labels = check_probabilities("negative_log_likelihood", probabilities, labels)
    return float(-_likelihoods(_logarithms(probabilities), labels, 1 / temperature)[0])


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    r"""Probabilities made flatter (a temperature above 1) or sharper (below 1).

    .. math:: q_k = p_k^{1/T} / \sum_j p_j^{1/T}

    which is the softmax of logits divided by T where p is their softmax. The order of the classes
    stays.

    Args:
        probabilities: ``(..., K)``.
        temperature: T, more than 0.
    """
    if not temperature > 0:
        raise ValueError(f"with_temperature: temperature: got {temperature}, need more than 0")
    scaled = _logarithms(np.asarray(probabilities)) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least negative log-likelihood.

    Newton's method on 1/T, of which the likelihood's logarithm is concave: its derivative is what
    the label's logit has over the expected one, its second the logits' negative variance. A step
    that leaves the interval known to hold the solution is replaced by its middle.

    Args:
        probabilities: ``(N, K)`` of a network for images it was not trained on, N at least 1.
        labels: ``(N,)``.

    Returns:
        T in [0.01, 100]; an end of it where the likelihood rises up to there, as it does where
        every answer is right, or where they are worse than chance.

    References:
        Guo et al., arXiv:1706.04599, section 4.2.
    """
    probabilities, labels = check_probabilities("fit_temperature", probabilities, labels)
    if not len(labels):
        raise ValueError("fit_temperature: got no examples, need 1 or more")
    logits = _logarithms(probabilities)
    low, high = 1 / FLATTEST, 1 / SHARPEST
    if _likelihoods(logits, labels, low)[1] <= 0:
        return FLATTEST
    if _likelihoods(logits, labels, high)[1] >= 0:
        return SHARPEST
    beta = 1.0
    while high - low > 1e-12 * high:
        _, slope, curvature = _likelihoods(logits, labels, beta)
        low, high = (beta, high) if slope > 0 else (low, beta)
        step = beta - slope / curvature if curvature < 0 else high
        following = step if low < step < high else (low + high) / 2
        if abs(following - beta) <= 1e-12 * beta:
            break
        beta = following
    return float(1 / beta)


def _likelihoods(logits: np.ndarray, labels: np.ndarray, beta: float) -> tuple[float, float, float]:
    """The mean log-likelihood of logits times `beta`, and its two derivatives by `beta`."""
    scaled = beta * logits
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    total = np.exp(scaled).sum(axis=-1)
    p = np.exp(scaled) / total[:, None]
    rows = np.arange(len(labels))
    value = scaled[rows, labels] - np.log(total)
    expected = (p * logits).sum(axis=-1)
    variance = (p * (logits - expected[:, None]) ** 2).sum(axis=-1)
    slope = logits[rows, labels] - expected
    return float(value.mean()), float(slope.mean()), -float(variance.mean())


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))


def check_probabilities(
    function: str, probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(N, K)`` probabilities in float64 and ``(N,)`` labels, or raise an error of both."""
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"{function}: shapes do not fit: got probabilities {probabilities.shape} and labels "
            f"{labels.shape}, need (N, K) and (N,)"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{function}: labels: got {labels.dtype}, need whole numbers")
    K = probabilities.shape[-1]
    if labels.size and not (labels.min() >= 0 and labels.max() < K):
        raise ValueError(
            f"{function}: labels: got {labels.min()} to {labels.max()}, need 0 to {K - 1}"
        )
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-4):
        raise ValueError(
            f"{function}: probabilities must lie in [0, 1]: got {probabilities.min():.3g} to "
            f"{probabilities.max():.3g}; take the softmax of logits first"
        )
    return probabilities, labels
