"""What several classes an image show on the page of a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...plots import figures
from ...plots.page_parts import (
    Example,
    Examples,
    Heatmap,
    PageParts,
    html_image,
    overlay,
    percent,
)
from ...plots.svg import Chart, chart_of
from ..per_class import PerClass
from ..task import Findings
from .figures import names_of, worst_images
from .metrics import THRESHOLD, per_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_EXAMPLES = 12
CAPTION = f"Average precision of each class; the others at a probability of {THRESHOLD:g}"
MOST_CURVES = 7  # classes with a curve of precision over recall, the most frequent


def page(findings: Findings, heatmap: Heatmap | None) -> PageParts:
    """Return each class, precision over recall, and the worst images."""
    probabilities, labels = findings.collected, findings.examples.labels
    found = per_class(probabilities, labels)
    return PageParts(
        per_class=found.table(CAPTION, findings.classes),
        charts=[precision_recall(probabilities, labels, found, findings.classes)],
        charts_title="Precision and recall",
        examples=Examples("Worst images", *worst(findings, heatmap)),
    )


def precision_recall(
    probabilities: np.ndarray, labels: np.ndarray, found: PerClass, classes: Sequence[str]
) -> Chart:
    """Return the precision at each recall, of the most frequent classes."""
    from sklearn.metrics import precision_recall_curve

    most = np.argsort(-found.support, kind="stable")[:MOST_CURVES]
    shown = [int(k) for k in most if found.support[k]]

    def draw(ax: "Axes") -> None:
        for i, k in enumerate(shown):
            precision, recall, _ = precision_recall_curve(labels[:, k], probabilities[:, k])
            look = {"color": figures.color_of(i, len(shown)), "linewidth": 1.4}
            name = figures.shortened(classes[k], 18)
            ax.step(100 * recall, 100 * precision, where="post", label=name, **look)
        ax.set_xlim(0, 100)
        ax.set_ylim(0, 101)
        ax.set_xlabel("recall")
        ax.set_ylabel("precision")
        ax.xaxis.set_major_formatter("{x:.0f}%")
        ax.yaxis.set_major_formatter("{x:.0f}%")
        ax.grid()
        if shown:
            ax.legend(loc="lower left", fontsize=8.5)

    said = "; ".join(
        f"{classes[k]} {percent(found.figures['average_precision'][k])}" for k in shown
    )
    return chart_of("precision over recall", draw, f"Average precision: {said or 'none'}.")


def worst(findings: Findings, heatmap: Heatmap | None) -> tuple[str, list[Example]]:
    """Return a sentence, and the images with the class that is most wrong and where it was seen."""
    probabilities, labels, classes = (
        findings.collected,
        findings.examples.labels,
        findings.classes,
    )
    chosen = worst_images(probabilities, labels, MOST_EXAMPLES)
    sentence = f"The {len(chosen)} of {len(labels):,} images that it was most wrong about."
    if heatmap is not None:
        sentence += " Beside each, warm: where it saw the class that is most wrong."
    examples = []
    for i, image in zip(chosen, np.asarray(findings.examples.images[chosen]), strict=True):
        said = probabilities[i] >= THRESHOLD
        k = int(np.abs(labels[i] - probabilities[i].astype(np.float64)).argmax())
        true = names_of(labels[i], classes)
        shown = [("image", html_image(image, f"An image of {true}"))]
        if heatmap is not None:
            warm = overlay(heatmap(image, k))
            shown.append(("heat map", html_image(image, f"Warm: where it sees {classes[k]}", warm)))
        line = f"{true}; said: {names_of(said, classes)} ({classes[k]} {probabilities[i, k]:.0%})"
        examples.append(Example(shown, line))
    return sentence, examples
