"""The tables of a run's page: numbers in, rows of text out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...training.tasks.classification.figures import Answers, error_shares

NOTHING = "\N{EN DASH}"  # where a share has no meaning


class Cell(NamedTuple):
    """A cell of the confusion matrix."""

    count: int  # type: ignore[override] -- tuple has a method of that name
    text: str  # what stands in it
    right: bool
    heat: float  # in [0, 1]: how much of the colour of errors it has
    words: str  # for whoever cannot see the table


class Table(NamedTuple):
    """Rows of text under the names of their columns."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    last: tuple[str, ...] | None = None  # a row that sums them up
    names: int = 1  # how many columns hold names, not numbers


def confusion_cells(
    counts: np.ndarray, classes: Sequence[str], *, shares: bool = False
) -> list[list[Cell]]:
    """A confusion matrix ``(K, K)`` as cells with their counts, or with shares of their rows."""
    heat = error_heat(counts)

    def cell(i: int, j: int) -> Cell:
        n = int(counts[i, j])
        text = percent(n / max(int(counts[i].sum()), 1)) if shares else str(n)
        words = f"{classes[i]} taken for {classes[j]}"
        return Cell(n, text, i == j, round(float(heat[i, j]), 3), words)

    return [[cell(i, j) for j in range(len(classes))] for i in range(len(classes))]


def error_heat(counts: np.ndarray) -> np.ndarray:
    """How warm each cell of a confusion matrix is, as in `training.plots.figures.confusion`."""
    shares = error_shares(counts)
    return np.sqrt(np.nan_to_num(shares) / max(0.1, float(np.nanmax(shares, initial=0))))


def per_class(answers: Answers, classes: Sequence[str]) -> Table:
    """Precision, recall, F1 and support of each class, and their plain means.

    A share of nothing, as the precision of a class that is never the answer, is a dash, and left
    out of the mean.
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        answers.labels,
        answers.predictions,
        labels=np.arange(len(classes)),
        zero_division=np.nan,  # pyright: ignore[reportArgumentType] -- its stub knows words alone
    )
    columns = [np.asarray(column, float) for column in (precision, recall, f1)]
    rows = [
        (name, *(percent(column[k]) for column in columns), f"{int(n):,}")
        for k, (name, n) in enumerate(zip(classes, np.asarray(support), strict=True))
    ]
    means = [float(c[np.isfinite(c)].mean()) if np.isfinite(c).any() else math.nan for c in columns]
    last = ("mean", *map(percent, means), f"{len(answers.labels):,}")
    heads = ("class", "precision", "recall", "F1", "images")
    return Table("Precision, recall and F1 of each class", heads, rows, last)


def per_class_iou(counts: np.ndarray, values: np.ndarray, classes: Sequence[str]) -> Table:
    """The intersection over union of each class, and its share of the pixels."""
    pixels = counts.sum(axis=1)
    total = max(int(pixels.sum()), 1)
    rows = [
        (name, percent(value), percent(int(n) / total))
        for name, value, n in zip(classes, values, pixels, strict=True)
    ]
    there = values[np.isfinite(values)]
    mean = float(there.mean()) if len(there) else math.nan
    last = ("mean", percent(mean), "")
    return Table("Intersection over union of each class", ("class", "IoU", "of pixels"), rows, last)


def percent(share: float) -> str:
    """A share for people.

    Example:
        >>> percent(0.98765), percent(float("nan"))
        ('98.8%', '–')
    """
    return f"{share:.1%}" if math.isfinite(share) else NOTHING
