"""The results of several runs: means and standard deviations, a table, and a figure.

The standard deviation is that of a sample, with n - 1 below the root. Runs that diverged count in
neither, and are named.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..plots import figures
from ..plugins.tables import is_better_larger
from ..report.figures import best_validation, series
from ..run.directory import Run
from ..tasks.metric_names import NAMES, PERCENT_METRICS
from ..tasks.registry import spec_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Spread(NamedTuple):
    """Mean and standard deviation of a figure over n runs; the latter is None of a single run."""

    mean: float
    std: float | None
    n: int


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of values that are finite.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(mean=2.0, std=1.0, n=3)
    """
    found = [float(v) for v in values]
    n, mean = len(found), math.fsum(found) / len(found)
    if n == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (n - 1)), n)


def spread_of(values: Sequence[float]) -> str:
    """Return the spread of some values for people.

    Example:
        >>> spread_of([0.97, 0.99])
        '0.9800 +- 0.0141 (2 networks)'
    """
    mean, std, n = spread(values)
    return f"{mean:.4f}" + ("" if std is None else f" +- {std:.4f}") + f" ({n} networks)"


def results_of(
    members: Mapping[str, tuple[Run, Mapping[str, Any]]], *, sweep: bool
) -> dict[str, Any]:
    """Return the figures of each run, and their spread at each evaluation and in the test.

    Args:
        members: by name, a run and the keys of the config that are its own.
        sweep: whether these are other experiments, rather than the same one with other seeds: then
            the best by validation is named, and there is no mean.
    """
    rows = [_row(name, run, keys) for name, (run, keys) in members.items()]
    diverged = [row["name"] for row in rows if row["status"] == "diverged"]
    results = {"members": rows, "diverged": diverged}
    if sweep:
        validated = [row for row in rows if row["validation"] and row["name"] not in diverged]
        best = max(validated, key=lambda row: row["score"], default=None)
        return results | {"best": None if best is None else best["name"]}
    at: dict[int, list[dict[str, Any]]] = {}
    for name, (run, _) in members.items():
        for record in () if name in diverged else run.metrics():
            if record["kind"] == "validation":
                at.setdefault(record["step"], []).append(record)
    tests = [row["test"] for row in rows if row["test"] is not None]
    return results | {
        "validation": [{"step": step, **_spreads(records)} for step, records in sorted(at.items())],
        "test": _spreads(tests),
    }


def best_lines(results: Mapping[str, Any]) -> list[str]:
    """Return lines that say which run of a sweep is the best, and which ones diverged."""
    lines = []
    for row in results["members"]:
        if row["name"] == results["best"]:
            keys = ", ".join(f"{key} = {_number(value)}" for key, value in row["keys"].items())
            lines.append(f"best by validation:  {row['name']}  ({keys})")
    if results["diverged"]:
        lines.append(f"diverged:  {', '.join(results['diverged'])}")
    return lines


def _row(name: str, run: Run, keys: Mapping[str, Any]) -> dict[str, Any]:
    info, records = run.info(), run.metrics()
    metric = run.config().early_stopping.metric
    test = info.get("result", {}).get("test")
    sign = 1 if is_better_larger(metric) else -1
    best = best_validation(run)  # not the highest one: `Task.finalize` need not raise it
    if best is not None and not math.isfinite(best.get(metric, math.nan)):
        best = None
    return {
        "name": name,
        "keys": dict(keys),
        "status": info.get("status", "running"),
        "diverged_at_step": info.get("diverged_at_step"),
        "step": max((r["step"] for r in records), default=0),
        "score": None if best is None else sign * best[metric],  # the more the better
        "validation": None if best is None else _figures(best) | {"step": best["step"]},
        "test": None if test is None else _figures(test),
    }


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an evaluation, without what it counted."""
    return {k: v for k, v in record.items() if k == "loss" or k in NAMES}


def _spreads(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    names = list(_figures(records[0])) if records else []
    names = [name for name in names if all(name in record for record in records)]
    return {name: spread(r[name] for r in records)._asdict() for name in names}


def as_csv(results: Mapping[str, Any]) -> str:
    """Return the results as CSV, with one line for each run."""
    rows = [_flat(row) for row in results["members"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {"name": row["name"], **row["keys"], "status": row["status"], "step": row["step"]}
    for part in ("validation", "test"):
        flat |= {f"{part}_{name}": value for name, value in (row[part] or {}).items()}
    return flat


def as_table(results: Mapping[str, Any], metric: str) -> list[str]:
    """Return the results as lines of a table for people."""
    head = ["", *_keys(results), "status", f"validation {metric}", f"test {metric}", "test loss"]
    lines = [head, *(_cells(row, metric, _keys(results)) for row in results["members"])]
    return columns(lines)


def _keys(results: Mapping[str, Any]) -> list[str]:
    """The keys that are not the same in all runs, without the seed where the name has it."""
    rows = [row["keys"] for row in results["members"]]
    return [k for k in rows[0] if k != "seed" or len(rows[0]) > 1] if rows else []


def _cells(row: Mapping[str, Any], metric: str, keys: Sequence[str]) -> list[str]:
    status = row["status"]
    if status == "diverged":
        status = f"diverged at step {row['diverged_at_step']}"
    validation, test = row["validation"] or {}, row["test"] or {}
    numbers = [_number(v) for v in (validation.get(metric), test.get(metric), test.get("loss"))]
    return [row["name"], *(_number(row["keys"].get(k)) for k in keys), status, *numbers]


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Set rows of text in columns.

    Example:
        >>> columns([["a", "long one"], ["bcd", "e"]])
        ['a    long one', 'bcd  e']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]


def spread_lines(results: Mapping[str, Any]) -> list[str]:
    """Return lines with mean and standard deviation of the last evaluation and of the test."""
    lines = []
    for part, spreads in (
        ("last validation", (results["validation"] or [{}])[-1]),
        ("test", results["test"]),
    ):
        found = [_spread_text(name, s) for name, s in spreads.items() if name != "step"]
        if found:
            n = next(s["n"] for name, s in spreads.items() if name != "step")
            lines.append(f"{part}:  {', '.join(found)}  (mean and standard deviation of {n})")
    if results["diverged"]:
        lines.append(f"diverged, and not counted: {', '.join(results['diverged'])}")
    return lines


def _spread_text(name: str, found: Mapping[str, Any]) -> str:
    mean, std = found["mean"], found["std"]
    if name in PERCENT_METRICS:
        return f"{PERCENT_METRICS[name]} {mean:.2%}" + (
            "" if std is None else f" +- {100 * std:.2f}"
        )
    return f"{NAMES.get(name, name)} {mean:.4f}" + ("" if std is None else f" +- {std:.4f}")


def band_figure(runs: Sequence[Run], *, title: str, subtitle: str) -> "Figure":
    """Draw loss and error of runs of one length over the steps: each, their mean, and a band.

    The band is one standard deviation to each side, where at least two runs have that step.
    """
    task = spec_of(runs[0].config().task)
    figure = figures.titled_figure(8.5, 5.6, title, subtitle)
    panels = figure.subplots(2, 1, sharex=True)
    for ax, name, label in zip(panels, ("loss", "error"), ("loss", task.error), strict=True):
        ax.set_title(label)
        ax.grid(axis="y")
        for kind, color in (("train", figures.BLUE), ("validation", figures.ORANGE)):
            each = [series(run.metrics(), kind, task.metric) for run in runs]
            _draw_band(ax, [(s["step"], s[name]) for s in each], color, kind)
    panels[0].legend(loc="upper right", ncols=2)
    panels[1].set_xlabel("step")
    panels[1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def _draw_band(ax: "Axes", lines: Sequence[tuple[np.ndarray, np.ndarray]], color, label) -> None:
    at: dict[float, list[float]] = {}
    for steps, values in lines:
        ax.plot(steps, values, color=color, alpha=0.2, linewidth=0.6)
        for step, value in zip(steps, values, strict=True):
            at.setdefault(step, []).append(value)
    if not at:
        return
    steps = np.array(sorted(at))
    means = np.array([np.mean(at[s]) for s in steps])
    stds = np.array([np.std(at[s], ddof=1) if len(at[s]) > 1 else 0.0 for s in steps])
    ax.plot(steps, means, color=color, linewidth=1.6, label=f"{label}, mean")
    ax.fill_between(steps, means - stds, means + stds, color=color, alpha=0.2, linewidth=0)
