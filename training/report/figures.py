"""What a run learned and where it still errs: its figures, and a table of its results.

    curves.png      loss, error rate and learning rate over the steps
    kernels.png     what its first layer looks for

and those of its task, see `Task.draw`. The numbers behind each figure are found by small pure
functions; `training.plots.figures` draws.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...model import Layer, kernels
from .. import data
from ..evaluation import Evaluation, evaluate_split, make_eval_step_of, reopen_trained
from ..experiment import Experiment
from ..plots import figures
from ..plots.attempt import draw_each
from ..plots.figures import shortened
from ..run import checkpoint as checkpoints
from ..run.directory import DatasetCard, Run, open_run
from ..step.loss_params import split_loss
from ..tasks.metric_names import named_metrics
from ..tasks.registry import spec_of
from ..tasks.task import Findings, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_KERNELS = 96


def report(path: str | Path, checkpoint: str = "best") -> list[Path]:
    """Evaluate a run and draw its figures anew; of an unfinished run, what there is to draw.

    The examples are those of the test split, or of the validation split where there is no test
    split, or else those it was trained on; the figures say which.

    Args:
        path: the run directory.
        checkpoint: "best" or "last".

    Returns:
        The figures that were drawn.

    Raises:
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used.
    """
    return draw_evaluated(open_run(path), evaluated(path, checkpoint))


class Evaluated(NamedTuple):
    """A trained network and what it says of the examples that are reported on."""

    experiment: Experiment
    params: Any
    state: Any
    evaluation: Evaluation

    @property
    def examples(self) -> data.Split:
        """Return images and labels, in the order of the evaluation."""
        return getattr(self.experiment.dataset, self.evaluation.split)


def evaluated(
    path: str | Path,
    checkpoint: str = "best",
    data_path: Path | None = None,
    dataset: data.Dataset | None = None,
) -> Evaluated | None:
    """Evaluate a run for `report`, see `reopen`; None of a run that has no checkpoint yet.

    Raises:
        RunError, CheckpointError, DataError: as `report`.
    """
    if checkpoints.named(open_run(path).checkpoints, "last") is None:
        return None
    _, experiment, params, state = reopen_trained(
        path, checkpoint, data_path=data_path, dataset=dataset
    )
    eval_step, split = make_eval_step_of(experiment), reported_split(experiment.dataset)
    task = experiment.task
    evaluation = evaluate_split(task, eval_step, params, state, experiment.dataset, split)
    of_net, _ = split_loss(task.loss, params)
    return Evaluated(experiment, of_net, state, evaluation)


def draw_evaluated(run: Run, found: Evaluated | None) -> list[Path]:
    """Draw as `draw`, from an `Evaluated`."""
    if found is None:
        title = f"{_name(run)}: no checkpoint yet"
        return draw_each({"curves.png": lambda: _draw_curves(run, title)})
    return draw_experiment(run, found.experiment, found.params, found.evaluation)


def draw_experiment(
    run: Run, experiment: Experiment, params: Any, evaluation: Evaluation
) -> list[Path]:
    """Draw as `draw`, where everything else is known from the experiment."""
    return draw(
        run,
        task=experiment.task,
        net=experiment.net,
        params=params,
        evaluation=evaluation,
        examples=getattr(experiment.dataset, evaluation.split),
        card=experiment.card,
    )


def draw(
    run: Run,
    *,
    task: Task,
    net: Layer,
    params: Any,
    evaluation: Evaluation,
    examples: data.Split,
    card: DatasetCard,
) -> list[Path]:
    """Draw the figures of a run into its ``plots/``.

    Args:
        run: where the metrics are, and where the figures go.
        task: what the network was to learn.
        net: the network.
        params: its trained parameters.
        evaluation: of the examples that follow, in their order.
        examples: images and labels, as stored.
        card: of the data: the names of its classes, and how the network sees it.

    Returns:
        The figures drawn, each replaced in one go. There are no curves without metrics, and no
        kernels where the first layer's are not images; what cannot be drawn is a warning.
    """
    findings = findings_of(run, task, evaluation, examples, card)
    title = findings.title
    input_shape = (*card.preprocessing.size, card.image_shape[-1])
    return draw_each(
        {
            "curves.png": lambda: _draw_curves(run, title),
            "the task's figures": lambda: task.draw(findings),
            "kernels.png": lambda: _draw_kernels(
                run, first_kernels(net, params, input_shape), title
            ),
        }
    )


def _draw_kernels(run: Run, first: tuple[str, np.ndarray] | None, title: str) -> list[Path]:
    if first is None:
        return []
    with figures.style():
        return [figures.write(kernels_figure(*first, title), run.plots / "kernels.png")]


def findings_of(
    run: Run, task: Task, evaluation: Evaluation, examples: data.Split, card: DatasetCard
) -> Findings:
    """Return what a task draws from, and fills its part of a page with; arguments as `draw`."""
    images = f"{evaluation.count:,} {evaluation.split} images"
    share = evaluation.figures[task.spec.metric]
    return Findings(
        folder=run.plots,
        title=f"{_name(run)}: {task.spec.summary.format(share=share, images=images)}",
        sums=evaluation.sums,
        collected=evaluation.collected,
        figures=evaluation.figures,
        examples=examples,
        classes=card.classes,
        preprocessing=card.preprocessing,
    )


def results_table(run: Run) -> list[tuple[str, str]]:
    """List the results of a run, label and value: from ``run.json`` and its metrics."""
    info, records = run.info(), run.metrics()
    status = info.get("status", "running").replace("running", "not finished")
    rows = [("run", str(run.path)), ("status", status)]
    if reason := info.get("result", {}).get("stopped_early"):
        rows.append(("stopped early", reason))
    train = [r for r in records if r["kind"] == "train"]
    if train:
        rows.append(("steps", f"{train[-1]['step']:,} (epoch {train[-1]['epoch']:.4g})"))
        rows.append(("training time", duration(training_seconds(run))))
    if best := best_validation(run):
        metrics = ", ".join([*named_metrics(best), f"loss {best['loss']:.4f}"])
        rows.append(("best validation", f"{metrics}, at step {best['step']:,}"))
    for test in [r for r in records if r["kind"] == "test"][-1:]:
        metrics = ", ".join([*named_metrics(test), f"loss {test['loss']:.4f}"])
        rows.append(("test", f"{metrics}, {test['count']:,} images"))
    for pointer in ("best", "last"):
        if name := checkpoints.named(run.checkpoints, pointer):
            rows.append((f"{pointer} checkpoint", str(run.checkpoints / name)))
    return rows


def reported_split(dataset: data.Dataset) -> str:
    """Return the first of test, validation and train that has examples."""
    return next(s for s in ("test", "validation", "train") if getattr(dataset, s).count)


def series(
    records: Sequence[dict[str, Any]], kind: str, metric: str = "accuracy"
) -> dict[str, np.ndarray]:
    """Return the records of one kind as columns, NaN where a record lacks a figure.

    A test stands at the step whose parameters were tested.

    Returns:
        "step", "epoch", "loss", "error" (1 - metric) and "learning_rate".
    """
    chosen = [
        r | {"step": r.get("checkpoint_step", r["step"])} for r in records if r["kind"] == kind
    ]
    keys = ("step", "epoch", "loss", metric, "learning_rate")
    columns = {key: np.array([r.get(key, math.nan) for r in chosen], float) for key in keys}
    return columns | {"error": 1 - columns.pop(metric)}


def first_kernels(
    net: Layer, params: Any, input_shape: tuple[int, ...]
) -> tuple[str, np.ndarray] | None:
    """Return the first layer's kernels as images.

    Returns:
        The layer's path, and ``(Co, KH, KW, Ci)``: the first two-dimensional convolution; without
        one the first dense layer, if each of its outputs weighs every pixel of the input; else
        None.
    """
    found = [(path, np.asarray(k, np.float32)) for path, k in kernels(net, params).items()]
    for path, kernel in found:
        if kernel.ndim == 4:
            return path, np.moveaxis(kernel, -1, 0)
    for path, kernel in found[:1]:
        if kernel.ndim == 2 and len(kernel) == math.prod(input_shape):
            return path, kernel.T.reshape(-1, *input_shape)
    return None


def best_validation(run: Run) -> dict[str, Any] | None:
    """Return the record of the evaluation that "best" was chosen by, if there is one."""
    name = checkpoints.named(run.checkpoints, "best")
    step = int(name.rpartition("-")[-1]) if name else None
    metric = spec_of(run.config().task).metric
    validations = (r for r in run.metrics() if r["kind"] == "validation" and metric in r)
    found = [r for r in validations if r["step"] == step]
    return found[-1] if found else None


def training_seconds(run: Run) -> float:
    """Add up the time of the reported steps, with the evaluations between them."""
    train = [r for r in run.metrics() if r["kind"] == "train"]
    steps = np.diff([0, *(r["step"] for r in train)])
    rates = np.array([r["images_per_second"] for r in train])
    timed = rates > 0  # a run that went on within a window may have taken none of its steps
    return float((steps[timed] * run.config().training.batch_size / rates[timed]).sum())


def _draw_curves(run: Run, title: str) -> list[Path]:
    spec = spec_of(run.config().task)
    records, best = run.metrics(), best_validation(run)
    kinds = ("train", "validation", "test")
    columns = {kind: series(records, kind, spec.metric) for kind in kinds}
    if not any(len(c["step"]) for c in columns.values()):
        return []
    subtitle = "no validation"
    if best:
        found = spec.summary.format(share=best[spec.metric], images="the validation images")
        subtitle = f"best checkpoint: step {best['step']:,}, with {found}"
    with figures.style():
        step = best["step"] if best else None
        figure = figures.curves(
            columns, error=spec.error, best_step=step, title=title, subtitle=subtitle
        )
        return [figures.write(figure, run.plots / "curves.png")]


def kernels_figure(path: str, kernels: np.ndarray, title: str) -> "Figure":
    """Plot the kernels of `first_kernels`, the first `MOST_KERNELS` of them."""
    count, height, width, channels = kernels.shape
    shown = f"the first {MOST_KERNELS} of {count:,}" if count > MOST_KERNELS else f"all {count}"
    zero = "mid-gray is zero" if channels == 3 else "white is zero"
    subtitle = f"{shown} kernels of {path}, {height}x{width}; {zero}"
    if channels not in (1, 3):
        subtitle += f", averaged over {channels} input channels"
    return figures.kernels(kernels[:MOST_KERNELS], title=title, subtitle=subtitle)


def _name(run: Run) -> str:
    return shortened(run.path.resolve().name, 40)


def duration(seconds: float) -> str:
    """Format seconds: whole ones from a minute on, tenths below."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
