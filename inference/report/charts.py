"""The curves of a run's page."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...training.plots import figures
from ...training.plots.figures import BLUE
from ...training.plots.svg import Chart, chart_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(
    series: Mapping[str, Mapping[str, np.ndarray]],
    name: str,
    *,
    title: str,
    best_step: int | None,
    unit: str = "",
) -> Chart:
    """Draw a metric of training, validation and test over the steps.

    Args:
        series: as `figures.curves` takes them.
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
    return chart_of(title, draw, f"{title} over the steps: {'; '.join(said) or 'nothing yet'}.")


def learning_rate(train: Mapping[str, np.ndarray]) -> Chart:
    """Draw the learning rate over the steps."""

    def draw(ax: "Axes") -> None:
        marker = "o" if len(train["step"]) == 1 else None
        ax.plot(train["step"], train["learning_rate"], color=BLUE, linewidth=1.4, marker=marker)
        ax.set_ylim(bottom=0)
        ax.grid(axis="y")
        ax.yaxis.set_major_formatter("{x:.6g}")
        _over_steps(ax)

    said = _course("it", train["learning_rate"], "")
    return chart_of("learning rate", draw, f"Learning rate over the steps: {said}.")


def _over_steps(ax: "Axes") -> None:
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="x", nbins=5, integer=True)
    ax.set_xlabel("step")


def _course(kind: str, values: np.ndarray, unit: str) -> str:
    """Return how a curve goes, in words."""
    values = values[np.isfinite(values)]
    if not len(values):
        return f"{kind}: nothing"
    first, last = (f"{value:.4g}{unit}" for value in (values[0], values[-1]))
    if len(values) == 1:
        return f"{kind} {first}"
    return f"{kind} from {first} to {last}, least {values.min():.4g}{unit}"
