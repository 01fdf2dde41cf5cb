"""The tasks of finding objects: their boxes and classes, and their pixels too."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ....model.detection.detector import sees_crops
from ....model.detection.linear import SVMOptions
from ....model.detection.structures import Detections, DetectorInput, DetectorOutput, GroundTruth
from ....model.output_checks import init_detector
from ....model.registry import build
from ...data import Proposing, Split, propose_batch, proposing, stand_ins
from ...data.placement import Placement, place
from ...data.preprocess import Preprocessing
from ..per_class import PerClass
from ..spec import TaskSpec, bind_loss
from ..task import (
    Batches,
    Examples,
    ExplainedObject,
    ExplainedObjects,
    Numbers,
    Question,
    Respond,
    Saying,
    Task,
    TaskError,
    unchanged,
)
from .answers import PlaceOf, count_text, respond_with_objects, say_objects
from .assessment import Assessment, assess, row
from .figures import draw, overlay
from .final import PARTS, fit_linear
from .losses import RCNNLoss, keywords_of_weights
from .metrics import batch_metrics, metric_sums, split_losses
from .mistakes import SURE
from .objects import FoundObjects, in_image
from .page import page
from .spec import DETECTION, INSTANCE_SEGMENTATION


def detection(config: Any, classes: int) -> Task:
    """Objects as boxes ``(N, M, 4)`` with a class each; COCO's average precision."""
    return _task(DETECTION, config, classes, masks=False)


def instance_segmentation(config: Any, classes: int) -> Task:
    """Objects as boxes, classes and masks; the average precision of the masks."""
    return _task(INSTANCE_SEGMENTATION, config, classes, masks=True)


def _task(spec: TaskSpec, config: Any, classes: int, *, masks: bool) -> Task:
    terms = bind_loss(spec, config.loss, classes)
    canvas, letterbox = tuple(config.input.size), config.input.fit == "letterbox"

    def place_of(size: tuple[int, int]) -> Placement:
        return place(size, canvas, letterbox=letterbox)

    more_inputs = None
    if config.proposals is not None:
        how = proposing(config.proposals, letterbox=letterbox)
        more_inputs = partial(propose_inputs, how=how)
    svm = getattr(config.model, "svm", None)
    # A trunk on crops sees all proposals of an image, and not the sample that a training step has.
    net = build(config.model.model_dump(exclude_none=True), classes)
    at_once = 1 if sees_crops(net) else config.training.batch_size
    return Task(
        spec=spec,
        init=partial(init_detector, masks=masks),
        targets=unchanged,
        inputs=detector_input,
        more_inputs=more_inputs,
        loss=partial(batch_loss, terms=terms),
        batch_metrics=partial(batch_metrics, terms=terms),
        metric_sums=partial(metric_sums, terms=terms),
        collect=collect,
        assess=partial(assess, classes=classes),
        metrics=partial(metrics, weights=keywords_of_weights(terms.keywords)),
        per_class=per_class,
        postprocess=postprocess,
        draw=draw,
        page=page,
        predict=partial(predict, place_of=place_of),
        explain=explain,
        respond=partial(respond, place_of=place_of),
        captions=captions,
        overlay=overlay,
        in_image=lambda found, size: in_image(found, place_of(size)),
        batches=Batches(at_once, (1, 8)),
        finalize=svm and partial(fit_linear, options=SVMOptions(**svm.model_dump())),
        finalized=PARTS,
        aggregate=None,
    )


def detector_input(
    x: Array, truth: GroundTruth | None, proposals: Array | None = None
) -> DetectorInput:
    """Return what a detector is given; where there is truth, the proposals are in it."""
    if truth is None:
        return DetectorInput(x, None, proposals)
    return DetectorInput(x, truth, truth.proposals)


def propose_inputs(
    images: np.ndarray, *, made_up: bool = False, how: Proposing
) -> dict[str, np.ndarray]:
    """Return the proposals ``(N, R, 4)`` of images."""
    if made_up:
        boxes = stand_ins(images.shape[1:3], how)
        return {"proposals": np.broadcast_to(boxes, (len(images), *boxes.shape)).copy()}
    return {"proposals": propose_batch(images, how)}


def batch_loss(
    outputs: DetectorOutput, targets: GroundTruth, *, terms: Callable[..., RCNNLoss]
) -> Array:
    """Return the loss of a batch."""
    return terms(outputs, targets).loss


def collect(outputs: DetectorOutput, spec: Preprocessing) -> Detections:
    """Return the detections, masks as bytes."""
    del spec
    found = outputs.detections
    assert found is not None
    if found.masks is None:
        return found
    return found._replace(masks=jnp.round(255 * found.masks).astype(jnp.uint8))


def metrics(
    sums: Numbers, assessment: Assessment, examples: Split, *, weights: dict[str, Any]
) -> dict[str, float]:
    """Return the loss and its parts, and COCO's figures."""
    del examples
    return split_losses(sums, weights) | assessment.figures()


def per_class(sums: Numbers, assessment: Assessment, examples: Split) -> PerClass:
    """Return the average precision of each class."""
    del sums, examples
    return assessment.per_class()


def postprocess(
    outputs: DetectorOutput, preprocessing: Preprocessing, image_shape: tuple[int, ...]
) -> Detections:
    """Return the detections, in pixels of the images that the network is given."""
    del preprocessing, image_shape
    assert outputs.detections is not None
    return outputs.detections


def predict(
    predictor: Any, examples: Examples, *, place_of: PlaceOf
) -> Callable[[Question], Saying]:
    """Name the objects of an image, and draw them on it."""
    del examples
    classes = predictor.classes
    ids = predictor.category_ids or tuple(range(1, len(classes) + 1))
    return partial(say_objects, classes=classes, category_ids=ids, place_of=place_of)


def explain(
    predictor: Any, examples: Examples, image: np.ndarray, k: int | None
) -> ExplainedObjects:
    """Explain the objects that were found, of one class or of all: the logits of their classes."""
    del examples
    names, found = predictor.classes, row(predictor(image[None]), 0)
    sure = found.scores >= SURE
    text = _count_text(found.classes[sure], names)
    wanted = found.classes >= 0 if k is None else found.classes == k
    if not wanted.any():
        what = "nothing was found" if k is None else f"class: no {names[k]} was found, but {text}"
        raise TaskError(f"{what} in this image")
    objects = (
        ExplainedObject(
            row=int(i),
            text=f"{names[found.classes[i]]} {found.scores[i]:.1%}",
            k=int(found.classes[i]),
            box=found.boxes[i],
            sure=bool(sure[i]),
        )
        for i in np.flatnonzero(wanted)
    )
    return ExplainedObjects(text, tuple(objects))


def respond(classes: tuple[str, ...], references: Any, *, place_of: PlaceOf) -> Respond:
    """Answer with the objects of an image, in its own pixels."""
    del references

    def respond_to(prediction: Any, size: tuple[int, int], top: int) -> dict[str, Any]:
        del top
        return respond_with_objects(prediction, size, classes, place_of)

    return respond_to


def captions(targets: GroundTruth, classes: Sequence[str]) -> list[str]:
    """Return how many objects of each class are in each image."""
    rows = (row(targets, i) for i in range(len(targets.classes)))
    return [_count_text(np.asarray(truth.classes), classes) for truth in rows]


def _count_text(numbers: np.ndarray, classes: Sequence[str]) -> str:
    """Return how many of each class there are, of numbers that are -1 where there is none."""
    none = np.zeros(0)
    return count_text(FoundObjects(none, none, numbers[numbers >= 0]), classes)
