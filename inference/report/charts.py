"""The charts of a run's page: SVG that takes its colours from the page, for light and dark."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...training.plots import figures
from ...training.plots.figures import BLUE, GREEN, GREY, INK, LIGHT, ORANGE
from ...training.tasks.embedding.figures import draw_plane, draw_roc, plane_of
from ...training.tasks.embedding.metrics import Verification
from ..calibration.metrics import Reliability, expected_calibration_error
from .tables import error_heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMES = 16  # of classes, along an axis

# What a colour of a figure is called in the page's stylesheet.
NAMES = {
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    INK: "--ink",
    GREY: "--quiet",
    LIGHT: "--edge",
    figures.STYLE["grid.color"]: "--line",
    "#ffffff": "--card",
}


class Chart(NamedTuple):
    """A chart, and in words what it shows."""

    title: str
    svg: str  # an <svg> element; text in it is escaped
    alt: str


def curve(
    series: Mapping[str, Mapping[str, np.ndarray]],
    name: str,
    *,
    title: str,
    best_step: int | None,
    unit: str = "",
) -> Chart:
    """A figure of training, validation and test over the steps.

    Args:
        series: as `pictures.curves` takes them.
        name: the column.
        title: what it is called.
        best_step: where the best checkpoint is.
        unit: "%" for a share.
    """

    def draw(ax: "Axes") -> None:
        figures.draw_curve(ax, series, name, best_step, unit)
        for line in ax.lines:
            line.set_alpha(0.8)  # of any less, nothing is seen on a dark page
        _over_steps(ax)

    factor = 100 if unit else 1
    said = [
        _course(kind, factor * columns[name], unit)
        for kind, columns in series.items()
        if np.isfinite(columns[name]).any()
    ]
    return _chart(title, draw, f"{title} over the steps: {'; '.join(said) or 'nothing yet'}.")


def learning_rate(train: Mapping[str, np.ndarray]) -> Chart:
    """The learning rate over the steps."""

    def draw(ax: "Axes") -> None:
        marker = "o" if len(train["step"]) == 1 else None
        ax.plot(train["step"], train["learning_rate"], color=BLUE, linewidth=1.4, marker=marker)
        ax.set_ylim(bottom=0)
        ax.grid(axis="y")
        ax.yaxis.set_major_formatter("{x:.6g}")
        _over_steps(ax)

    said = _course("it", train["learning_rate"], "")
    return _chart("learning rate", draw, f"Learning rate over the steps: {said}.")


def calibration(found: Reliability) -> Chart:
    """How often answers of each confidence are right, and how many there are of each."""
    bins = len(found.counts)
    shown = found.counts > 0
    error = expected_calibration_error(found)

    def draw(ax: "Axes") -> None:
        middles = (np.arange(bins) + 0.5) * 100 / bins
        ax.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
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
    return _chart("right answers by confidence", draw, alt)


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Chart:
    """A confusion matrix ``(K, K)`` of many classes: colours alone, a name here and there."""
    heat, K = error_heat(counts), len(classes)
    shown = range(0, K, math.ceil(K / MOST_NAMES))
    names = [figures.shortened(classes[i], 18) for i in shown]

    def draw(ax: "Axes") -> None:
        from matplotlib.colors import to_rgba

        picture = np.full((K, K, 4), to_rgba(ORANGE))  # over the page: right for light and dark
        picture[..., 3] = heat
        ax.imshow(
            picture, interpolation="none"
        )  # the pixels themselves, however large they are drawn
        ax.plot([0, K - 1], [0, K - 1], color=LIGHT, linewidth=0.8, zorder=0)  # right answers
        ax.set_xticks(shown, names, rotation=90)
        ax.set_yticks(shown, names)
        ax.tick_params(length=0, labelsize=8)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("taken for")
        ax.set_ylabel("true class")

    alt = f"Confusion matrix of {K} classes; the commonest mistakes stand in the table."
    return _chart("true class and answer", draw, alt, height=4.2)


def roc(found: Verification) -> Chart:
    """How well pairs of one class are told from pairs of two, at every threshold."""

    alt = (
        f"Receiver operating characteristic: area under it {found.auc:.4f}; at the dot both errors "
        f"are equally common, {found.eer:.2%}."
    )
    return _chart("pairs told apart", partial(draw_roc, found=found), alt)


def projection(embeddings: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Chart:
    """The embeddings ``(N, D)`` in the plane in which they differ most."""
    plane = plane_of(embeddings)

    def draw(ax: "Axes") -> None:
        # Thousands of points would be as many elements.
        draw_plane(ax, plane.points, labels[plane.chosen], classes, rasterized=True)
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=4,
            markerscale=2.5,
            fontsize=8.5,
            handletextpad=0.1,
            columnspacing=1,
        )

    alt = (
        f"{len(plane.chosen):,} embeddings in the plane of most variance ({plane.share:.0%} of "
        "it), a colour for each class."
    )
    return _chart("the plane in which they differ most", draw, alt, height=4.2)


def _over_steps(ax: "Axes") -> None:
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="x", nbins=5, integer=True)
    ax.set_xlabel("step")


def _course(kind: str, values: np.ndarray, unit: str) -> str:
    """How a curve goes, in words."""
    values = values[np.isfinite(values)]
    if not len(values):
        return f"{kind}: nothing"
    first, last = (f"{value:.4g}{unit}" for value in (values[0], values[-1]))
    if len(values) == 1:
        return f"{kind} {first}"
    return f"{kind} from {first} to {last}, least {values.min():.4g}{unit}"


def _chart(title: str, draw: Callable[["Axes"], None], alt: str, height: float = 3.1) -> Chart:
    """An <svg> element of the figure that is drawn into the axes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Text stays text; what is defined in one chart has other names than in the next.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 10.5}
    content = io.StringIO()
    with figures.style(), rc_context(settings):
        figure = Figure((4.2, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return Chart(title, _inline(content.getvalue()), alt)


def _inline(svg: str) -> str:
    """An SVG file as an element of a page, in the page's colours, hidden from a screen reader."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)  # the same in each chart
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    svg = re.sub(
        r"<svg[^>]*>", f'<svg {box[0]} aria-hidden="true" focusable="false">', svg, count=1
    )
    svg = svg.replace("xlink:href", "href")
    for colour, name in NAMES.items():
        svg = re.sub(rf"(?<=: ){colour}\b", f"var({name})", svg, flags=re.IGNORECASE)
    return svg.strip()
