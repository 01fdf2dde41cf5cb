"""The pictures of an embedding.

roc.png          how well pairs of one class are told from others, at every threshold
projection.png   the plane in which the embeddings differ most
retrieval.png    images whose nearest other image is of another class
"""

from pathlib import Path

import numpy as np

from . import pictures
from .pictures import BLUE, GREY, LIGHT, ORANGE, shortened
from .retrieval import PAIRED, neighbours, principal_plane, verification
from .task import Findings

MOST_POINTS = 3000
MOST_NAMED = 20  # classes with a colour of their own
MOST_MISTAKES = 12


def draw(findings: Findings) -> list[Path]:
    """The ROC curve, the projection, and retrievals that went wrong."""
    return [_draw_roc(findings), _draw_projection(findings), *_draw_mistakes(findings)]


def _draw_roc(findings: Findings) -> Path:
    found = verification(findings.kept, findings.examples.labels)
    subtitle = (
        f"pairs of {min(PAIRED, len(findings.kept)):,} images by their distance: AUC "
        f"{found.auc:.4f}, equal error rate {found.eer:.2%}; below {found.threshold:.3f} taken for "
        f"one class, {found.accuracy:.2%} are right"
    )
    with pictures.style():
        figure = pictures.titled_figure(5.4, 5.0, findings.title, subtitle)
        ax = figure.subplots()
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
            color=GREY,
        )
        ax.set_xscale("log")
        ax.set_xlim(lowest, 100)
        ax.set_ylim(0, 100)
        ax.set_xlabel("pairs of two classes taken for one")
        ax.set_ylabel("pairs of one class found")
        ax.xaxis.set_major_formatter("{x:g}%")
        ax.yaxis.set_major_formatter("{x:.0f}%")
        ax.grid()
        return pictures.write(figure, findings.folder / "roc.png")


def _draw_projection(findings: Findings) -> Path:
    from matplotlib import colormaps

    N = len(findings.kept)
    chosen = np.unique(np.linspace(0, N - 1, min(N, MOST_POINTS)).round().astype(np.int64))
    labels = findings.examples.labels[chosen]
    points, share = principal_plane(findings.kept[chosen])
    subtitle = (
        f"{len(chosen):,} images in the plane of most variance, {share:.0%} of it, out of "
        f"{findings.kept.shape[1]} dimensions"
    )
    colours = colormaps["tab10" if len(findings.classes) <= 10 else "tab20"]
    with pictures.style():
        figure = pictures.titled_figure(7.2, 5.4, findings.title, subtitle)
        ax = figure.subplots()
        for k, name in enumerate(findings.classes):
            at = points[labels == k]
            if k >= MOST_NAMED:
                ax.plot(*at.T, ".", color=LIGHT, markersize=4, zorder=1)
                continue
            look = {"color": colours(k), "markersize": 4, "alpha": 0.7, "markeredgewidth": 0}
            ax.plot(*at.T, ".", label=shortened(name, 18), **look)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        return pictures.write(figure, findings.folder / "projection.png")


def _draw_mistakes(findings: Findings) -> list[Path]:
    images, labels = findings.examples
    nearest = neighbours(findings.kept, 1)[:, 0]
    wrong = np.flatnonzero(labels[nearest] != labels)[:MOST_MISTAKES]
    if not len(wrong):
        return []
    total = int((labels[nearest] != labels).sum())
    shown = np.stack([wrong, nearest[wrong]], axis=1).ravel()
    names = [shortened(findings.classes[k], 14) for k in labels[shown]]
    captions = [f"nearest: {name}" if i % 2 else name for i, name in enumerate(names)]
    subtitle = f"the first {len(wrong)} of {total:,} images whose nearest is of another class"
    with pictures.style():
        figure = pictures.mistakes(
            np.asarray(images[shown]), captions, title=findings.title, subtitle=subtitle, columns=6
        )
        return [pictures.write(figure, findings.folder / "retrieval.png")]
