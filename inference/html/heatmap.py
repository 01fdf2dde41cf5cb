"""Where in an image the network saw a class: `convax.explain.heatmap`."""

from typing import Any

import numpy as np

from ... import explain
from ...training.plots.page_parts import Heatmap


def make_heatmap(predictor: Any) -> Heatmap | None:
    """Return ``heatmap(image, k) -> (H, W) in [0, 1]`` of an image ``(H, W, C)`` uint8 and a class.

    None for a task that has no classes of images, or for several networks that answer together.
    """
    if not predictor.task.spec.has_heatmap or predictor.trained is None:
        return None
    return lambda image, k: np.asarray(explain.heatmap(predictor, image, k))
