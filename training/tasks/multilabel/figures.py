"""The images of several classes an image.

average_precision.png   how well each class is found
worst.png               the images whose classes were missed, or said wrongly, most surely
"""

from pathlib import Path

import numpy as np

from ...plots import figures
from ...plots.attempt import draw_each
from ...plots.figures import BLUE, GRAY, shortened
from ..per_class import mean_of
from ..task import Findings
from .metrics import THRESHOLD, per_class

MOST_CLASSES = 40
MOST_SHOWN = 24


def draw(findings: Findings) -> list[Path]:
    """Draw the average precision of each class, and the worst images."""
    return draw_each(
        {
            "average_precision.png": lambda: _draw_precisions(findings),
            "worst.png": lambda: _draw_worst(findings),
        }
    )


def worst_images(probabilities: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Return the examples whose worst class is most wrong, the most wrong first."""
    wrong = np.abs(labels - probabilities.astype(np.float64)).max(axis=-1)
    return np.argsort(-wrong, kind="stable")[:most]


def names_of(chosen: np.ndarray, classes: tuple[str, ...]) -> str:
    """Return the names of the classes that are chosen ``(K,)``, or "none"."""
    return ", ".join(classes[k] for k in np.flatnonzero(chosen)) or "none"


def _draw_precisions(findings: Findings) -> Path:
    found = per_class(findings.collected, findings.examples.labels)
    average, f1 = found.figures["average_precision"], found.figures["f1"]
    worst = np.argsort(np.nan_to_num(average, nan=2), kind="stable")[:MOST_CLASSES]
    names = [shortened(findings.classes[k], 24) for k in worst]
    subtitle = f"average precision of each class, the worst first; mean F1 {mean_of(f1):.2%}"
    with figures.style():
        height = 0.7 + 0.32 * len(names)
        figure = figures.titled_figure(7, height, findings.title, subtitle)
        ax = figure.subplots()
        rows = np.arange(len(names))
        ax.barh(rows, 100 * np.nan_to_num(average[worst]), color=BLUE, height=0.6)
        for row, k in enumerate(worst):
            value = average[k]
            text = "none" if np.isnan(value) else f"{value:.1%}"
            ax.text(101, row, f"{text}   ({found.support[k]:,} images)", va="center", color=GRAY)
        ax.set_yticks(rows, names)
        ax.set_xlim(0, 100)
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter("{x:.0f}%")
        ax.tick_params(axis="y", length=0)
        return figures.write(figure, findings.folder / "average_precision.png")


def _draw_worst(findings: Findings) -> Path:
    probabilities, labels = findings.collected, findings.examples.labels
    chosen, classes = worst_images(probabilities, labels, MOST_SHOWN), findings.classes
    captions = [
        f"{shortened(names_of(labels[i], classes), 24)}\n"
        f"→ {shortened(names_of(probabilities[i] >= THRESHOLD, classes), 22)}"
        for i in chosen
    ]
    subtitle = (
        f"the {len(chosen)} of {len(labels):,} images it was most wrong about: what they are of, "
        "and below what was said"
    )
    with figures.style():
        images = np.asarray(findings.examples.images[chosen])
        figure = figures.mistakes(images, captions, title=findings.title, subtitle=subtitle)
        return figures.write(figure, findings.folder / "worst.png")
