"""The kernels of a run's page, each an image inside of it."""

from typing import Any

import numpy as np

from ...training.plots.page_parts import HtmlImage, html_image


def kernel_images(weights: np.ndarray) -> list[HtmlImage]:
    """Kernels ``(N, KH, KW, C)`` on one common scale; mid-gray is zero.

    In color where C is 3; of any other number of channels the mean: blue below zero, red above.
    """
    from matplotlib import colormaps

    tiles = weights if weights.shape[-1] == 3 else weights.mean(axis=-1)
    largest = float(np.abs(tiles).max()) or 1.0
    scaled = 0.5 + tiles / (2 * largest)
    colors: Any = scaled if weights.shape[-1] == 3 else colormaps["RdBu_r"](scaled)[..., :3]
    pixels = np.round(255 * colors).astype(np.uint8)
    return [html_image(tile, f"kernel {i + 1}") for i, tile in enumerate(pixels)]
