"""The figures of a detection.

boxes.png              truth and prediction of the images it did worst on
precision_recall.png   precision over recall of each class; AP over the overlap that is asked for
errors.png             the kinds of mistakes, and what repairing each would gain
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....model.detection.structures import GroundTruth
from ...plots import figures
from ...plots.attempt import draw_each
from ...plots.figures import BLUE, GRAY, ORANGE, shortened
from ..task import Findings
from .assessment import Assessment, row, stored, worst_images
from .average_precision import SIZES, AveragePrecision
from .drawing import draw_marks, marks_found, marks_true
from .mistakes import SURE, Mistakes
from .objects import true_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SHOWN = 8
SMALLEST = 240  # pixels of a tile: names are as large as captions then
THICK = 1 / 110  # of the lines in a tile that is made smaller again
MOST_CURVES = 7  # classes with a curve of precision over recall, the most frequent


def draw(findings: Findings) -> list[Path]:
    """Draw the worst images, precision over recall, and the kinds of mistakes."""
    return draw_each(
        {
            "boxes.png": lambda: _draw_boxes(findings),
            "precision_recall.png": lambda: _draw_precision(findings),
            "errors.png": lambda: _draw_errors(findings),
        }
    )


def overlay(images: np.ndarray, truth: GroundTruth, classes: tuple[str, ...]) -> np.ndarray:
    """Return images ``(N, H, W, C)`` uint8 with their objects drawn on them, ``(N, h, w, 3)``."""
    drawn, place = [], stored(images)
    for i, image in enumerate(images):
        marks = marks_true(true_in(row(truth, i), place), classes)
        drawn.append(draw_marks(image, marks, len(classes), least=SMALLEST, thickness=THICK))
    return np.stack(drawn)


def draw_precision_recall(ax: "Axes", of: AveragePrecision, classes: tuple[str, ...]) -> None:
    """Draw precision over recall at an IoU of 0.5, of the most frequent classes."""
    for i, k in enumerate(frequent(of)):
        color = figures.color_of(i, len(frequent(of)))
        label = f"{shortened(classes[k], 18)} {of.per_class['ap50'][k]:.0%}"
        ax.plot(100 * of.recalls, 100 * of.precision[0, :, k], color=color, label=label)
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 101)
    ax.set_xlabel("recall")
    ax.set_ylabel("precision")
    ax.xaxis.set_major_formatter("{x:.0f}%")
    ax.yaxis.set_major_formatter("{x:.0f}%")
    ax.grid()
    if frequent(of):
        ax.legend(loc="lower left", fontsize=8.5)


def draw_over_iou(ax: "Axes", of: AveragePrecision) -> None:
    """Draw the average precision over the IoU from which on an object counts as found."""
    ax.plot(of.ious, 100 * precision_over_iou(of), color=BLUE, marker="o", markersize=3.5)
    ax.set_ylim(0, 101)
    ax.set_xlabel("IoU that is asked for")
    ax.set_ylabel("average precision")
    ax.yaxis.set_major_formatter("{x:.0f}%")
    ax.grid()


def draw_recall_by_size(ax: "Axes", of: AveragePrecision) -> None:
    """Draw which share of the objects of each size is found, and how many there are."""
    bars = (("at an IoU of 0.5", BLUE, of.recall[0]), ("mean over IoU", ORANGE, mean_recall(of)))
    for i, (label, color, recall) in enumerate(bars):
        places = np.arange(len(SIZES)) + 0.36 * i
        ax.barh(places, 100 * np.nan_to_num(recall), height=0.34, color=color, label=label)
        for place, share in zip(places, recall, strict=True):
            if np.isfinite(share):
                ax.text(100 * share + 1, place, f"{share:.0%}", va="center", color=GRAY)
    names = [f"{name}\n{n:,}" for name, n in zip(SIZES, of.sizes, strict=True)]
    ax.set_yticks(np.arange(len(SIZES)) + 0.18, names)
    ax.set_xlim(0, 112)
    ax.set_xticks(range(0, 101, 20))
    ax.invert_yaxis()
    ax.set_xlabel("recall")
    ax.xaxis.set_major_formatter("{x:.0f}%")
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower right", fontsize=8.5, bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.1)


def draw_mistakes(ax: "Axes", found: Mistakes) -> None:
    """Draw what repairing each kind of mistake would add to AP50, and how many there are."""
    gains, rows = np.array(list(found.gains.values())), np.arange(len(found.gains))
    ax.barh(rows, 100 * gains, color=BLUE, height=0.6)
    widest = max(float(100 * gains.max(initial=0)), 1.0)
    for i, (name, gain) in enumerate(found.gains.items()):
        text = f"+{gain:.1%}   ({found.counts[name]:,})"
        ax.text(100 * gain + 0.02 * widest, i, text, va="center", color=GRAY)
    ax.set_yticks(rows, list(found.gains))
    ax.set_xlim(0, 1.45 * widest)
    ax.invert_yaxis()
    ax.set_xlabel("AP50 to be gained")
    ax.xaxis.set_major_formatter("{x:.3g}%")
    ax.tick_params(axis="y", length=0)


def frequent(of: AveragePrecision) -> list[int]:
    """Return the classes with a curve: those with the most objects."""
    most = np.argsort(-of.truths, kind="stable")[:MOST_CURVES]
    return [int(k) for k in most if of.truths[k]]


def precision_over_iou(of: AveragePrecision) -> np.ndarray:
    """Return the average precision at each IoU, ``(T,)``, over the classes that are there."""
    there = of.truths > 0
    return of.precision[..., there].mean(axis=(1, 2)) if there.any() else np.zeros(len(of.ious))


def mean_recall(of: AveragePrecision) -> np.ndarray:
    """Return COCO's average recall of each of `SIZES`, ``(S,)``; NaN where there is none."""
    return np.array([of.figures[f"ar_{name}"] for name in SIZES])


def _draw_boxes(findings: Findings) -> Path:
    classes = findings.classes
    images = worst_images(findings.collected, findings.examples, MOST_SHOWN)
    tiles, captions = [], []
    for image in images:
        marks = (marks_true(image.truth, classes), marks_found(image.found, classes))
        tiles += [draw_marks(image.pixels, each, len(classes), least=SMALLEST) for each in marks]
        objects = int((~image.truth.ignored).sum())
        captions += ["truth", f"found  {image.hits} of {objects}"]
    subtitle = (
        f"the {len(images)} of {findings.examples.count:,} images it did worst on; what is found "
        f"with a score of {SURE:g} or more"
    )
    with figures.style():
        figure = figures.mistakes(
            np.stack(tiles), captions, title=findings.title, subtitle=subtitle, columns=4, cell=2.2
        )
        return figures.write(figure, findings.folder / "boxes.png")


def _draw_precision(findings: Findings) -> Path:
    assessment: Assessment = findings.collected
    of = assessment.of_task
    what = "boxes" if assessment.mask_precision is None else "masks"
    subtitle = f"of {what}: AP {of.figures['ap']:.2%}, AP50 {of.figures['ap50']:.2%}"
    with figures.style():
        figure = figures.titled_figure(9, 3.8, findings.title, subtitle)
        left, right = figure.subplots(1, 2)
        draw_precision_recall(left, of, findings.classes)
        left.set_title("precision over recall, at an IoU of 0.5")
        draw_over_iou(right, of)
        right.set_title("average precision over IoU")
        return figures.write(figure, findings.folder / "precision_recall.png")


def _draw_errors(findings: Findings) -> Path:
    found = findings.collected.mistakes
    subtitle = (
        f"what repairing each kind would add to AP50 {found.ap50:.2%}; in parentheses how many "
        f"there are with a score of {SURE:g} or more, beside {found.hits:,} hits"
    )
    with figures.style():
        figure = figures.titled_figure(7, 2.6, findings.title, subtitle)
        draw_mistakes(figure.subplots(), found)
        return figures.write(figure, findings.folder / "errors.png")
