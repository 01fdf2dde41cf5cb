"""The figures of each class by itself, and which of them are undefined.

A class that is there and never predicted has precision 0; one that is neither there nor predicted
has no figure at all (NaN), and counts in no mean.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..common.text import plain_line
from ..data import named
from ..plots.page_parts import Table, percent

HEADS = {
    "average_precision": "AP",
    "f1": "F1",
    "iou": "IoU",
    "ap": "AP",
    "ap50": "AP50",
    "ar_small": "AR small",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
}  # of a table; else the name itself


class PerClass(NamedTuple):
    """Figures of each class ``(K,)``.

    Attributes:
        figures: by name; NaN where one is undefined.
        support: how many examples, or pixels, are of each class.
        predicted: how many are predicted as each.
        unit: what these are, "images" or "pixels".
    """

    figures: dict[str, np.ndarray]
    support: np.ndarray
    predicted: np.ndarray
    unit: str

    def remarks(self, classes: Sequence[str]) -> list[str]:
        """Return a line on classes that are never predicted, and one on those that are nowhere.

        Example:
            >>> found = of_confusion(np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]]), "images")
            >>> found.remarks(("cat", "dog", "cow"))
            ["never predicted, which counts as precision 0: 'dog'", "undefined: 'cow'"]
        """
        there, said = self.support > 0, self.predicted > 0
        texts = {
            "never predicted, which counts as precision 0": there & ~said,
            "not there but predicted, which leaves recall undefined": said & ~there,
            "undefined": ~there & ~said,
        }
        found = ((text, np.flatnonzero(which)) for text, which in texts.items())
        return [f"{text}: {named(classes, which)}" for text, which in found if which.size]

    def table(self, caption: str, classes: Sequence[str]) -> Table:
        """Return a row for each class, and their means over the classes that are defined."""
        columns = list(self.figures.values())
        rows = [
            (name, *(percent(float(column[k])) for column in columns), f"{int(n):,}")
            for k, (name, n) in enumerate(zip(classes, self.support, strict=True))
        ]
        last = ("mean", *(percent(mean_of(c, otherwise=math.nan)) for c in columns), "")
        heads = ("class", *(HEADS.get(name, name) for name in self.figures), self.unit)
        return Table("; ".join([caption, *self.remarks(classes)]), heads, rows, last)

    def lines(self, classes: Sequence[str]) -> list[str]:
        """Return the table as lines of text in columns."""
        table = self.table("", [plain_line(name, 40) for name in classes])
        rows = [table.columns, *table.rows, table.last or ()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]

    def as_record(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the figures of each class by its name, None where undefined, for JSON."""
        return {
            name: {
                key: None if math.isnan(column[k]) else float(column[k])
                for key, column in self.figures.items()
            }
            | {self.unit: int(self.support[k])}
            for k, name in enumerate(classes)
        }


def of_confusion(counts: np.ndarray, unit: str, *, iou: bool = False) -> PerClass:
    """Return precision, recall and F1 of each class.

    The values are scikit-learn's, which takes a second to import.

    Args:
        counts: ``(K, K)``, how often class i was taken for class j.
        unit: what is counted.
        iou: whether to return the intersection over union in place of F1.
    """
    right, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    figures = precision_recall_f1(right, support, predicted)
    if iou:
        del figures["f1"]
        figures = {"iou": share(right, support + predicted - right)} | figures
    return PerClass(figures, support, predicted, unit)


def precision_recall_f1(
    right: np.ndarray, support: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Return precision, recall and F1 of each class from its counts, each ``(K,)``.

    Example:
        >>> found = precision_recall_f1(*np.array([[1, 0, 0], [2, 2, 0], [1, 0, 0]]))
        >>> {name: column.round(2).tolist() for name, column in found.items()}
        {'precision': [1.0, 0.0, nan], 'recall': [0.5, 0.0, nan], 'f1': [0.67, 0.0, nan]}
    """
    precision = np.where((predicted == 0) & (support > 0), 0.0, share(right, predicted))
    f1 = share(2 * right, support + predicted)
    return {"precision": precision, "recall": share(right, support), "f1": f1}


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, NaN where that is nothing of nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_of(values: np.ndarray, otherwise: float = 0.0) -> float:
    """Return the mean of the values that are defined; `otherwise` where none is.

    Example:
        >>> mean_of(np.array([0.5, np.nan, 1.0]))
        0.75
    """
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else otherwise
