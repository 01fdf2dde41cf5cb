"""The figures of an embedding.

roc.png          how well pairs of one class are told from others, at every threshold
projection.png   the plane in which the embeddings differ most
retrieval.png    images whose nearest other image is of another class
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...plots import figures
from ...plots.attempt import draw_each
from ...plots.figures import BLUE, GRAY, LIGHT, ORANGE, shortened
from ..task import Findings
from .metrics import PAIRED, Verification, neighbors, principal_plane, verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 3000
MOST_NAMED = 20  # classes with a color of their own
MOST_MISTAKES = 12


def draw(findings: Findings) -> list[Path]:
    """The ROC curve, the projection, and retrievals that went wrong."""
    return draw_each(
        {
            "roc.png": lambda: _draw_roc(findings),
            "projection.png": lambda: _draw_projection(findings),
            "retrieval.png": lambda: _draw_mistakes(findings),
        }
    )


def _draw_roc(findings: Findings) -> Path:
    found = verification(findings.collected, findings.examples.labels)
    subtitle = (
        f"pairs of {min(PAIRED, len(findings.collected)):,} images by their distance: AUC "
        f"{found.auc:.4f}, equal error rate {found.eer:.2%}; below {found.threshold:.3f} taken for "
        f"one class, {found.accuracy:.2%} are right"
    )
    with figures.style():
        figure = figures.titled_figure(5.4, 5.0, findings.title, subtitle)
        draw_roc(figure.subplots(), found)
        return figures.write(figure, findings.folder / "roc.png")


def draw_roc(ax: "Axes", found: Verification) -> None:
    """Draw how many pairs of one class are found, over how many of two are taken for one."""
    # Logarithmic: what matters is how many are found while false alarms are rare.
    rarest = found.false_positives[found.false_positives > 0].min(initial=1.0)
    lowest = 100 * min(max(1e-5, rarest), 0.1)
    ax.plot(np.maximum(100 * found.false_positives, lowest), 100 * found.true_positives, BLUE)
    eer = 100 * found.eer
    ax.plot([max(eer, lowest)], [100 - eer], "o", color=ORANGE, clip_on=False)
    ax.annotate(
        "equal error rate",
        (max(eer, lowest), 100 - eer),
        (10, -4),
        textcoords="offset points",
        va="top",
        color=GRAY,
    )
    ax.set_xscale("log")
    ax.set_xlim(lowest, 100)
    ax.set_ylim(0, 100)
    ax.set_xlabel("pairs of two classes taken for one")
    ax.set_ylabel("pairs of one class found")
    ax.xaxis.set_major_formatter("{x:g}%")
    ax.yaxis.set_major_formatter("{x:.0f}%")
    ax.grid()


def _draw_projection(findings: Findings) -> Path:
    plane = plane_of(findings.collected)
    shown = len(plane.chosen)
    subtitle = (
        f"{shown:,} images in the plane of most variance, {plane.share:.0%} of it, out of "
        f"{findings.collected.shape[1]} dimensions"
    )
    labels = findings.examples.labels[plane.chosen]
    with figures.style():
        figure = figures.titled_figure(7.2, 5.4, findings.title, subtitle)
        ax = figure.subplots()
        draw_plane(ax, plane.points, labels, findings.classes)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
        return figures.write(figure, findings.folder / "projection.png")


class Plane(NamedTuple):
    """Embeddings in the plane in which they differ most."""

    chosen: np.ndarray  # (n,), which of them, spread evenly
    points: np.ndarray  # (n, 2)
    share: float  # of the variance


def plane_of(embeddings: np.ndarray) -> Plane:
    """`MOST_POINTS` of the embeddings ``(N, D)`` at most."""
    N = len(embeddings)
    chosen = np.unique(np.linspace(0, N - 1, min(N, MOST_POINTS)).round().astype(np.int64))
    return Plane(chosen, *principal_plane(embeddings[chosen]))


def draw_plane(
    ax: "Axes", points: np.ndarray, labels: np.ndarray, classes: Sequence[str], **look: Any
) -> None:
    """The points ``(n, 2)`` in their classes' colors; names go to the legend."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if len(classes) <= 10 else "tab20"]
    for k, name in enumerate(classes):
        at = points[labels == k]
        if k >= MOST_NAMED:
            ax.plot(*at.T, ".", color=LIGHT, markersize=4, zorder=1, **look)
            continue
        dots = {"color": colors(k), "markersize": 4, "alpha": 0.7, "markeredgewidth": 0, **look}
        ax.plot(*at.T, ".", label=shortened(name, 18), **dots)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def wrong_neighbors(kept: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``(n, 2)``: the images whose nearest other image is of another class, and that one."""
    if len(kept) < 2:
        return np.empty((0, 2), np.int64)
    nearest = neighbors(kept, 1)[:, 0]
    wrong = np.flatnonzero(labels[nearest] != labels)
    return np.stack([wrong, nearest[wrong]], axis=1)


def _draw_mistakes(findings: Findings) -> list[Path]:
    images, labels, _ = findings.examples
    wrong = wrong_neighbors(findings.collected, labels)
    if not len(wrong):
        return []
    total, wrong = len(wrong), wrong[:MOST_MISTAKES]
    shown = wrong.ravel()
    names = [shortened(findings.classes[k], 14) for k in labels[shown]]
    captions = [f"nearest: {name}" if i % 2 else name for i, name in enumerate(names)]
    subtitle = f"the first {len(wrong)} of {total:,} images whose nearest is of another class"
    with figures.style():
        figure = figures.mistakes(
            np.asarray(images[shown]), captions, title=findings.title, subtitle=subtitle, columns=6
        )
        return [figures.write(figure, findings.folder / "retrieval.png")]
