"""Everything that is shown of one image: all maps lie over what the network sees of it."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..model import Layer
from ..model.layer import Params, State
from ..training.common.errors import ConvaxError
from ..training.data.preprocess import Preprocessing, preprocess, preprocess_masks
from ..training.plots.pictures import drawn, pictures
from .feature_maps import feature_maps
from .grad_cam import grad_cam
from .integrated_gradients import integrated_gradients
from .layer_selection import coarsest_map_layer, last_map_layer
from .occlusion import occlusion
from .receptive_field import effective_receptive_field, extent, receptive_field_size
from .saliency import saliency
from .target import Target, neg_distance, pixels, scores

STEPS = 64  # of integrated gradients
PATCHES = 8  # of which one beside the other covers an image, along each axis
DRAWS = 16  # of noise around the image, for the effective receptive field
NOISE = 0.25  # its deviation, where the range of pixels is 1


class ExplainError(ConvaxError, ValueError):
    """What is asked for cannot be explained; says what can."""


class EffectiveField(NamedTuple):
    """What one element of a layer's maps sees."""

    at: tuple[int, int]  # the element
    strength: np.ndarray  # (H, W), how much each pixel moves it
    size: tuple[int, ...] | None  # how many pixels it can see along each axis, beyond edges too
    box: tuple[tuple[int, int], ...]  # the first and last pixel of the image that it sees


class Explanation(NamedTuple):
    """An image and the reasons of one score."""

    image: np.ndarray  # (H, W, 1 or 3) in [0, 1], as the network sees it: resized or padded
    drawn: str  # which of the network's channels those are, where that is not plain
    score: float
    saliency: np.ndarray  # (H, W), zero or more
    attribution: np.ndarray  # (H, W), integrated gradients, the channels added up
    difference: float  # the score, less that of the baseline: what the attributions add up to
    occlusion: np.ndarray  # (H, W), what of the score is lost
    window: int  # the side of its patches
    heat: np.ndarray | None  # (H, W), Grad-CAM; None where the network has no maps
    layer: str | None  # of which
    field: EffectiveField | None  # of the element where it is hottest


def explain_image(
    predictor: Any, image: np.ndarray, target: Target, *, layer: str | None = None
) -> Explanation:
    """Compute why an image has its score: all that `convax explain` draws.

    Args:
        predictor: what `convax.load` gives.
        image: ``(H, W, C)``, of the predictor's size and format.
        target: see `target.scores`, and `make_target`.
        layer: for Grad-CAM; `last_map_layer` by default, of a segmentation `coarsest_map_layer`.

    Raises:
        ExplainError: no such layer, or one without maps.
    """
    (net, params, state), spec = predictor.trained, predictor.preprocessing
    x = preprocess(jnp.asarray(image)[None], spec)
    path = _layer(predictor, x, layer)
    window = max(1, min(x.shape[1:3]) // PATCHES)
    compute = jax.jit(partial(_maps, net, target=target, baseline=baseline_of(spec), window=window))
    found = jax.tree.map(np.asarray, compute(params, state, x))
    heat = field = None
    if path is not None:
        cam = jax.jit(partial(grad_cam, net, target=target, layer=path, resize=False))
        coarse = cam(params, state, x)
        heat = np.asarray(jax.image.resize(coarse, x.shape[:3], "linear")[0])
        field = _field(predictor, x, path, np.asarray(coarse[0]))
    return Explanation(
        image=seen_image(x, spec),
        drawn=drawn(spec.pixel_format.channels, spec.pixel_format.dtype),
        score=float(found["score"]),
        saliency=found["saliency"][0],
        attribution=found["attribution"][0],
        difference=float(found["difference"]),
        occlusion=found["occlusion"][0],
        window=window,
        heat=heat,
        layer=path,
        field=field,
    )


def make_target(
    predictor: Any, image: np.ndarray, k: int, embedding: np.ndarray | None = None
) -> Target:
    """Return what is to be explained of an image, by the predictor's task.

    Args:
        predictor: what `convax.load` gives.
        image: ``(H, W, C)``, of the predictor's size and format.
        k: the class. Of a segmentation its logit at the pixels where it was found, or at all
            where it was nowhere.
        embedding: of a network that embeds, the embedding whose distance is explained.
    """
    if embedding is not None:
        return neg_distance(embedding)
    if not predictor.task.spec.per_pixel:
        return k
    x = preprocess(jnp.asarray(image)[None], predictor.preprocessing)
    net, params, state = predictor.trained
    apply: Any = jax.jit(net.apply)
    outputs, _ = apply(params, state, x)
    here = preprocess_masks(jnp.ones((1, *image.shape[:2]), jnp.uint8), predictor.preprocessing)
    real = np.asarray(here[0] == 1)  # not padding
    mask = np.asarray(outputs.argmax(axis=-1)[0] == k) & real
    return pixels(mask if mask.any() else real, k)


def _maps(
    net: Layer, params: Params, state: State, x: Array, *, target: Target, baseline, window: int
) -> dict[str, Array]:
    of = (net, params, state)
    base = jnp.broadcast_to(baseline, x.shape)
    attribution = integrated_gradients(*of, x, target, baseline=base, steps=STEPS)
    score, low = (scores(net.apply(params, state, v)[0], target)[0] for v in (x, base))
    return {
        "score": score,
        "difference": score - low,
        "attribution": attribution.sum(axis=-1),
        "saliency": saliency(*of, x, target),
        "occlusion": occlusion(*of, x, target, window=window, fill=base),
    }


def seen_image(x: Array, spec: Preprocessing) -> np.ndarray:
    """Return what the network sees of the first image, ``(H, W, 1 or 3)`` in [0, 1].

    Of what is no photograph it is what `training.plots.pictures` draws.
    """
    std, mean = (np.asarray(values, np.float32) for values in (spec.std, spec.mean))
    seen = np.clip(np.asarray(x[0]) * std + mean, 0, 1)
    return seen if spec.pixels is None else pictures(seen) / np.float32(255)


def baseline_of(spec: Preprocessing) -> Array:
    """Return the mean color of the training images; of gray ones black, on which strokes show."""
    black = -np.divide(spec.mean, spec.std).astype(np.float32)
    return jnp.asarray(black if len(black) == 1 else 0 * black)


def _layer(predictor: Any, x: Array, layer: str | None) -> str | None:
    net, params, state = predictor.trained
    if layer is None:
        choose = coarsest_map_layer if predictor.task.spec.per_pixel else last_map_layer
        try:
            return choose(net, x.shape)
        except ValueError:
            return None
    try:
        jax.eval_shape(lambda: feature_maps(net, params, state, x, layer))
    except ValueError as error:
        raise ExplainError(str(error)) from None
    return layer


def _field(predictor: Any, x: Array, layer: str, heat: np.ndarray) -> EffectiveField:
    """Compute the field of the hottest element, on average over noise around the image."""
    i, j = (int(i) for i in np.unravel_index(heat.argmax(), heat.shape))
    deviation = NOISE / jnp.float32(predictor.preprocessing.std).reshape(1, 1, 1, -1)
    noise = deviation * jax.random.normal(jax.random.key(0), (DRAWS, *x.shape[1:]), jnp.float32)
    net, params, state = predictor.trained
    strength = jax.jit(partial(effective_receptive_field, net, layer=layer))(
        params, state, x + noise, at=jnp.array([i, j]), key=jax.random.key(1)
    )
    size = receptive_field_size(net, x.shape[1:], layer)
    return EffectiveField((i, j), np.asarray(strength), size, extent(strength))
