r"""Linear classifiers and box regressors, fitted to the features of regions: R-CNN and SPP-Net.

Girshick et al., arXiv:1311.2524, section 2.3 and appendices B and C. Of each class an SVM,

.. math:: \min_{w, b}\ \tfrac12 \Big(\|w\|^2 + \tfrac{b^2}{\beta^2}\Big)
    + C \Big(\rho \sum_{i:\, y_i = 1} h_i + \sum_{i:\, y_i = -1} h_i\Big),
    \qquad h_i = \max(0,\ 1 - y_i (w^\top s x_i + b))

with the true boxes of the class for its positives and regions far from them for its negatives; and
a ridge regression from a region's features to the offsets of its object. Features are scaled by s
to a mean norm of 20, as in the paper's program. Features in, arrays out: no network is known here.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ....model.detection.linear import SVMOptions
from ...common.text import plain_line
from .objects import FoundObjects, TrueObjects, overlaps

NORM = 20.0  # the mean norm of scaled features
FIRST = 5  # negatives of each image that an SVM begins with
HARD = -1.0  # a negative that scores more is within the margin
LEAST_NEW = 0.01  # of the negatives: with fewer new ones there is nothing to fit again
# beta and rho, as in the paper's program: offsets are hardly penalized, and positives count twice.
BIAS_SCALING, POSITIVE_WEIGHT = 10.0, 2.0
TOLERANCE, MOST_ITERATIONS = 1e-4, 20_000
NEVER = -100.0  # the score of a class without an example: a probability of 0
COVERED = 0.7  # a region of which this share lies in an ignored object is no negative


class Near(NamedTuple):
    """The proposals of an image that are near an object.

    Attributes:
        features: ``(n, G)`` float32.
        boxes: ``(n, 4)``.
        objects: ``(n, 4)``, the box of each one's object.
        classes: ``(n,)``, its class.
    """

    features: np.ndarray
    boxes: np.ndarray
    objects: np.ndarray
    classes: np.ndarray


class Regions(NamedTuple):
    """The regions of one image.

    Attributes:
        features: ``(R, F)`` float32, of the proposals.
        negative: ``(R, K)`` bool: of which classes a proposal is an example of what is none.
        true_features: ``(T, F)`` float32, of the true boxes.
        true_classes: ``(T,)`` in 0 .. K-1.
        near: what the refinement of boxes is fitted to.
    """

    features: np.ndarray
    negative: np.ndarray
    true_features: np.ndarray
    true_classes: np.ndarray
    near: Near


class LinearMap(NamedTuple):
    """The map of features ``(..., F)`` to ``scale * features @ kernel + bias``, float32.

    Attributes:
        kernel: ``(F, Q)``.
        bias: ``(Q,)``.
        scale: ``()``, positive.
    """

    kernel: np.ndarray
    bias: np.ndarray
    scale: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return ``(..., Q)``."""
        return self.scale * features @ self.kernel + self.bias


def label_regions(
    boxes: np.ndarray, truth: TrueObjects, classes: int, options: SVMOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Say of which classes a region is a negative, and which object its box is refined to.

    Args:
        boxes: ``(R, 4)``.
        truth: of the same image, in the same pixels.
        classes: K.
        options: the thresholds.

    Returns:
        ``(negative, objects)``: ``(R, K)`` bool, where no object of the class has as large an IoU
        as the threshold and no ignored one contains the region; and ``(R,)``, rows of the truth, -1
        where the IoU with every object is below the threshold.
    """
    R = len(boxes)
    iou = overlaps(FoundObjects(boxes, np.zeros(R), np.zeros(R, int)), truth)
    covered = (iou[:, truth.ignored] >= COVERED).any(axis=1)
    iou = np.where(truth.ignored, -1, iou)
    negative = np.repeat(~covered[:, None], classes, axis=1)
    for m, k in enumerate(truth.classes):
        negative[:, k] &= iou[:, m] < options.bg_iou_thresh
    if not iou.shape[1]:
        return negative, np.full(R, -1)
    near = iou.max(axis=1) >= options.box_iou_thresh
    return negative, np.where(near, iou.argmax(axis=1), -1)


def fit_svms(
    images: Iterable[Regions],
    classes: Sequence[str],
    options: SVMOptions,
    *,
    seed: int,
    note: Callable[[str], None],
) -> LinearMap:
    """Fit an SVM of each class, with hard negatives: scores ``(..., K)``, positive for the class.

    Each begins with a few negatives of every image, drawn from the seed. Then, in up to
    `options.rounds` rounds, those are added that its margin does not hold off, and it is fitted
    again. The score of a class without an example passes no threshold.

    Args:
        images: of the training, the same ones each time they are iterated over; their features may
            be computed anew each time.
        classes: the name of each class.
        options: C, and how many rounds and negatives.
        seed: of the first negatives, and of the solver's order.
        note: is told of each round, in a line.
    """
    examples, scale = _first_examples(images, len(classes), options, seed)
    width = examples[0].negatives[0].shape[1]
    kernel = np.zeros((width, len(classes)), np.float32)
    fitted = LinearMap(kernel, np.full(len(classes), NEVER, np.float32), scale)
    active = [k for k, found in enumerate(examples) if found.positives]
    turn = 0
    while active:
        for k in active:
            X, y = examples[k].arrays()
            fit = fit_svm(scale * X, y, C=options.C, seed=seed)
            fitted.kernel[:, k], fitted.bias[k] = fit.weights, fit.offset
            if not fit.converged:
                name = plain_line(classes[k], 40)
                note(f"SVM of {name!r}: not converged after {MOST_ITERATIONS:,} iterations")
        count = sum(examples[k].count for k in active)
        note(f"SVMs: {len(active)} fitted, to {count:,} negatives")
        if turn == options.rounds:
            break
        turn += 1
        added = _add_hard(images, examples, active, fitted, options.negatives)
        active = [k for k in active if added[k] > LEAST_NEW * (examples[k].count - added[k])]
    return fitted


class SVM(NamedTuple):
    """A fitted classifier: the sign of ``features @ weights + offset``."""

    weights: np.ndarray  # (F,) float64
    offset: float
    converged: bool


def fit_svm(features: np.ndarray, positive: np.ndarray, *, C: float, seed: int) -> SVM:
    """Fit one SVM by liblinear's dual coordinate descent, which is deterministic for a seed.

    Args:
        features: ``(n, F)``, scaled.
        positive: ``(n,)`` bool, at least one True. Where all are, every score is 1.
        C: the weight of the losses against the norm.
        seed: of the order in which examples are taken, ``0 <= seed < 2**32``.
    """
    if positive.all():  # nothing to be told apart
        return SVM(np.zeros(features.shape[1]), 1.0, True)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    numbers: Any = dict(C=C, loss="hinge", dual=True, tol=TOLERANCE, max_iter=MOST_ITERATIONS)
    numbers |= dict(intercept_scaling=BIAS_SCALING, class_weight={True: POSITIVE_WEIGHT})
    solver: Any = LinearSVC(**numbers, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(features, positive)
    converged = int(solver.n_iter_) < MOST_ITERATIONS
    return SVM(solver.coef_[0], float(solver.intercept_[0]), converged)


def fit_refinement(
    features: np.ndarray, labels: np.ndarray, targets: np.ndarray, classes: int, *, ridge: float
) -> LinearMap:
    r"""Fit the offsets from a region's box to its object's, a ridge regression of each class.

    .. math:: \min_{W, b} \sum_i \| t_i - W^\top s x_i - b \|^2 + \lambda \|W\|^2

    Args:
        features: ``(n, G)``, of regions near an object.
        labels: ``(n,)``, the class of each one's object.
        targets: ``(n, 4)``, as `ops.box_encode` gives them.
        classes: K.
        ridge: lambda.

    Returns:
        The map to ``(..., 4 K)``, class by class; of a class without a region all is 0, and boxes
        stay as they are.
    """
    from sklearn.linear_model import Ridge

    kernel = np.zeros((features.shape[1], classes, 4), np.float32)
    bias = np.zeros((classes, 4), np.float32)
    scale = _scale(np.linalg.norm(features, axis=1).sum(dtype=np.float64), len(features))
    for k in np.unique(labels):
        own = labels == k
        X = scale * features[own].astype(np.float64)
        solver: Any = Ridge(alpha=ridge, fit_intercept=True, solver="cholesky").fit(X, targets[own])
        kernel[:, k], bias[k] = solver.coef_.T, solver.intercept_
    return LinearMap(kernel.reshape(-1, 4 * classes), bias.reshape(-1), scale)


class _Examples:
    """What the SVM of one class learns from."""

    def __init__(self):
        self.positives: list[np.ndarray] = []
        self.negatives: list[np.ndarray] = []
        self.taken: list[np.ndarray] = []  # of each image, which proposals are among the negatives
        self.count = 0  # of the negatives

    def add_negatives(self, features: np.ndarray, rows: np.ndarray, image: int) -> None:
        """Add proposals of an image, which are not yet there."""
        self.negatives.append(features[rows])
        self.taken[image][rows] = True
        self.count += len(rows)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(n, F)``, and which of them are positives ``(n,)``."""
        positives = sum(map(len, self.positives))
        features = np.concatenate([*self.positives, *self.negatives])
        return features, np.arange(len(features)) < positives


def _first_examples(
    images: Iterable[Regions], classes: int, options: SVMOptions, seed: int
) -> tuple[list[_Examples], np.ndarray]:
    """Return what each class begins with, and the scale of features."""
    examples = [_Examples() for _ in range(classes)]
    norms, count = 0.0, 0
    for i, image in enumerate(images):
        for features in (image.features, image.true_features):
            norms += float(np.linalg.norm(features, axis=1).sum(dtype=np.float64))
            count += len(features)
        order = np.random.default_rng([seed, i]).permutation(len(image.features))
        for k, found in enumerate(examples):
            own = image.true_features[image.true_classes == k]
            if len(own):
                found.positives.append(own)
            found.taken.append(np.zeros(len(image.features), bool))
            rows = order[image.negative[order, k]][: min(FIRST, options.negatives)]
            found.add_negatives(image.features, rows, i)
    return examples, _scale(norms, count)


def _add_hard(
    images: Iterable[Regions],
    examples: Sequence[_Examples],
    active: Sequence[int],
    fitted: LinearMap,
    most: int,
) -> dict[int, int]:
    """Add the negatives within the margin, the hardest first; return how many of each class."""
    added = dict.fromkeys(active, 0)
    for i, image in enumerate(images):
        scores = fitted(image.features)
        for k in active:
            taken = examples[k].taken[i]
            hard = np.flatnonzero(image.negative[:, k] & ~taken & (scores[:, k] > HARD))
            hard = hard[np.argsort(-scores[hard, k], kind="stable")][: most - taken.sum()]
            examples[k].add_negatives(image.features, hard, i)
            added[k] += len(hard)
    return added


def _scale(norms: float, count: int) -> np.ndarray:
    """Return what brings features to the mean norm; 1 where all are 0."""
    return np.asarray(NORM * count / norms if norms else 1.0, np.float32)
