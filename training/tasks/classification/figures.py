"""The figures of a classification.

confusion.png   which classes are taken for which
mistakes.png    the wrong answers that the network was surest of
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...plots import figures
from ...plots.attempt import draw_each
from ...plots.figures import shortened
from ..confusion import error_shares, worst_confusions
from ..task import Findings

MOST_MISTAKES = 36


def draw(findings: Findings) -> list[Path]:
    """The confusion matrix and the worst mistakes."""
    answers = Answers(findings.collected, findings.examples.labels)
    return draw_each(
        {
            "confusion.png": lambda: _draw_confusion(findings, answers),
            "mistakes.png": lambda: _draw_mistakes(findings, answers),
        }
    )


class Answers(NamedTuple):
    """What the network says of some examples, and what they are."""

    probabilities: np.ndarray  # (N, K)
    labels: np.ndarray  # (N,)

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each example."""
        return self.probabilities.argmax(axis=-1)

    @property
    def confidences(self) -> np.ndarray:
        """The probability of that class."""
        return self.probabilities.max(axis=-1)


def confusion_counts(answers: Answers) -> np.ndarray:
    """``(K, K)``: how often class i (row) was taken for class j (column)."""
    K = answers.probabilities.shape[-1]
    cells = answers.labels.astype(np.int64) * K + answers.predictions
    return np.bincount(cells, minlength=K * K).reshape(K, K)


def worst_mistakes(answers: Answers, most: int) -> np.ndarray:
    """Indices of the wrongly classified examples, surest first."""
    wrong = np.flatnonzero(answers.predictions != answers.labels)
    return wrong[np.argsort(-answers.confidences[wrong], kind="stable")][:most]


def least_certain(answers: Answers, most: int) -> np.ndarray:
    """Indices of the correctly classified examples, least certain first."""
    right = np.flatnonzero(answers.predictions == answers.labels)
    return right[np.argsort(answers.confidences[right], kind="stable")][:most]


def shown_mistakes(answers: Answers, most: int) -> tuple[np.ndarray, int]:
    """`worst_mistakes`, and how many mistakes there are; `least_certain` where there are none."""
    total = int((answers.predictions != answers.labels).sum())
    return (worst_mistakes if total else least_certain)(answers, most), total


def _draw_confusion(findings: Findings, answers: Answers) -> Path:
    classes, counts = findings.classes, confusion_counts(answers)
    names = [shortened(name, 20) for name in classes]
    worst = [f"{names[i]} → {names[j]} ({n:,})" for i, j, n in worst_confusions(counts, 4)]
    unbroken = [pair.replace(" ", "\N{NO-BREAK SPACE}") for pair in worst]
    subtitle = f"most often confused: {', '.join(unbroken)}" if worst else "no mistakes"
    with figures.style():
        shares = error_shares(counts)
        figure = figures.confusion(counts, shares, classes, title=findings.title, subtitle=subtitle)
        return figures.write(figure, findings.folder / "confusion.png")


def _draw_mistakes(findings: Findings, answers: Answers) -> Path:
    images, classes = findings.examples.images, findings.classes
    chosen, total = shown_mistakes(answers, MOST_MISTAKES)
    subtitle = f"the {len(chosen)} of its {total:,} mistakes that it was surest of"
    if len(chosen) == total:
        subtitle = f"all its mistakes ({total}), the surest first"
    if not total:
        subtitle = f"no mistakes; these are the {len(chosen)} right answers it was least sure of"
    guesses, confidences = answers.predictions[chosen], answers.confidences[chosen]
    found = zip(answers.labels[chosen], guesses, confidences, strict=True)
    captions = [caption(classes[label], classes[guess], sure) for label, guess, sure in found]
    with figures.style():
        figure = figures.mistakes(
            np.asarray(images[chosen]), captions, title=findings.title, subtitle=subtitle
        )
        return figures.write(figure, findings.folder / "mistakes.png")


def caption(label: str, guess: str, confidence: float) -> str:
    """Say what an image is, and what it was taken for, in two lines where one is too long."""
    label, guess = shortened(label, 22), shortened(guess, 22)
    if label == guess:
        return f"{shortened(label, 17)}  {confidence:.0%}"
    if len(label) + len(guess) <= 14:
        return f"{label} → {guess}  {confidence:.0%}"
    return f"{label}\n→ {shortened(guess, 14)}  {confidence:.0%}"
