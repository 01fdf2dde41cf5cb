"""A run as one page: what it was, what it learned, and where it errs.

The page is one HTML file that loads nothing and runs nothing: images are inside of it, colors
follow the reader's (light, dark, or paper). Jinja2 fills ``report_page.html`` and escapes what it
is given, so the name of a class, or of a file, stays text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...training.common import atomic_io
from ...training.config.schema import to_toml
from ...training.config_data import given_data
from ...training.data import Arrays, Dataset
from ...training.data.preprocess import Preprocessing
from ...training.plots.page_parts import (
    Calibration,
    Confusion,
    Examples,
    Heatmap,
    HtmlImage,
    PageParts,
    Table,
)
from ...training.plots.pictures import drawn
from ...training.plots.svg import Chart
from ...training.report.figures import (
    MOST_KERNELS,
    Evaluated,
    best_validation,
    draw_evaluated,
    duration,
    evaluated,
    findings_of,
    first_kernels,
    results_table,
    series,
    training_seconds,
)
from ...training.run import checkpoint as checkpoints
from ...training.run.directory import Run, RunError, open_run
from ...training.tasks.metric_names import NAMES, written
from ...training.tasks.registry import spec_of
from .. import speed
from ..html.heatmap import make_heatmap
from ..html.template import template
from ..predictor import make_predictor
from . import charts
from .images import kernel_images

FACTS = ("status", "stopped early", "steps", "best validation", "test")  # of `results_table`


class Kernels(NamedTuple):
    """What the first layer looks for."""

    sentence: str
    images: list[HtmlImage]


class Page(NamedTuple):
    """All that stands on the page; a part that is None has no place there."""

    name: str
    sentence: str
    task: str
    classes: tuple[str, ...]
    figures: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    curves: list[Chart]
    kinds: list[str]  # of curves
    charts: list[Chart]  # of the task
    charts_title: str
    confusion: Confusion | None
    per_class: Table | None
    per_class_title: str
    calibration: Calibration | None
    examples: Examples | None
    kernels: Kernels | None
    timing: list[tuple[str, str]]
    config: str


def write_report(
    path: str | Path,
    checkpoint: str = "best",
    data_path: Path | None = None,
    *,
    data: Dataset | Arrays | None = None,
) -> list[Path]:
    """Write what `training.report.figures.report` does, and ``report.html``, into the run.

    Args:
        path: the run directory.
        checkpoint: "best" or "last".
        data_path: where its data lie by now, if they were moved.
        data: its data, where these were given in Python.

    Returns:
        The images that were drawn, and the page.

    Raises:
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used;
            or the page cannot be written.
    """
    run = open_run(path)
    dataset = None if data is None else given_data(run.config(), data)[1]
    found = evaluated(path, checkpoint, data_path, dataset)
    heatmap = taken = None
    if found is not None:
        predictor = make_predictor([found.experiment.loaded(found.params, found.state)])
        heatmap = make_heatmap(predictor)
        taken = speed.measure_speed(predictor, found.examples.images)
    written = draw_evaluated(run, found)
    page = run.path / "report.html"
    content = render_page(make_page(run, found, checkpoint, heatmap, taken))
    try:
        atomic_io.atomic_write(page, content.encode(errors="backslashreplace"))
    except OSError as error:
        raise RunError(f"{page}: cannot be written: {error.strerror}") from None
    return [*written, page]


def make_page(
    run: Run,
    found: Evaluated | None,
    checkpoint: str = "best",
    heatmap: Heatmap | None = None,
    taken: speed.Speed | None = None,
) -> Page:
    """Collect what the page of a run says.

    Args:
        run: the run.
        found: its evaluation; None where it has no checkpoint yet.
        checkpoint: which one that was, "best" or "last".
        heatmap: `heatmap.make_heatmap` of its network; None leaves heat maps out.
        taken: how long it takes for an image; None leaves that out.
    """
    config, card = run.config(), run.dataset()
    kinds, curves = _curves(run)
    page = Page(
        name=run.path.resolve().name,
        sentence="No checkpoint yet: this is what there is so far.",
        task=config.task,
        classes=card.classes,
        figures=[],
        facts=[row for row in results_table(run) if row[0] in FACTS],
        curves=curves,
        kinds=kinds,
        kernels=None,
        timing=_timing(run, found, taken),
        config=to_toml(config),
        **PageParts()._asdict(),
    )
    if found is None:
        return page
    evaluation, task = found.evaluation, found.experiment.task
    images = f"{evaluation.count:,} {evaluation.split} images"
    sentence = task.spec.summary.format(share=evaluation.figures[task.spec.metric], images=images)
    pointer = checkpoint if checkpoints.named(run.checkpoints, checkpoint) else "last"
    step = checkpoints.pointed(run.checkpoints, pointer).rpartition("-")[-1]
    card = found.experiment.card
    findings = findings_of(run, task, evaluation, found.examples, card)
    return page._replace(
        sentence=f"{sentence}, with the {pointer} checkpoint, of step {int(step):,}",
        classes=card.classes,
        figures=_figures(evaluation.figures),
        kernels=_kernels(found),
        **_said_what_is_drawn(task.page(findings, heatmap), card.preprocessing)._asdict(),
    )


def render_page(page: Page) -> str:
    """Return the page as HTML."""
    return template("report_page.html").render(page._asdict())


def _said_what_is_drawn(parts: PageParts, spec: Preprocessing) -> PageParts:
    """Return parts of a page whose examples say which channels of their images are drawn."""
    said = drawn(spec.pixel_format.channels, spec.pixel_format.dtype)
    if parts.examples is None or not said:
        return parts
    sentence = f"{parts.examples.sentence} {said[0].upper()}{said[1:]}."
    return parts._replace(examples=parts.examples._replace(sentence=sentence))


def _figures(figures: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return each metric of an evaluation, with its name for people."""
    named = [(name, written(key, figures[key])) for key, name in NAMES.items() if key in figures]
    return [*named, ("loss", f"{figures['loss']:.4f}")]


def _curves(run: Run) -> tuple[list[str], list[Chart]]:
    """Return the kinds of curves that there are, and the charts of them."""
    spec = spec_of(run.config().task)
    records, best = run.metrics(), best_validation(run)
    columns = {kind: series(records, kind, spec.metric) for kind in ("train", "validation", "test")}
    kinds = [kind for kind, column in columns.items() if len(column["step"])]
    if not kinds:
        return [], []
    step = best["step"] if best else None
    drawn = [
        charts.curve(columns, "loss", title="loss", best_step=step),
        charts.curve(columns, "error", title=spec.error, best_step=step, unit="%"),
    ]
    if np.isfinite(
        columns["train"]["learning_rate"]
    ).any():  # an optimizer given in Python has its own
        drawn.append(charts.learning_rate(columns["train"]))
    return [*kinds, *(["best checkpoint"] if best else [])], drawn


def _kernels(found: Evaluated) -> Kernels | None:
    card = found.experiment.card
    input_shape = (*card.preprocessing.size, card.image_shape[-1])
    first = first_kernels(found.experiment.net, found.params, input_shape)
    if first is None:
        return None
    path, weights = first
    count, height, width, channels = weights.shape
    shown = f"The first {MOST_KERNELS} of {count:,}" if count > MOST_KERNELS else f"The {count}"
    colors = "gray is zero" if channels == 3 else "red weighs for, blue against; white is zero"
    if channels not in (1, 3):
        colors += f"; the mean of {channels} input channels"
    sentence = f"{shown} kernels of {path}, {height}×{width}: {colors}."
    return Kernels(sentence, kernel_images(weights[:MOST_KERNELS]))


def _timing(run: Run, found: Evaluated | None, taken: speed.Speed | None) -> list[tuple[str, str]]:
    """Return speed, time, memory and where all that was, as label and value."""
    info, rows = run.info(), []
    rates = [r["images_per_second"] for r in run.metrics() if r["kind"] == "train"]
    if rates:
        rows.append(("training", f"{np.median(rates):,.0f} images/s (median)"))
        rows.append(("wall time", f"{duration(training_seconds(run))}, evaluations included"))
    if taken is not None:
        rows.append(("prediction", taken.text))
    if "compile_seconds" in info:
        rows.append(("compilation", f"{info['compile_seconds']:.1f} s"))
    if info.get("step_bytes"):
        rows.append(("memory of a step", f"{info['step_bytes'] / 2**20:,.1f} MiB"))
    if found is not None:
        import jax

        count = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(found.params))
        rows.append(("parameters", f"{count:,}"))
    counts = ", ".join(f"{n:,} {split}" for split, n in run.dataset().counts.items())
    rows.append(("images", counts))
    versions = info.get("versions", {})
    rows.append(("versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    rows.append(("devices", ", ".join(info.get("devices", []))))
    rows.append(("platform", info.get("platform", "")))
    rows.append(("git", info.get("git") or ""))
    program, *arguments = map(str, info.get("command") or [""])
    rows.append(("command", " ".join([Path(program).name, *arguments])))
    return [(label, value) for label, value in rows if value]
