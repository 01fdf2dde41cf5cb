"""The figures of a regression.

scatter.png   what was predicted against what is true, of each value
worst.png     the images with the largest errors
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...plots import figures
from ...plots.attempt import draw_each
from ...plots.figures import BLUE, GRAY, shortened
from ..task import Findings
from .metrics import errors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_VALUES = 6  # with a scatter of their own
MOST_POINTS = 3000
MOST_SHOWN = 24


def draw(findings: Findings) -> list[Path]:
    """Draw each value's scatter, and the images with the largest errors."""
    return draw_each(
        {
            "scatter.png": lambda: _draw_scatters(findings),
            "worst.png": lambda: _draw_worst(findings),
        }
    )


def draw_scatter(ax: "Axes", predicted: np.ndarray, true: np.ndarray, name: str) -> None:
    """Draw one value ``(N,)`` of `MOST_POINTS` examples, on equal axes with the diagonal."""
    N = len(true)
    chosen = np.unique(np.linspace(0, N - 1, min(N, MOST_POINTS)).round().astype(np.int64))
    low, high = (float(end(np.concatenate([true, predicted]))) for end in (np.min, np.max))
    room = 0.03 * (high - low) or 1.0
    ends = [low - room, high + room]
    ax.plot(ends, ends, color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
    look = {"color": BLUE, "markersize": 4, "alpha": 0.5, "markeredgewidth": 0}
    ax.plot(true[chosen], predicted[chosen], ".", rasterized=True, **look)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")
    ax.set_title(shortened(name, 28))
    ax.set_xlabel("true")
    ax.set_ylabel("predicted")
    ax.grid()


def worst_images(predicted: np.ndarray, true: np.ndarray, most: int) -> np.ndarray:
    """Return the examples with the largest errors, largest first; values weigh by their spread."""
    spread = true.std(axis=0)
    error = np.abs(predicted - true) / np.where(spread > 0, spread, 1)
    return np.argsort(-error.mean(axis=-1), kind="stable")[:most]


def caption(true: np.ndarray, predicted: np.ndarray) -> str:
    """Return the true values of an image, and below those that were predicted."""
    each = (" ".join(f"{value:.4g}" for value in values[:3]) for values in (true, predicted))
    return "\n→ ".join(each)


def _draw_scatters(findings: Findings) -> Path:
    predicted, true, names = findings.collected, findings.examples.labels, findings.classes
    found, shown = errors_of(predicted, true), min(len(names), MOST_VALUES)
    said = [
        f"{shortened(name, 20)}: MAE {mae:.4g}, R² {r2:.4f}"
        for name, mae, r2 in zip(names[:shown], found.mae, found.r2, strict=False)
    ]
    columns = min(shown, 3)
    lines = -(-shown // columns)
    with figures.style():
        size = (3.6 * columns + 0.4, 3.6 * lines)
        figure = figures.titled_figure(*size, findings.title, "; ".join(said))
        axes = np.ravel(figure.subplots(lines, columns, squeeze=False))
        for k, ax in enumerate(axes):
            if k < shown:
                draw_scatter(ax, predicted[:, k], true[:, k], names[k])
            else:
                ax.axis("off")
        return figures.write(figure, findings.folder / "scatter.png")


def _draw_worst(findings: Findings) -> Path:
    predicted, true = findings.collected, findings.examples.labels
    chosen = worst_images(predicted, true, MOST_SHOWN)
    captions = [caption(true[i], predicted[i]) for i in chosen]
    subtitle = (
        f"the {len(chosen)} of {len(true):,} images with the largest errors: what is true, and "
        "below what was predicted"
    )
    with figures.style():
        images = np.asarray(findings.examples.images[chosen])
        figure = figures.mistakes(images, captions, title=findings.title, subtitle=subtitle)
        return figures.write(figure, findings.folder / "worst.png")
