"""Runs side by side: their results, where their configs differ, and their curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors

from ..common.text import text_of_name
from ..config.schema import Config
from ..plots import figures
from ..report.figures import best_validation, duration, series, training_seconds
from ..run import checkpoint
from ..run.directory import Run, RunError, open_run
from ..run.study_directory import Study, is_study
from ..tasks.metric_names import named_metrics
from ..tasks.registry import spec_of
from .results import columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IN_LEGEND = 16
MOST_COLUMNS = 5  # keys that differ, in the table for people


class Compared(NamedTuple):
    """One run among others."""

    name: str
    run: Run
    status: str
    step: int
    parameters: int | None
    seconds: float
    validation: dict[str, Any] | None  # the evaluation of its best checkpoint
    test: dict[str, Any] | None
    keys: dict[str, Any]  # of its config, those in which not all runs are the same

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict() | {"run": str(self.run.path)}


def compare(paths: Sequence[str | Path]) -> list[Compared]:
    """Compare runs, and the runs of studies, side by side.

    Args:
        paths: directories of runs and of studies.

    Returns:
        One row for each run.

    Raises:
        RunError: one of them is neither a run nor a study, or there is nothing to compare.
    """
    runs = list(dict.fromkeys(run for path in paths for run in _runs_at(Path(path))))
    if len(runs) < 2:
        raise RunError("compare: got one run; name two or more, or a study")
    names = _names([run.path for run in runs])
    keys = differing_keys([run.config() for run in runs])
    return [_compared(name, run, own) for name, run, own in zip(names, runs, keys, strict=True)]


def differing_keys(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """Return of each config the keys in which not all are the same; None where it lacks one.

    Example:
        >>> from convax.training.config.schema import load_config
        >>> configs = [load_config("lenet5-digits", [f"seed={seed}"]) for seed in (0, 1)]
        >>> differing_keys(configs)
        [{'seed': 0}, {'seed': 1}]
    """
    flat = [_flat(config.model_dump(exclude_none=True)) for config in configs]
    names = list(dict.fromkeys(name for table in flat for name in table))
    differing = [name for name in names if any(t.get(name) != flat[0].get(name) for t in flat)]
    return [{name: table.get(name) for name in differing} for table in flat]


def table(rows: Sequence[Compared]) -> list[str]:
    """Return the comparison as lines of a table for people."""
    keys = list(rows[0].keys)
    shown = keys[:MOST_COLUMNS]
    head = ["run", "status", "steps", "parameters", "time", "validation", "test", *shown]
    lines = columns([head, *(_cells(row, shown) for row in rows)])
    if len(keys) > len(shown):
        more = ", ".join(keys[MOST_COLUMNS:])
        lines.append(f"they differ in these, too (--json has the values): {more}")
    return lines


def overlay(rows: Sequence[Compared]) -> "Figure":
    """Draw loss and error of all runs over the steps: of the validation, or else of training."""
    title = f"{len(rows)} runs"
    figure = figures.titled_figure(9.0, 6.0, title, "validation; training where there is none")
    panels = figure.subplots(2, 1, sharex=True)
    tasks = [spec_of(row.run.config().task) for row in rows]
    errors = dict.fromkeys(task.error for task in tasks)
    for ax, name, label in zip(panels, ("loss", "error"), ("loss", ", ".join(errors)), strict=True):
        ax.set_title(label)
        ax.grid(axis="y")
        for index, (row, task) in enumerate(zip(rows, tasks, strict=True)):
            steps, values = _curve(row.run, name, task.metric)
            marker = "o" if len(steps) < 3 else ""
            color = figures.color_of(index, len(rows))
            ax.plot(steps, values, label=row.name, color=color, marker=marker, linewidth=1.2)
    if len(rows) <= MOST_IN_LEGEND:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    panels[1].set_xlabel("step")
    panels[1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def draw(rows: Sequence[Compared], path: Path) -> Path:
    """Write the curves of all runs as PNG."""
    with figures.style():
        return figures.write(overlay(rows), path)


def _runs_at(path: Path) -> list[Run]:
    """A run, or those of a study that have begun."""
    if not is_study(path):
        return [open_run(path)]
    study = Study(path)
    return [run for run in map(study.run, study.members) if (run.path / "config.toml").is_file()]


def _names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as it takes to tell them apart."""
    whole = [Path(text_of_name(str(path.resolve()))).parts for path in paths]
    names, deepest = [""] * len(whole), max(map(len, whole))
    for depth in range(1, deepest + 1):
        names = ["/".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(names):
            break
    return names


def _compared(name: str, run: Run, keys: dict[str, Any]) -> Compared:
    info, records = run.info(), run.metrics()
    return Compared(
        name=name,
        run=run,
        status=info.get("status", "running"),
        step=max((r["step"] for r in records if r["kind"] == "train"), default=0),
        parameters=_count_parameters(run),
        seconds=training_seconds(run),
        validation=best_validation(run),
        test=info.get("result", {}).get("test"),
        keys=keys,
    )


def _count_parameters(run: Run) -> int | None:
    """By the last checkpoint; None where there is none, or it is damaged."""
    name = checkpoint.named(run.checkpoints, "last")
    if name is None:
        return None
    try:
        with safetensors.safe_open(run.checkpoints / name / "params.safetensors", "numpy") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):
        return None
    return sum(math.prod(shape) for shape in shapes)


def _flat(value: Any, above: str = "") -> dict[str, Any]:
    """Tables within tables as one, whose keys have dots."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        items = enumerate(value)
    if not items:
        return {above: value}
    found: dict[str, Any] = {}
    for key, part in items:
        found |= _flat(part, f"{above}.{key}" if above else str(key))
    return found


def _cells(row: Compared, keys: Sequence[str]) -> list[str]:
    return [
        row.name,
        row.status,
        f"{row.step:,}",
        "-" if row.parameters is None else f"{row.parameters:,}",
        duration(row.seconds),
        _figures(row.validation),
        _figures(row.test),
        *("-" if row.keys[key] is None else str(row.keys[key]) for key in keys),
    ]


def _figures(record: Mapping[str, Any] | None) -> str:
    """The first share of an evaluation, and its loss."""
    return ", ".join([*named_metrics(record)[:1], f"loss {record['loss']:.4f}"]) if record else "-"


def _curve(run: Run, name: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    records = run.metrics()
    kind = "validation" if any(r["kind"] == "validation" for r in records) else "train"
    found = series(records, kind, metric)
    return found["step"], found[name]
