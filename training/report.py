"""What a run learned and where it still errs: its pictures, and a table of its figures.

    curves.png      loss, error rate and learning rate over the steps
    confusion.png   which classes are taken for which
    mistakes.png    the wrong answers that the network was surest of
    kernels.png     what its first layer looks for

The numbers behind each picture are found here, by small pure functions; `training.pictures` draws.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..model import Layer
from . import checkpoint as checkpoints
from . import data, pictures
from .evaluation import Evaluation, evaluate_split, make_eval_step_of, reopen_trained
from .experiment import Experiment
from .pictures import shortened
from .run import Run, open_run

MOST_MISTAKES = 36
MOST_KERNELS = 96


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
        return _draw_curves(run, f"{_name(run)}: no checkpoint yet")
    run, experiment, params, state = reopen_trained(path, checkpoint)
    eval_step, split = make_eval_step_of(experiment), reported_split(experiment.dataset)
    evaluation = evaluate_split(eval_step, params, state, experiment.dataset, split)
    return draw_experiment(run, experiment, params, evaluation)


def draw_experiment(
    run: Run, experiment: Experiment, params: Any, evaluation: Evaluation
) -> list[Path]:
    """`draw`, where everything else is known from the experiment."""
    card = experiment.card
    examples: data.Split = getattr(experiment.dataset, evaluation.split)
    return draw(
        run,
        net=experiment.net,
        params=params,
        evaluation=evaluation,
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
    share, count = f"{evaluation.accuracy:.2%}", f"{evaluation.count:,}"
    title = f"{_name(run)}: {share} of {count} {evaluation.split} images right"
    answers = Answers(evaluation.probabilities, labels)
    written = _draw_curves(run, title)
    written += _draw_confusion(run, answers, classes, title)
    written += _draw_mistakes(run, answers, images, classes, title)
    return written + _draw_kernels(run, net, params, input_shape, title)


def results_table(run: Run) -> list[tuple[str, str]]:
    """What a run has come to, as label and value: from ``run.json`` and its metrics."""
    info, records = run.info(), run.metrics()
    status = info.get("status", "running").replace("running", "not finished")
    rows = [("run", str(run.path)), ("status", status)]
    if reason := info.get("result", {}).get("stopped_early"):
        rows.append(("stopped early", reason))
    train = [r for r in records if r["kind"] == "train"]
    if train:
        rows.append(("steps", f"{train[-1]['step']:,} (epoch {train[-1]['epoch']:.4g})"))
        rows.append(("training time", _duration(training_seconds(run))))
    if best := best_validation(run):
        figures = f"accuracy {best['accuracy']:.2%}, loss {best['loss']:.4f}"
        rows.append(("best validation", f"{figures}, at step {best['step']:,}"))
    for test in [r for r in records if r["kind"] == "test"][-1:]:
        figures = f"accuracy {test['accuracy']:.2%}, loss {test['loss']:.4f}"
        rows.append(("test", f"{figures}, {test['count']:,} images"))
    for pointer in ("best", "last"):
        if name := checkpoints.named(run.checkpoints, pointer):
            rows.append((f"{pointer} checkpoint", str(run.checkpoints / name)))
    return rows


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


def reported_split(dataset: data.Dataset) -> str:
    """The first of test, validation and train that has examples."""
    return next(s for s in ("test", "validation", "train") if len(getattr(dataset, s).labels))


def series(records: Sequence[dict[str, Any]], kind: str) -> dict[str, np.ndarray]:
    """The records of one kind as columns, NaN where a record lacks a figure.

    A test stands at the step whose parameters were tested.

    Returns:
        "step", "epoch", "loss", "error" (1 - accuracy) and "learning_rate".
    """
    chosen = [
        r | {"step": r.get("checkpoint_step", r["step"])} for r in records if r["kind"] == kind
    ]
    keys = ("step", "epoch", "loss", "accuracy", "learning_rate")
    columns = {key: np.array([r.get(key, math.nan) for r in chosen], float) for key in keys}
    return columns | {"error": 1 - columns.pop("accuracy")}


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
    """Indices of the wrongly classified examples, surest first."""
    wrong = np.flatnonzero(answers.predictions != answers.labels)
    return wrong[np.argsort(-answers.confidences[wrong], kind="stable")][:most]


def least_certain(answers: Answers, most: int) -> np.ndarray:
    """Indices of the correctly classified examples, least certain first."""
    right = np.flatnonzero(answers.predictions == answers.labels)
    return right[np.argsort(answers.confidences[right], kind="stable")][:most]


def first_kernels(
    net: Layer, params: Any, input_shape: tuple[int, ...]
) -> tuple[str, np.ndarray] | None:
    """The first layer's kernels as images.

    Returns:
        The layer's path, and ``(Co, KH, KW, Ci)``: the first two-dimensional convolution; without
        one the first dense layer, if each of its outputs weighs every pixel of the input; else
        None.
    """
    found = list(_kernels(net, params, ""))
    for path, kernel in found:
        if kernel.ndim == 4:
            return path, np.moveaxis(kernel, -1, 0)
    for path, kernel in found[:1]:
        if kernel.ndim == 2 and len(kernel) == math.prod(input_shape):
            return path, kernel.T.reshape(-1, *input_shape)
    return None


def best_validation(run: Run) -> dict[str, Any] | None:
    """The record of the evaluation that the checkpoint "best" was chosen by, if there is one."""
    name = checkpoints.named(run.checkpoints, "best")
    step = int(name.rpartition("-")[-1]) if name else None
    found = [r for r in run.metrics() if r["kind"] == "validation" and r["step"] == step]
    return found[-1] if found else None


def training_seconds(run: Run) -> float:
    """How long the reported steps took, with the evaluations between them."""
    train = [r for r in run.metrics() if r["kind"] == "train"]
    steps = np.diff([0, *(r["step"] for r in train)])
    rates = np.array([r["images_per_second"] for r in train])
    return float((steps * run.config().training.batch_size / rates).sum())


def _kernels(layer: Layer, params: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Every array called kernel, in the order of the network (a restored tree is sorted)."""
    if "kernel" in params and not layer.about.parts:
        yield path or layer.about.kind, np.asarray(params["kernel"], np.float32)
    for name, part in layer.about.parts.items():
        yield from _kernels(part, params.get(name, {}), f"{path}/{name}".lstrip("/"))


def _draw_curves(run: Run, title: str) -> list[Path]:
    records, best = run.metrics(), best_validation(run)
    columns = {kind: series(records, kind) for kind in ("train", "validation", "test")}
    if not any(len(c["step"]) for c in columns.values()):
        return []
    subtitle = "no validation"
    if best:
        subtitle = (
            f"best checkpoint: step {best['step']:,}, with {best['accuracy']:.2%} of the "
            f"validation images right"
        )
    with pictures.style():
        step = best["step"] if best else None
        figure = pictures.curves(columns, best_step=step, title=title, subtitle=subtitle)
        return [pictures.write(figure, run.plots / "curves.png")]


def _draw_confusion(run: Run, answers: Answers, classes: tuple[str, ...], title: str) -> list[Path]:
    counts = confusion_counts(answers)
    names = [shortened(name, 20) for name in classes]
    worst = [f"{names[i]} → {names[j]} ({n:,})" for i, j, n in worst_confusions(counts, 4)]
    unbroken = [pair.replace(" ", "\N{NO-BREAK SPACE}") for pair in worst]
    subtitle = f"most often confused: {', '.join(unbroken)}" if worst else "no mistakes"
    with pictures.style():
        shares = error_shares(counts)
        figure = pictures.confusion(counts, shares, classes, title=title, subtitle=subtitle)
        return [pictures.write(figure, run.plots / "confusion.png")]


def _draw_mistakes(
    run: Run, answers: Answers, images: np.ndarray, classes: tuple[str, ...], title: str
) -> list[Path]:
    chosen = worst_mistakes(answers, MOST_MISTAKES)
    total = int((answers.predictions != answers.labels).sum())
    subtitle = f"the {len(chosen)} of its {total:,} mistakes that it was surest of"
    if len(chosen) == total:
        subtitle = f"all its mistakes ({total}), the surest first"
    if not total:
        chosen = least_certain(answers, MOST_MISTAKES)
        subtitle = f"no mistakes; these are the {len(chosen)} right answers it was least sure of"
    guesses, confidences = answers.predictions[chosen], answers.confidences[chosen]
    found = zip(answers.labels[chosen], guesses, confidences, strict=True)
    captions = [caption(classes[label], classes[guess], sure) for label, guess, sure in found]
    with pictures.style():
        figure = pictures.mistakes(images[chosen], captions, title=title, subtitle=subtitle)
        return [pictures.write(figure, run.plots / "mistakes.png")]


def _draw_kernels(
    run: Run, net: Layer, params: Any, input_shape: tuple[int, ...], title: str
) -> list[Path]:
    found = first_kernels(net, params, input_shape)
    if found is None:
        return []
    path, kernels = found
    count, height, width, channels = kernels.shape
    shown = f"the first {MOST_KERNELS} of {count:,}" if count > MOST_KERNELS else f"the {count}"
    subtitle = f"{shown} kernels of {path}, {height}x{width}"
    if channels == 3:
        subtitle += "; mid-grey is zero"
    elif channels != 1:
        subtitle += f", averaged over {channels} input channels"
    with pictures.style():
        figure = pictures.kernels(kernels[:MOST_KERNELS], title=title, subtitle=subtitle)
        return [pictures.write(figure, run.plots / "kernels.png")]


def caption(label: str, guess: str, confidence: float) -> str:
    """What a picture was, and what it was taken for: in one line, or in two where that is long."""
    label, guess = shortened(label, 22), shortened(guess, 22)
    if label == guess:
        return f"{shortened(label, 17)}  {confidence:.0%}"
    if len(label) + len(guess) <= 14:
        return f"{label} → {guess}  {confidence:.0%}"
    return f"{label}\n→ {shortened(guess, 14)}  {confidence:.0%}"


def _name(run: Run) -> str:
    return shortened(run.path.resolve().name, 40)


def _duration(seconds: float) -> str:
    """Whole seconds from a minute on, tenths below."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
