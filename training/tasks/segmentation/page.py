"""What a segmentation shows on the page of a run."""

import math
from collections.abc import Sequence

import numpy as np

from ...data import IGNORED
from ...plots.page_parts import Example, Examples, Heatmap, PageParts, Table, html_image, percent
from ..confusion import confusion_part
from ..per_class import mean_of, of_confusion
from ..task import Findings
from .figures import worst_images
from .metrics import ious


def page(findings: Findings, heatmap: Heatmap | None) -> PageParts:
    """Return the confusion matrix of pixels, each class, and the worst images."""
    del heatmap
    classes, counts = findings.classes, np.asarray(findings.sums["confusion"])
    return PageParts(
        confusion=confusion_part(counts, classes, "pixels"),
        per_class=per_class_iou(counts, ious(counts), classes),
        examples=Examples("Worst images", *masks(findings)),
    )


def per_class_iou(counts: np.ndarray, values: np.ndarray, classes: Sequence[str]) -> Table:
    """The intersection over union of each class, and its share of the pixels."""
    pixels = counts.sum(axis=1)
    total = max(int(pixels.sum()), 1)
    rows = [
        (name, percent(value), percent(int(n) / total))
        for name, value, n in zip(classes, values, pixels, strict=True)
    ]
    last = ("mean", percent(mean_of(values, otherwise=math.nan)), "")
    remarks = of_confusion(counts, "pixels").remarks(classes)
    caption = "; ".join(["Intersection over union of each class", *remarks])
    return Table(caption, ("class", "IoU", "of pixels"), rows, last)


def masks(findings: Findings) -> tuple[str, list[Example]]:
    """Photograph, truth and prediction of the images that are segmented worst."""
    classes, spec = findings.classes, findings.preprocessing
    worst = worst_images(findings.examples, findings.collected, len(classes), spec)
    title = (
        f"The {len(worst.ious)} of {len(findings.collected):,} images that it did worst on, by the "
        f"mean IoU of the classes in each; half of all images have {worst.median:.0%} or more."
    )
    if IGNORED in worst.values:
        title += " Hatched pixels are of no class."
    examples = []
    for value, tiles in zip(worst.ious, worst.tiles, strict=True):
        named = zip(("photograph", "truth", "found"), tiles, strict=True)
        shown = [(name, html_image(tile, f"{name}, tinted by class")) for name, tile in named]
        examples.append(Example(shown, f"mean IoU {value:.0%}"))
    return title, examples
