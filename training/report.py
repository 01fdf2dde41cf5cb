"""What a run learned and where it still errs: its pictures, and a table of its figures.

    curves.png      loss, error rate and learning rate over the steps
    confusion.png   which classes are taken for which
    mistakes.png    the wrong answers that the network was surest of
    kernels.png     what its first layer looks for

The numbers behind each picture come from small pure functions; the drawing below them decides
nothing. Matplotlib is used through its objects alone and leaves no trace in the caller's settings.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..model import Layer
from . import checkpoint as checkpoints
from . import data
from .evaluation import Evaluation, evaluate_split
from .experiment import prepare
from .preprocess import preprocess
from .run import Run, RunError, open_run
from .step import make_eval_step, make_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MISTAKES = 36
MOST_KERNELS = 144
MOST_CELLS_WITH_TEXT = 30  # classes; beyond, the colours of a confusion matrix must do
DPI = 150


def report(path: str | Path, checkpoint: str = "best") -> list[Path]:
    """Evaluate a run and draw its pictures anew; of an unfinished run, what there is to draw.

    The examples are those of the test split, or of the validation split where there is no test
    split, or else those it was trained on; the pictures say which.

    Args:
        path: the run directory.
        checkpoint: "best" or "last".

    Returns:
        The pictures that were drawn.

    Raises:
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used.
    """
    run = open_run(path)
    if checkpoints.named(run.checkpoints, "last") is None:
        return _save(run, {"curves": partial(_draw_curves, run, f"{_name(run)}: no checkpoint yet")})
    experiment = prepare(run.config())
    card, template = experiment.card, experiment.template
    if card.fingerprint != run.dataset().fingerprint:
        raise RunError(f"{path}: the data has changed since this run was trained; restore it")
    params, state, _ = checkpoints.restore_network(
        run.checkpoints, checkpoint, template.params, template.state
    )
    images = partial(preprocess, spec=card.preprocessing)
    eval_step = make_eval_step(experiment.net, make_loss(experiment.config.loss), images)
    split = next(name for name in ("test", "validation", "train") if card.counts[name])
    examples: data.Split = getattr(experiment.dataset, split)
    return draw(
        run,
        net=experiment.net,
        params=params,
        evaluation=evaluate_split(eval_step, params, state, experiment.dataset, split),
        images=examples.images,
        labels=examples.labels,
        classes=card.classes,
        input_shape=(*card.preprocessing.size, card.image_shape[-1]),
    )


def draw(
    run: Run,
    *,
    net: Layer,
    params: Any,
    evaluation: Evaluation,
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    input_shape: tuple[int, ...],
) -> list[Path]:
    """Draw the pictures of a run into its ``plots/``.

    Args:
        run: where the metrics are, and where the pictures go.
        net: the network.
        params: its trained parameters.
        evaluation: of the examples that follow, in their order.
        images: ``(N, H, W, C)``, uint8, as stored.
        labels: ``(N,)``, integers below K.
        classes: the K names.
        input_shape: ``(H, W, C)`` of the network's input, after preprocessing.

    Returns:
        The pictures drawn, each replaced in one go. There are no curves without metrics, and no
        kernels where the first layer's are not images.
    """
    answers = Answers(evaluation.probabilities, labels)
    head = headline(run, evaluation)
    return _save(
        run,
        {
            "curves": partial(_draw_curves, run, head),
            "confusion": partial(_draw_confusion, answers, classes, head),
            "mistakes": partial(_draw_mistakes, answers, images, classes, head),
            "kernels": partial(_draw_kernels, net, params, input_shape, head),
        },
    )


def results_table(run: Run) -> list[tuple[str, str]]:
    """What a run has come to, as label and value: from its metrics and ``run.json``."""
    records, info = run.metrics(), run.info()
    status = {"running": "not finished"}.get(info["status"], info["status"])
    rows = [("run", str(run.path)), ("status", status)]
    if reason := info.get("result", {}).get("stopped_early"):
        rows.append(("stopped early", reason))
    if records:
        epochs = [f", epoch {r['epoch']:.4g}" for r in records if r["kind"] == "train"][-1:]
        rows.append(("steps", f"{records[-1]['step']:,}{''.join(epochs)}"))
        rows.append(("training time", _duration(training_seconds(run))))
    best = best_validation(run)
    if best:
        step = f"at step {best['step']:,}"
        rows.append(("best validation", f"accuracy {best['accuracy']:.2%}, {step}"))
    for test in [r for r in records if r["kind"] == "test"][-1:]:
        rows.append(("test accuracy", f"{test['accuracy']:.2%}"))
        rows.append(("test loss", f"{test['loss']:.4f}"))
        rows.append(("test images", f"{test['count']:,}"))
    for pointer in ("best", "last"):
        if name := checkpoints.named(run.checkpoints, pointer):
            rows.append((f"{pointer} checkpoint", name))
    return rows


# The numbers behind the pictures


class Answers(NamedTuple):
    """What the network says of some examples, and what they are."""

    probabilities: np.ndarray  # (N, K)
    labels: np.ndarray  # (N,)

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each example."""
        return self.probabilities.argmax(axis=-1)

    @property
    def confidences(self) -> np.ndarray:
        """The probability of that class."""
        return self.probabilities.max(axis=-1)


def series(records: Sequence[dict[str, Any]], kind: str) -> dict[str, np.ndarray]:
    """The records of one kind as columns, NaN where a record lacks a figure.

    Returns:
        "step", "epoch", "loss", "error" (1 - accuracy) and "learning_rate".
    """
    chosen = [r for r in records if r["kind"] == kind]
    keys = ("step", "epoch", "loss", "accuracy", "learning_rate")
    columns = {k: np.array([r.get(k, math.nan) for r in chosen], float) for k in keys}
    return columns | {"error": 1 - columns.pop("accuracy")}


def log_limits(values: np.ndarray) -> tuple[float, float] | None:
    """The ends of a logarithmic axis, or None where a linear one reads better.

    Logarithmic from a factor of 10 between the positive values upwards; the lower end leaves
    room below the smallest for a zero to be drawn there.
    """
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size or positive.max() < 10 * positive.min():
        return None
    return float(positive.min()) / 2, float(positive.max()) * 1.3


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers between the ends: 1, 2, 5 of each decade, or fewer where that is too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [((1, 2, 5), 1), ((1,), 1), *(((1,), n) for n in range(2, len(decades) + 1))]
    for digits, every in steps:
        candidates = [float(f"{d}e{k}") for k in decades[::every] for d in digits]
        ticks = [tick for tick in candidates if low < tick <= high]
        if len(ticks) <= most:
            break
    return ticks


def confusion_counts(answers: Answers) -> np.ndarray:
    """``(K, K)``: how often class i (row) was taken for class j (column)."""
    K = answers.probabilities.shape[-1]
    cells = answers.labels.astype(np.int64) * K + answers.predictions
    return np.bincount(cells, minlength=K * K).reshape(K, K)


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


def worst_mistakes(answers: Answers, most: int) -> np.ndarray:
    """The wrongly classified examples, surest first: indices."""
    wrong = np.flatnonzero(answers.predictions != answers.labels)
    return wrong[np.argsort(-answers.confidences[wrong], kind="stable")][:most]


def least_certain(answers: Answers, most: int) -> np.ndarray:
    """The correctly classified examples, least certain first: indices."""
    right = np.flatnonzero(answers.predictions == answers.labels)
    return right[np.argsort(answers.confidences[right], kind="stable")][:most]


def first_kernels(
    net: Layer, params: Any, input_shape: tuple[int, ...]
) -> tuple[str, np.ndarray] | None:
    """The first layer's kernels as images.

    Returns:
        The layer's path, and ``(Co, KH, KW, Ci)``: the first two-dimensional convolution; else
        the first dense layer, if each of its outputs weighs every pixel of the input. None where
        neither is there.
    """
    found = list(_kernels(net, params, ""))
    for path, kernel in found:
        if kernel.ndim == 4:
            return path, np.moveaxis(kernel, -1, 0)
    for path, kernel in found[:1]:
        if kernel.ndim == 2 and kernel.shape[0] == math.prod(input_shape):
            return path, kernel.T.reshape(-1, *input_shape)
    return None


def training_seconds(run: Run) -> float:
    """How long the reported steps took, evaluations between them included."""
    train = [r for r in run.metrics() if r["kind"] == "train"]
    steps = np.diff([0, *(r["step"] for r in train)])
    rates = np.array([r["images_per_second"] for r in train])
    return float((steps * run.config().training.batch_size / rates).sum())


def best_validation(run: Run) -> dict[str, Any] | None:
    """The record of the evaluation that the checkpoint "best" comes from, if there was one."""
    name = checkpoints.named(run.checkpoints, "best")
    step = int(name.rpartition("-")[-1]) if name else None
    found = [r for r in run.metrics() if r["kind"] == "validation" and r["step"] == step]
    return found[-1] if found else None


def headline(run: Run, evaluation: Evaluation) -> str:
    """The run's name and what it is worth."""
    share, count = f"{evaluation.accuracy:.2%}", f"{evaluation.count:,} {evaluation.split} images"
    return f"{_name(run)}: {share} of {count} right"


def _kernels(layer: Layer, params: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every array called kernel, in the order of the network."""
    if "kernel" in params and not layer.about.parts:
        yield path or layer.about.kind, np.asarray(params["kernel"], np.float32)
    for name, part in layer.about.parts.items():
        yield from _kernels(part, params.get(name, {}), f"{path}/{name}".lstrip("/"))


# Drawing

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito: told apart by everyone
INK, GREY, PALE = "#222222", "#707070", "#E6EBF0"
STYLE = {
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "axes.edgecolor": "#B0B0B0",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#E4E4E4",
    "xtick.color": "#B0B0B0",
    "ytick.color": "#B0B0B0",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "savefig.dpi": DPI,
}


def _save(run: Run, drawings: dict[str, Callable[[], "Figure | None"]]) -> list[Path]:
    """Draw each picture; it replaces the old one in one go."""
    written = []
    with _style():
        for name, drawing in drawings.items():
            figure = drawing()
            if figure is None:
                continue
            run.plots.mkdir(exist_ok=True)
            path = run.plots / f"{name}.png"
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            figure.savefig(aside, format="png")
            written.append(aside.replace(path))
    return written


@contextmanager
def _style() -> Iterator[None]:
    """Our settings over matplotlib's defaults, whatever the user's are, for the time being."""
    from matplotlib import style

    with style.context(STYLE, after_reset=True), warnings.catch_warnings():
        # A class name in a script that the font lacks shows as boxes; nothing to warn of.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _figure(width: float, height: float, title: str, subtitle: str) -> "Figure":
    """An empty figure, in inches, under a title; the title's room comes on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height += 0.75
    figure = Figure((width, height))
    FigureCanvasAgg(figure)
    bottom, left = 1 - 0.7 / height, 0.15 / width
    figure.set_layout_engine("constrained", rect=(0, 0, 1, bottom), w_pad=0.1, h_pad=0.06)
    figure.text(left, 1 - 0.14 / height, title, va="top", fontsize=13, weight="bold")
    figure.text(left, 1 - 0.42 / height, subtitle, va="top", color=GREY)
    return figure


def _draw_curves(run: Run, title: str) -> "Figure | None":
    records = run.metrics()
    train, validation, test = (series(records, kind) for kind in ("train", "validation", "test"))
    if not len(train["step"]) + len(validation["step"]):
        return None
    best = best_validation(run)
    tested = [r.get("checkpoint_step", r["step"]) for r in records if r["kind"] == "test"]
    subtitle = f"{int(max(train['step'].max(initial=0), validation['step'].max(initial=0))):,} steps"
    if best:
        subtitle += f"; best checkpoint at step {best['step']:,}: "
        subtitle += f"{best['accuracy']:.2%} of the validation images right"
    figure = _figure(8.5, 7.5, title, subtitle)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1.3))
    for ax, name in zip(panels, ("loss", "error"), strict=False):
        shown = np.concatenate([part[name] for part in (train, validation, test)])
        lift = _vertical_axis(ax, shown, "{:.6g}" if name == "loss" else "{:.6g}%")
        factor = 1 if name == "loss" else 100
        print(lift, factor)
    return figure
