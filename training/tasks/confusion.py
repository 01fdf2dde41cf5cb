"""Which classes are taken for which: a confusion matrix ``(K, K)``, in words and in colors.

``counts[i, j]`` is how often class i was taken for class j, in images or in pixels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..plots import figures
from ..plots.figures import LIGHT, ORANGE
from ..plots.page_parts import Cell, Confusion, Table, percent
from ..plots.svg import Chart, chart_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS = 15  # classes; beyond, the counts of a confusion matrix do not fit on a phone
MOST_PAIRS = 10
MOST_NAMES = 16  # of classes, along an axis


def error_shares(counts: np.ndarray) -> np.ndarray:
    """The share of each class (row) that was taken for each other class; NaN on the diagonal."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, np.nan)
    return shares


def worst_confusions(counts: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The commonest errors as (class, taken for, count), commonest first."""
    errors = counts - np.diag(np.diag(counts))
    cells = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = [divmod(int(cell), len(counts)) for cell in cells]
    return [(i, j, int(errors[i, j])) for i, j in pairs if errors[i, j]]


def confusion_part(counts: np.ndarray, classes: Sequence[str], what: str) -> Confusion:
    """A confusion matrix, and its worst cells in words."""
    few = len(classes) <= MOST_CELLS
    pairs = [(classes[i], classes[j], f"{n:,}") for i, j, n in worst_confusions(counts, MOST_PAIRS)]
    caption = f"The commonest of {int(counts.sum() - counts.trace()):,} mistakes"
    return Confusion(
        confusion_cells(counts, classes, shares=what == "pixels") if few else [],
        None if few else confusion_chart(counts, classes),
        Table(caption, ("class", "taken for", what), pairs, names=2),
        classes,
    )


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
    """Return how warm each cell of a confusion matrix is, as `plots.figures.confusion` has it."""
    shares = error_shares(counts)
    return np.sqrt(np.nan_to_num(shares) / max(0.1, float(np.nanmax(shares, initial=0))))


def confusion_chart(counts: np.ndarray, classes: Sequence[str]) -> Chart:
    """A confusion matrix ``(K, K)`` of many classes: colors alone, a name here and there."""
    heat, K = error_heat(counts), len(classes)
    shown = range(0, K, math.ceil(K / MOST_NAMES))
    names = [figures.shortened(classes[i], 18) for i in shown]

    def draw(ax: "Axes") -> None:
        from matplotlib.colors import to_rgba

        image = np.full((K, K, 4), to_rgba(ORANGE))  # over the page: right for light and dark
        image[..., 3] = heat
        ax.imshow(
            image, interpolation="none"
        )  # the pixels themselves, however large they are drawn
        ax.plot([0, K - 1], [0, K - 1], color=LIGHT, linewidth=0.8, zorder=0)  # right answers
        ax.set_xticks(shown, names, rotation=90)
        ax.set_yticks(shown, names)
        ax.tick_params(length=0, labelsize=8)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("taken for")
        ax.set_ylabel("true class")

    alt = f"Confusion matrix of {K} classes; the commonest mistakes stand in the table."
    return chart_of("true class and answer", draw, alt, height=4.2)
