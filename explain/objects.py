"""Everything that is shown of objects that a detector found in one image."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .. import ops
from ..model import DetectorOutput, Layer, with_proposals
from ..model.layer import Params, State
from ..training.data.preprocess import preprocess
from .explanation import ExplainError, baseline_of, seen_image
from .grad_cam import grad_cam
from .layer_selection import last_map_layer
from .rise import rise
from .saliency import saliency
from .target import detection, scores, similarity

MASKS = 500  # of D-RISE
GRID = 16  # of its cells along each axis


class ObjectExplanation(NamedTuple):
    """The reasons of one detection."""

    score: float  # the logit of its class
    saliency: np.ndarray  # (H, W), zero or more
    heat: np.ndarray | None  # (H, W), Grad-CAM; None where the network has no maps
    rise: np.ndarray  # (H, W), D-RISE


class ObjectExplanations(NamedTuple):
    """An image, and the reasons of some of the detections in it."""

    image: np.ndarray  # (H, W, C) in [0, 1], as the network sees it
    layer: str | None  # of Grad-CAM
    objects: list[ObjectExplanation]


def explain_objects(
    predictor: Any,
    image: np.ndarray,
    boxes: Any,
    classes: Any,
    *,
    layer: str | None = None,
) -> ObjectExplanations:
    """Compute why detections are there: all that `convax explain` draws of them.

    A detector that takes proposals is explained by the one that each detection was made of: the
    others have no part in its logit.

    Args:
        predictor: what `convax.load` gives, of a detector.
        image: ``(H, W, C)`` uint8, of the predictor's size.
        boxes, classes: ``(T, 4)`` and ``(T,)``, of detections of the predictor in this image.
        layer: for Grad-CAM; `last_map_layer` by default.

    Raises:
        ExplainError: no such layer, or one without maps of the image.
    """
    (net, params, state), spec = predictor.trained, predictor.preprocessing
    x = preprocess(jnp.asarray(image)[None], spec)
    proposals = proposals_of(predictor, image)
    path = _layer(predictor, x, layer, proposals)
    of = (params, state, x)
    places = jnp.asarray(boxes, jnp.float32), jnp.asarray(classes, jnp.int32), proposals
    how: Any = dict(fill=baseline_of(spec), at_once=predictor.sizes[-1])
    found = jax.jit(partial(_maps, net, layer=path, **how))(*of, *places)
    each = [jax.tree.map(lambda a, i=i: np.asarray(a[i]), found) for i in range(len(boxes))]
    objects = [e._replace(score=float(e.score)) for e in each]
    return ObjectExplanations(seen_image(x, spec), path, objects)


def proposals_of(predictor: Any, image: np.ndarray) -> Array | None:
    """Return the proposals ``(R, 4)`` of an image ``(H, W, C)``, of a detector that takes some.

    Raises:
        DataError: they cannot be found.
    """
    more = predictor.task.more_inputs
    return None if more is None else jnp.asarray(more(image[None])["proposals"][0])


def _maps(
    net: Layer,
    params: Params,
    state: State,
    x: Array,
    boxes: Array,
    classes: Array,
    proposals: Array | None,
    *,
    layer: str | None,
    fill: Array,
    at_once: int,
) -> ObjectExplanation:
    """Return the explanations of T detections, an array of T in each place."""
    whole = net if proposals is None else with_proposals(net, proposals)
    outputs: Any = whole.apply(params, state, x, train=False)[0]

    def looking_at(row: Array) -> tuple[Layer, Params, State, Array]:
        looks = net if proposals is None else with_proposals(net, outputs.proposals[0, row])
        return looks, params, state, x

    def by_gradient(place: tuple[Array, Array]) -> tuple[Array, Array, Array | None]:
        of, target = looking_at(_row(outputs, *place)), _detection_at(*place)
        heat = None if layer is None else grad_cam(*of, target, layer=layer)[0]
        return scores(outputs, target)[0], saliency(*of, target)[0], heat

    def by_masks(box: Array, k: Array) -> Array:
        row = _row(outputs, box, k)
        target = similarity(box, outputs.logits[0, row[0]])
        how: Any = dict(masks=MASKS, grid=GRID, fill=fill, at_once=at_once)
        return rise(*looking_at(row), target, **how, key=jax.random.key(0))[0]

    score, gradient, heat = jax.lax.map(by_gradient, (boxes, classes))
    # Of all detections at once: the network sees each mask once.
    masked: Any = jax.vmap(by_masks)(boxes, classes)
    return ObjectExplanation(score, gradient, heat, masked)


def _detection_at(box: Array, k: Array) -> Callable[[DetectorOutput], Array]:
    """Make the target `detection` of the row that is here, and of this class.

    Another program may round otherwise, and swap rows whose scores are nearly equal.
    """
    return lambda outputs: detection(_row(outputs, box, k))(outputs)


def _row(outputs: DetectorOutput, box: Array, k: Array) -> Array:
    """Return the row ``(N,)`` of the detection of class k that overlaps a box most."""
    found: Any = outputs.detections
    iou = ops.box_iou(box[None, None], found.boxes)[:, 0]
    return jnp.where(found.classes == k, iou, -1.0).argmax(axis=1)


def _layer(predictor: Any, x: Array, layer: str | None, proposals: Array | None) -> str | None:
    net, params, state = predictor.trained
    net = net if proposals is None else with_proposals(net, proposals)
    try:
        if layer is None:
            return last_map_layer(net, x.shape)
        target = detection(0)
        jax.eval_shape(lambda: grad_cam(net, params, state, x, target, layer=layer))
    except ValueError as error:
        if layer is None:
            return None
        raise ExplainError(str(error)) from None
    return layer
