"""Grad-CAM of one image for one class, as a map over it: what `convax serve` shows."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..model import Layer
from ..model.layer import Params, State
from ..training.data.preprocess import Preprocessing, preprocess, restore_maps
from ..training.tasks.registry import tasks_where
from .grad_cam import grad_cam
from .layer_selection import last_map_layer
from .saliency import saliency

_COMPILED: WeakKeyDictionary[Any, Callable[..., Array]] = WeakKeyDictionary()


def heatmap(predictor: Any, image: np.ndarray, k: int) -> np.ndarray:
    """Compute where in an image the network saw a class: 1 is where most.

    Compiled at the first call of a predictor, for all classes.

    Args:
        predictor: what `convax.load` gives, of a task with a score for each class of an image.
        image: ``(H, W, C)``, uint8 in 0..255 or floating point in [0, 1].
        k: the number of the class.

    Returns:
        ``(H, W)`` float32 in [0, 1], zero everywhere where nothing speaks for the class. Grad-CAM;
        of a network without maps of features (an MLP), saliency.

    Raises:
        ValueError: no net, another task, a class out of range, an image of another shape.
    """
    if not predictor.task.spec.has_heatmap:
        fitting = " or ".join(tasks_where(lambda spec: spec.has_heatmap))
        raise ValueError(f"heatmap: got a network of {predictor.task.name}, need {fitting}")
    if not 0 <= k < len(predictor.classes):
        raise ValueError(f"heatmap: class: got {k}, need 0 to {len(predictor.classes) - 1}")
    if predictor.trained is None:
        raise ValueError(
            "heatmap: predictor.trained: got None, need one network; load a single run"
        )
    image = np.asarray(image)
    if image.shape != predictor.image_shape:
        raise ValueError(
            f"heatmap: wrong image shape: got {image.shape}, need {predictor.image_shape}; for a "
            "image file of any size use predictor.read(file)"
        )
    net, params, state = predictor.trained
    if predictor not in _COMPILED:
        _COMPILED[predictor] = jax.jit(_make(net, predictor.preprocessing))
    return np.asarray(_COMPILED[predictor](params, state, image, np.int32(k)))


def _make(net: Layer, spec: Preprocessing) -> Callable[..., Array]:
    """Return ``(params, state, image, k) -> heat``."""

    def heat_of(params: Params, state: State, image: Array, k: Array) -> Array:
        x = preprocess(image[None], spec)
        try:
            layer = last_map_layer(net, x.shape)
        except ValueError:
            heat = saliency(net, params, state, x, k)
        else:
            heat = grad_cam(net, params, state, x, k, layer=layer)
        heat = restore_maps(heat[..., None], spec, image.shape)[0, ..., 0]
        most = heat.max()
        return jnp.clip(heat / jnp.where(most > 0, most, 1), 0, 1)

    return heat_of
