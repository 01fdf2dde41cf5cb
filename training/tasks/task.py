"""What a network is to learn: one tuple of data and pure functions for each kind of task.

Everything else in `training` is the same for all of them. `training.tasks.classification.task`,
`training.tasks.segmentation.task` and `training.tasks.embedding.task` make one each from a config:

    task             the data's labels          the network gives        an evaluation keeps
    classification   a class, (N,)              logits (N, K)            probabilities (N, K)
    segmentation     classes, (N, H, W) uint8   logits (N, H, W, K)      classes (N, H, W) uint8
    embedding        a class, (N,)              vectors (N, D)           vectors (N, D)
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..common.text import plain_line
from ..data import Split
from ..data.preprocess import Preprocessing

Numbers: TypeAlias = dict[str, np.ndarray]


class Task(NamedTuple):
    """One kind of task, as a config asks for it.

    Attributes:
        name: as ``task`` in a config.
        metric: the figure that a run is judged by unless ``early_stopping.metric`` says otherwise;
            in [0, 1], the more the better.
        error: what ``1 - metric`` is called.
        sentence: says the metric, ``share``, of some ``images``.
        init: ``init(net, key, in_shape, classes) -> (params, state)``, with a check of the output.
        targets: ``targets(labels, spec=preprocessing)``: the labels as they belong to the
            preprocessed images; jitted with the step.
        loss: ``loss(outputs, targets)``, of each example or of the batch as a whole.
        measures: ``measures(outputs, targets) -> {name: scalar}``: what training reports of a
            batch beside its loss.
        totals: ``totals(outputs, targets, counted) -> {name: array}``: sums over the examples of
            a batch that are counted ``(N,)``; "count" is how many they are.
        keep: what an evaluation keeps of the outputs for `figures` and pictures.
        figures: ``figures(totals, kept, labels) -> {name: number}`` of a whole split, "loss" and
            `metric` among them; `totals` are the sums over its batches.
        answer: ``answer(outputs, preprocessing, image_shape)``: what a trained network says to
            its user.
        draw: the pictures of an evaluation, written into a folder.
        predict: ``predict(predictor, examples) -> say``, where ``say(question)`` is what the
            command line says of one picture after the other, their answers given in batches, and
            ``examples()`` gives training images of each class and their labels.
        batches: the most examples evaluated at once; and the sizes of batches in inference.
        merge: of what was answered to several views of images ``(V, N, ...)``, one answer each.
    """

    name: str
    metric: str
    error: str
    sentence: str
    init: Callable[..., tuple[Any, Any]]
    targets: Callable[..., Array]
    loss: Callable[[Array, Array], Array]
    measures: Callable[[Array, Array], dict[str, Array]]
    totals: Callable[[Array, Array, Array], dict[str, Array]]
    keep: Callable[[Array], Array]
    figures: Callable[[Numbers, np.ndarray, np.ndarray], dict[str, float]]
    answer: Callable[[Array, Preprocessing, tuple[int, ...]], Array]
    draw: Callable[["Findings"], list[Path]]
    predict: Callable[[Any, Callable[[], Split]], Callable[["Question"], "Saying"]]
    batches: "Batches"
    merge: Callable[[Array], Array] = partial(jnp.mean, axis=0)


class Batches(NamedTuple):
    """How many examples at once, without gradients."""

    evaluation: int
    inference: tuple[int, ...]  # a batch is padded to the next of these, a larger one cut up
    spread: bool = False  # each of an evaluation has examples from all over the split


class Findings(NamedTuple):
    """An evaluated split, for `Task.draw`."""

    folder: Path
    title: str
    totals: Numbers
    kept: np.ndarray
    figures: dict[str, float]
    examples: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing


class Question(NamedTuple):
    """A picture that was answered, and how its user wants to know, for `Task.predict`."""

    source: Path | bytes  # its file, or what is in it
    name: str  # what it is called
    answer: np.ndarray  # a row of what the predictor returns
    top: int  # how many classes to name
    out: Path  # the file to be written, where one is

    @property
    def shown(self) -> str:
        """Its name in a line of text."""
        return plain_line(self.name, most=5000)


class Saying(NamedTuple):
    """What is said of a picture: to machines and to people."""

    record: dict[str, Any]
    text: str
    columns: dict[str, Any]  # a row of a table, the same columns for each picture
    lines: list["Line"]  # what stands below the picture


class Line(NamedTuple):
    """One thing that is said of a picture, a class as a rule."""

    label: str
    value: str
    share: float | None = None  # in [0, 1], to be drawn as a bar


def unchanged(labels: Array, spec: Preprocessing) -> Array:
    """The `Task.targets` of labels that belong to whole images."""
    del spec
    return labels
