"""What a detection shows on the page of a run."""

from ...plots.page_parts import Example, Examples, Heatmap, PageParts, html_image, percent
from ...plots.svg import Chart, chart_of
from ..confusion import confusion_part
from ..task import Findings
from .assessment import Assessment, worst_images
from .average_precision import SIZES
from .drawing import draw_marks, marks_found, marks_true
from .figures import (
    draw_mistakes,
    draw_over_iou,
    draw_precision_recall,
    draw_recall_by_size,
    frequent,
    mean_recall,
    precision_over_iou,
)
from .mistakes import SURE, Mistakes

MOST_EXAMPLES = 12
BACKGROUND = "background"  # the row of what was found where there is nothing, the column of missed


def page(findings: Findings, heatmap: Heatmap | None) -> PageParts:
    """Return the confusion of objects, each class, curves, kinds of mistakes, the worst images."""
    del heatmap
    classes = findings.classes
    assessment: Assessment = findings.collected
    found = assessment.mistakes
    caption = "Average precision of each class"
    return PageParts(
        confusion=confusion_part(found.confusion, (*classes, BACKGROUND), "objects"),
        per_class=assessment.per_class().table(caption, classes),
        charts=_charts(assessment, found, classes),
        charts_title="Precision and mistakes",
        examples=Examples("Worst images", *worst(findings)),
    )


def worst(findings: Findings) -> tuple[str, list[Example]]:
    """Return a sentence, and truth and prediction of the images with the most missed."""
    classes = findings.classes
    images = worst_images(findings.collected, findings.examples, MOST_EXAMPLES)
    sentence = (
        f"The {len(images)} of {findings.examples.count:,} images with the least share of their "
        f"objects found with a score of {SURE:g} or more; of equal ones those with the surest "
        "mistake."
    )
    examples = []
    for image in images:
        there = draw_marks(image.pixels, marks_true(image.truth, classes), len(classes))
        found = draw_marks(image.pixels, marks_found(image.found, classes), len(classes))
        shown = [("truth", html_image(there, "Objects that are there"))]
        shown.append(("found", html_image(found, "Objects that were found")))
        objects = int((~image.truth.ignored).sum())
        name = f"{findings.examples.notes[image.number].file}: " if findings.examples.notes else ""
        examples.append(Example(shown, f"{name}{image.hits} of {objects} found"))
    return sentence, examples


def _charts(assessment: Assessment, found: Mistakes, classes: tuple[str, ...]) -> list[Chart]:
    of = assessment.of_task
    each = "; ".join(f"{classes[k]} {percent(of.per_class['ap50'][k])}" for k in frequent(of))
    over = precision_over_iou(of)
    ious = "; ".join(f"{iou:.2f}: {ap:.1%}" for iou, ap in zip(of.ious, over, strict=True))
    recall = "; ".join(
        f"{name} {percent(high)} at an IoU of 0.5, {percent(mean)} over IoU, of {n:,} objects"
        for name, high, mean, n in zip(SIZES, of.recall[0], mean_recall(of), of.sizes, strict=True)
    )
    gains = "; ".join(f"{name} {gain:+.1%}" for name, gain in found.gains.items())
    return [
        chart_of(
            "precision over recall at an IoU of 0.5",
            lambda ax: draw_precision_recall(ax, of, classes),
            f"AP50: {each or 'none'}.",
        ),
        chart_of(
            "average precision over IoU", lambda ax: draw_over_iou(ax, of), f"AP at IoU {ious}."
        ),
        chart_of(
            "recall by size of objects (up to 32², up to 96² pixels, larger)",
            lambda ax: draw_recall_by_size(ax, of),
            f"Recall of objects by size: {recall}.",
        ),
        chart_of(
            "what repairing mistakes would gain",
            lambda ax: draw_mistakes(ax, found),
            f"AP50 to be gained by kind of mistake: {gains}.",
        ),
    ]
