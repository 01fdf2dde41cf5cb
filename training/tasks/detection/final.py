"""What is fitted to R-CNN and SPP-Net behind their training: `Task.finalize`.

The features of all proposals and true boxes of the training images, in their order and not
augmented, go to `svm`; what that fits becomes the parts "svm" and "bbox_reg" of the parameters.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .... import ops
from ....model.detection.features import RegionFeatures, region_features
from ....model.detection.linear import SVMOptions
from ....model.detection.structures import GroundTruth
from ...common.memory import format_bytes
from ...data import eval_batches
from ...data.placement import Placement
from ...data.preprocess import preprocess
from .assessment import row, stored
from .objects import true_in
from .svm import Near, Regions, fit_refinement, fit_svms, label_regions

PARTS = ("svm", "bbox_reg")
KEPT = 2**31  # bytes of features that are kept in memory; of more, they are computed each time
SILENCE = 10  # seconds without a line


def fit_linear(
    experiment: Any, params: Any, state: Any, note: Callable[[str], None], *, options: SVMOptions
) -> Any:
    """Fit SVMs and box regressors to a trained detector: see `Task.finalize`.

    Args:
        experiment: a `training.experiment.Experiment`.
        params, state: the trained network's.
        note: is told how far it is.
        options: of the fits.

    Returns:
        The parameters with the parts "svm" and "bbox_reg".
    """
    classes = experiment.card.classes
    images = _TrainingRegions(experiment, params, state, options, note)
    svms = fit_svms(images, classes, options, seed=experiment.config.seed, note=note)
    near = jax.tree.map(lambda *rows: np.concatenate(rows), *(image.near for image in images))
    targets = np.asarray(ops.box_encode(near.objects, near.boxes))
    refined = fit_refinement(
        near.features, near.classes, targets, len(classes), ridge=options.ridge
    )
    note(f"boxes: fitted to {len(targets):,} regions and their objects")
    found = {"svm": svms._asdict(), "bbox_reg": refined._asdict()}
    return params | jax.tree.map(jnp.asarray, found)


class _Batch(NamedTuple):
    """The regions of a batch: proposals, then true boxes, and rows of zeros for neither."""

    boxes: Array  # (N, R + M, 4)
    truth: GroundTruth
    found: RegionFeatures


class _TrainingRegions(Iterable[Regions]):
    """The regions of the training images, in order, and the same each time."""

    def __init__(self, experiment: Any, params: Any, state: Any, options: SVMOptions, note: Any):
        self._experiment, self._options, self._note = experiment, options, note
        self._compute = partial(jax.jit(partial(_compute, experiment)), params, state)
        batch = jax.eval_shape(self._compute, *next(self._batches())[:2])
        regions = experiment.dataset.train.count * batch.boxes.shape[1]
        size = regions * batch.found.features.shape[-1] * 4
        note(
            f"features: {batch.found.features.shape[-1]:,} of each of up to {regions:,} regions, "
            f"{format_bytes(size)}{'' if size <= KEPT else ', computed anew in each round'}"
        )
        self._images = list(self._read()) if size <= KEPT else None

    def __iter__(self) -> Iterator[Regions]:
        return self._read() if self._images is None else iter(self._images)

    def _batches(self) -> Iterator[tuple[np.ndarray, Any, np.ndarray]]:
        split, most = self._experiment.dataset.train, self._experiment.task.batches.evaluation
        return eval_batches(split, min(most, split.count))

    def _read(self) -> Iterator[Regions]:
        classes, split = len(self._experiment.card.classes), self._experiment.dataset.train
        done, said = 0, time.monotonic()
        for images, labels, weights in self._batches():
            batch = jax.tree.map(np.asarray, self._compute(images, labels))
            for i in np.flatnonzero(weights):
                yield regions_of(row(batch, int(i)), stored(split.images), classes, self._options)
                done += 1
            if time.monotonic() - said > SILENCE:
                self._note(f"features: {done:,} of {split.count:,} images")
                said = time.monotonic()


def _compute(experiment: Any, params: Any, state: Any, images: Array, labels: Any) -> _Batch:
    """Compute the features of the regions of a batch of stored images."""
    task, spec = experiment.task, experiment.card.preprocessing
    truth = task.targets(labels, spec=spec)
    boxes = jnp.concatenate([truth.proposals, truth.boxes], axis=1)
    found = region_features(experiment.net, params, state, preprocess(images, spec=spec), boxes)
    return _Batch(boxes, truth, found)


def regions_of(batch: Any, place: Placement, classes: int, options: SVMOptions) -> Regions:
    """Return the regions of one image as the fits take them.

    Args:
        batch: a `_Batch` of the image, on the host, without the images' axis.
        place: where the image lies.
        classes: K.
        options: the thresholds.
    """
    boxes, features = batch.boxes, batch.found.features
    objects = true_in(batch.truth, place)
    R = len(boxes) - len(batch.truth.classes)
    proposals = np.flatnonzero((boxes[:R, 2:] > boxes[:R, :2]).all(axis=1))
    true = R + np.flatnonzero((batch.truth.classes >= 0) & ~batch.truth.ignored)
    negative, of = label_regions(boxes[proposals], objects, classes, options)
    near, of = proposals[of >= 0], of[of >= 0]
    return Regions(
        features=features[proposals],
        negative=negative,
        true_features=features[true],
        true_classes=batch.truth.classes[true - R],
        near=Near(
            features=batch.found.pooled[near],
            boxes=boxes[near],
            objects=objects.boxes[of].astype(np.float32),
            classes=objects.classes[of],
        ),
    )
