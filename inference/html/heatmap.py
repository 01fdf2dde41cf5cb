"""Where in a picture the network saw a class: `convax.explain.heatmap`."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ... import explain
from .image_encoding import encoded

Heatmap: TypeAlias = Callable[[np.ndarray, int], np.ndarray]


def find_heatmap(predictor: Any) -> Heatmap | None:
    """``heatmap(image, class number) -> (H, W) in [0, 1]`` of an image ``(H, W, C)`` uint8.

    None for a task that has no classes of images, or for several networks that answer together.
    """
    if predictor.task.name != "classification" or predictor.net is None:
        return None
    return lambda image, k: np.asarray(explain.heatmap(predictor, image, k))


def overlay(heat: np.ndarray) -> bytes:
    """A heat map ``(H, W)`` in [0, 1] as a PNG to be laid over the picture, clear where cold."""
    from matplotlib import colormaps
    from PIL import Image

    heat = np.clip(np.nan_to_num(heat), 0, 1)
    colours = colormaps["inferno"](heat)  # (H, W, 4)
    colours[..., 3] = 0.75 * heat
    return encoded(Image.fromarray((255 * colours).round().astype(np.uint8)))
