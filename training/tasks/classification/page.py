"""What a classification shows on the page of a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...plots.figures import BLUE, GRAY, LIGHT
from ...plots.page_parts import (
    Calibration,
    Example,
    Examples,
    Heatmap,
    PageParts,
    Table,
    html_image,
    overlay,
)
from ...plots.svg import Chart, chart_of
from ..confusion import confusion_part
from ..per_class import of_confusion
from ..task import Findings
from .calibration import (
    Reliability,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from .figures import Answers, confusion_counts, shown_mistakes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_MISTAKES = 12


def page(findings: Findings, heatmap: Heatmap | None) -> PageParts:
    """Return the confusion matrix, each class, the calibration, and the worst mistakes."""
    classes = findings.classes
    answers = Answers(findings.collected, findings.examples.labels)
    said = reliability(answers.probabilities, answers.labels)
    likelihood = negative_log_likelihood(answers.probabilities, answers.labels)
    return PageParts(
        confusion=confusion_part(confusion_counts(answers), classes, "images"),
        per_class=per_class(answers, classes),
        calibration=Calibration(
            calibration(said),
            f"Expected calibration error {expected_calibration_error(said):.2%}, negative "
            f"log-likelihood {likelihood:.4f}. On the dashed line, answers are as often right as "
            "the network is sure; above it they are right more often. Bars: the share of all "
            "answers.",
        ),
        examples=Examples("Worst mistakes", *mistakes(findings, heatmap)),
    )


def per_class(answers: Answers, classes: Sequence[str]) -> Table:
    """Return precision, recall, F1 and support of each class, and their plain means."""
    found = of_confusion(confusion_counts(answers), "images")
    table = found.table("Precision, recall and F1 of each class", classes)
    means = (table.last or ())[:-1]
    return table._replace(last=(*means, f"{len(answers.labels):,}"))


def calibration(found: Reliability) -> Chart:
    """Chart how often predictions of each confidence are right, and how many there are of each."""
    bins = len(found.counts)
    shown = found.counts > 0
    error = expected_calibration_error(found)

    def draw(ax: "Axes") -> None:
        middles = (np.arange(bins) + 0.5) * 100 / bins
        ax.plot([0, 100], [0, 100], color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
        heights = 100 * found.counts / max(int(found.counts.sum()), 1)
        ax.bar(middles, heights, width=90 / bins, color=LIGHT, linewidth=0)
        # The area of a dot grows with its share: one of a few examples says little.
        area = 12 + 100 * found.counts[shown] / max(int(found.counts.sum()), 1)
        at = (100 * found.confidence[shown], 100 * found.accuracy[shown])
        ax.scatter(*at, s=area, color=BLUE, clip_on=False, zorder=3)
        ax.set_xlim(0, 100)
        ax.set_ylim(0, 100)
        ax.set_xlabel("confidence")
        ax.set_ylabel("right answers")
        ax.xaxis.set_major_formatter("{x:.0f}%")
        ax.yaxis.set_major_formatter("{x:.0f}%")
        ax.grid()

    said = "; ".join(
        f"{c:.0%} sure, {a:.0%} right ({n:,})"
        for c, a, n in zip(
            found.confidence[shown], found.accuracy[shown], found.counts[shown], strict=True
        )
    )
    alt = f"Share of right answers by confidence: {said}. Expected calibration error {error:.2%}."
    return chart_of("right answers by confidence", draw, alt)


def mistakes(findings: Findings, heatmap: Heatmap | None) -> tuple[str, list[Example]]:
    """The wrong answers that the network was surest of, and where it saw what it said.

    Returns:
        What they are, and at most `MOST_MISTAKES` of them; the right answers that it was least
        sure of, where there are no mistakes.
    """
    answers = Answers(findings.collected, findings.examples.labels)
    chosen, total = shown_mistakes(answers, MOST_MISTAKES)
    title = f"The {len(chosen)} of its {total:,} mistakes that it was surest of."
    if len(chosen) == total:
        title = f"All its mistakes ({total}), the surest first."
    if not total:
        title = f"No mistakes: the {len(chosen)} right answers that it was least sure of."
    if heatmap is not None:
        title += (
            " Beside each, warm: where the network saw what it said (Grad-CAM; saliency, where it "
            "has no maps of features)."
        )
    classes = findings.classes
    images = np.asarray(findings.examples.images[chosen])
    guesses, sure = answers.predictions[chosen], answers.confidences[chosen]
    examples = []
    for image, label, guess, share in zip(
        images, answers.labels[chosen], guesses, sure, strict=True
    ):
        name, said = classes[int(label)], classes[int(guess)]
        shown = [("image", html_image(image, f"An image of {name}"))]
        if heatmap is not None:
            warm = overlay(heatmap(image, int(guess)))
            shown.append(("heat map", html_image(image, f"Warm: where it sees {said}", warm)))
        right = label == guess
        line = (
            f"{name}, {share:.0%} sure" if right else f"{name}, taken for {said}, {share:.0%} sure"
        )
        examples.append(Example(shown, line))
    return title, examples
