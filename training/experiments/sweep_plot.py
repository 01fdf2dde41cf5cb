"""The figure of a sweep: the metric of each run against one of the swept keys."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..plots import figures
from ..tasks.metric_names import NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_sweep(results: Mapping[str, Any], key: str, metric: str, *, title: str) -> "Figure":
    """Draw the best validation of each run, or its test where there is no validation.

    A key of numbers that span a factor of ten or more has a logarithmic axis; one of words has a
    place for each. Runs that diverged stand as crosses below.
    """
    part = "validation" if any(row["validation"] for row in results["members"]) else "test"
    rows = [(row["keys"][key], (row[part] or {}).get(metric)) for row in results["members"]]
    values = [value for value, _ in rows]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    words = sorted({str(v) for v in values}) if not numbers else []
    place = (lambda v: v) if numbers else (lambda v: words.index(str(v)))

    figure = figures.titled_figure(6.5, 4.0, title, f"best {part} {metric} against {key}")
    ax = figure.subplots()
    good = [(place(v), m) for v, m in rows if m is not None]
    ax.plot(*zip(*good, strict=True) if good else ([], []), "o", color=figures.BLUE, alpha=0.7)
    lost = [place(v) for v, m in rows if m is None]
    if lost:
        ax.plot(
            lost,
            [0.02] * len(lost),
            "x",
            color=figures.ORANGE,
            label="diverged",
            transform=ax.get_xaxis_transform(),
        )
        ax.legend()
    if words:
        ax.set_xticks(range(len(words)), [figures.shortened(word, 24) for word in words])
    elif min(values) > 0 and max(values) >= 10 * min(values):
        figures.log_x(ax)
    ax.set_xlabel(key)
    ax.set_ylabel(NAMES.get(metric, metric))
    ax.grid(axis="y")
    return figure
