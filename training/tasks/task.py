"""What a network is to learn: one tuple of data and pure functions for each kind of task.

Everything else in `training`, `inference` and `explain` is the same for all of them, and knows none
by its name: what a task can do stands in its `TaskSpec`, how it does it here. A folder beside this
file makes each from a config, and `training.tasks.registry` lists them:

    task             the data's labels          the network gives        an evaluation keeps
    classification   a class, (N,)              logits (N, K)            probabilities (N, K)
    segmentation     classes, (N, H, W) uint8   logits (N, H, W, K)      classes (N, H, W) uint8
    embedding        a class, (N,)              vectors (N, D)           vectors (N, D)
    multilabel       0 or 1 of each, (N, K)     logits (N, K)            probabilities (N, K)
    regression       values (N, V)              values (N, V)            values (N, V)
    detection        `GroundTruth`              `DetectorOutput`         `Detections`
    instance_segmentation                       the same, with masks

Labels, targets, outputs and what is collected may be any pytrees of arrays with the examples' axis
in front; an array is the pytree of one leaf.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from ...model import Layer
from ..common.errors import ConvaxError
from ..common.text import plain_line
from ..data import Split
from ..data.preprocess import Preprocessing
from ..plots.figures import shortened
from ..plots.page_parts import Heatmap, PageParts
from .per_class import PerClass
from .spec import TaskSpec

Numbers: TypeAlias = dict[str, np.ndarray]
Tree: TypeAlias = Any  # a pytree of arrays
Examples: TypeAlias = Callable[[], Split]  # training images of each class, once they are wanted


def class_captions(targets: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    """Return the class of each image ``(N,)``; of mixed ones ``(N, K)`` the shares of two."""
    if targets.ndim == 1:
        return [shortened(classes[k], 16) for k in targets]
    captions = []
    for shares in targets:
        several = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= 0.005][:2]
        captions.append("\n".join(f"{shares[k]:.0%} {shortened(classes[k], 11)}" for k in several))
    return captions


class Task(NamedTuple):
    """One kind of task, as a config asks for it.

    Attributes:
        spec: what is known of it without a config: its name, and what it can do.
        init: ``init(net, key, in_shape, classes) -> (params, state)``, with a check of the output.
        targets: ``targets(labels, spec=preprocessing)``: the labels as they belong to the
            preprocessed images; jitted with the step.
        loss: ``loss(outputs, targets)``, of each example or of the batch as a whole; or, where it
            has parameters of its own, a `Layer` from ``(outputs, targets)`` to losses: see
            `training.step.loss_params`.
        batch_metrics: ``batch_metrics(outputs, targets) -> {name: scalar}``: what training reports
            of a batch beside its loss.
        metric_sums: ``metric_sums(outputs, targets, counted, loss=loss) -> {name: array}``: sums
            over the examples of a batch that are counted ``(N,)``; "count" is how many they are.
            The loss is that of the task, with its parameters.
        collect: ``collect(outputs, spec=preprocessing)``: what an evaluation keeps of the outputs
            for `metrics` and figures.
        assess: ``assess(collected, examples)``: what `metrics`, `per_class` and figures are given
            as `collected`, worked out once for all of them; that itself by default.
        metrics: ``metrics(sums, collected, examples) -> {name: number}`` of a whole split, "loss"
            and `TaskSpec.metrics` among them; `sums` are those of all its batches, `examples` the
            split itself.
        postprocess: ``postprocess(outputs, preprocessing, image_shape)``: what a trained network
            says to its user.
        draw: the figures of an evaluation, written into a folder.
        page: ``page(report, heatmap)``: what the page of a run shows of an evaluation.
        predict: ``predict(predictor, examples) -> say``, where ``say(question)`` is what the
            command line says of one image after the other, their predictions given in batches.
        explain: ``explain(predictor, examples, image, k) -> Explained``: which number is to be
            explained of an image ``(H, W, C)``; of class `k`, or of what was found where it is
            None. Or ``ExplainedObjects``, each with a number of its own.
        respond: ``respond(classes, references) -> respond_to``, where
            ``respond_to(prediction, size, top)`` is the JSON that the service gives of an image,
            whose image had `size`. `references` is what `refer` has made, or None.
        refer: ``refer(predictor, examples)``: what predictions are compared with; None where they
            stand for themselves.
        inputs: ``inputs(x, targets)``: what the network is given in training, and where a loss is
            wanted; the images `x` by default. In inference ``inputs(x, None, *more)`` where there
            is `more_inputs`, else `x`.
        captions: ``captions(targets, classes)``: what each image is, in a line or two.
        per_class: ``per_class(sums, collected, examples) -> PerClass``: the figures of each class
            of a whole split, from what `metrics` gets; None where classes have none.
        batches: the most examples evaluated at once; and the sizes of batches in inference.
        overlay: ``overlay(images, targets, classes)``: images ``(N, H, W, C)`` uint8 with their
            targets drawn on them, ``(N, h, w, 3)``; None where captions say it all.
        in_image: ``in_image(prediction, size)``: the prediction for an image of a size ``(h, w)``,
            in its pixels in place of those of what the network saw; on the host. None where
            predictions have no places, or stay where they are.
        more_inputs: ``more_inputs(images)``: what the network needs of images ``(N, H, W, C)``, as
            stored, beside them: arrays ``(N, ...)`` by the names in `TaskSpec.inputs`, computed
            outside of JAX. It raises `DataError` where this cannot be done here; then
            ``more_inputs(images, made_up=True)`` gives some of their shapes, to try the network on.
            None where it needs no more.
        finalize: ``finalize(experiment, params, state, note) -> params``: what is fitted behind the
            last step, once, to the parameters of the best checkpoint; see `training.loop.final`.
            A pure function of these, the data and the seed; ``note(line)`` tells how far it is.
            None: nothing is.
        finalized: the parts of the parameters that `finalize` makes, here or of another config;
            before it they are as `init` gives them, and they come from nowhere else.
        more_metrics: ``more_metrics(collected, examples) -> {name: number}``: figures of one's own,
            of what an evaluation keeps, before `assess`: see `training.tasks.own_metrics`.
        aggregate: of predictions from several views of images ``(V, N, ...)``, one each; None where
            they have no mean.
    """

    spec: TaskSpec
    init: Callable[..., tuple[Any, Any]]
    targets: Callable[..., Tree]
    loss: Callable[[Tree, Tree], Array] | Layer
    batch_metrics: Callable[[Tree, Tree], dict[str, Array]]
    metric_sums: Callable[..., dict[str, Array]]
    collect: Callable[..., Tree]
    metrics: Callable[[Numbers, Tree, Split], dict[str, float]]
    postprocess: Callable[[Tree, Preprocessing, tuple[int, ...]], Tree]
    draw: Callable[["Findings"], list[Path]]
    page: Callable[["Findings", Heatmap | None], PageParts]
    predict: Callable[[Any, Examples], Callable[["Question"], "Saying"]]
    explain: Callable[[Any, Examples, np.ndarray, int | None], "Explained | ExplainedObjects"]
    respond: Callable[[tuple[str, ...], Any], "Respond"]
    batches: "Batches"
    inputs: Callable[..., Any] = lambda x, targets: x
    more_inputs: Callable[..., dict[str, np.ndarray]] | None = None
    captions: Callable[[Tree, tuple[str, ...]], list[str]] = class_captions
    per_class: Callable[[Numbers, Tree, Split], PerClass] | None = None
    refer: Callable[[Any, Examples], Any] | None = None
    assess: Callable[[Tree, Split], Any] = lambda collected, examples: collected
    overlay: Callable[[np.ndarray, Tree, tuple[str, ...]], np.ndarray] | None = None
    in_image: Callable[[Tree, tuple[int, int]], Tree] | None = None
    finalize: Callable[[Any, Tree, Tree, Callable[[str], None]], Tree] | None = None
    finalized: tuple[str, ...] = ()
    more_metrics: Callable[[Tree, Split], dict[str, float]] | None = None
    aggregate: Callable[[Array], Array] | None = partial(jnp.mean, axis=0)

    @property
    def name(self) -> str:
        """As ``task`` in a config."""
        return self.spec.name


class TaskError(ConvaxError, ValueError):
    """What is asked of a task cannot be done; says why."""


class Batches(NamedTuple):
    """How many examples at once, without gradients."""

    evaluation: int
    inference: tuple[int, ...]  # a batch is padded to the next of these, a larger one cut up
    spread: bool = False  # each of an evaluation has examples from all over the split


def batches_of(training: Any) -> Batches:
    """Return the batches of a task that looks at each image by itself.

    Without gradients, twice as many images as pass through a training step at once take no more
    memory than the step does.

    Args:
        training: ``[training]`` of a config.
    """
    at_once = max(training.batch_size // training.grad_accum_steps, 1)
    return Batches(min(2 * at_once, 500), (1, 8, 64, 512))


class Findings(NamedTuple):
    """An evaluated split, for `Task.draw` and `Task.page`."""

    folder: Path
    title: str
    sums: Numbers
    collected: Tree
    figures: dict[str, float]
    examples: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing


class Question(NamedTuple):
    """An image that was answered, and how its user wants to know, for `Task.predict`."""

    source: Path | bytes  # its file, or what is in it
    name: str  # what it is called
    answer: np.ndarray  # a row of what the predictor returns
    top: int  # how many classes to name
    out: Path  # the file to be written, where one is
    threshold: float | None = None  # the least score that is shown; None: as the task has it

    @property
    def shown(self) -> str:
        """Its name in a line of text."""
        return plain_line(self.name, most=5000)


class Saying(NamedTuple):
    """What is said of an image: to machines and to people."""

    record: dict[str, Any]
    text: str
    columns: dict[str, Any] | list[dict[str, Any]]  # a row of a table, or one of each object: the
    # same columns for each image
    lines: list["Line"]  # what stands below the image
    heads: tuple[str, ...] = ()  # the names of the columns, where an image may have no row
    coco: Sequence[dict[str, Any]] = ()  # its objects, in COCO's results format


class Line(NamedTuple):
    """One thing that is said of an image, a class as a rule."""

    label: str
    value: str
    share: float | None = None  # in [0, 1], to be drawn as a bar


class Explained(NamedTuple):
    """Which number of a prediction is to be explained, for `Task.explain`."""

    text: str  # the prediction
    label: str  # what it is explained for: the name of a class, as a rule
    what: str  # the score that is explained
    k: int  # the number of that class
    place: np.ndarray | None = None  # of an embedding, what it is near to
    near: tuple[np.ndarray, list[str]] | None = None  # the nearest images, and their captions


class ExplainedObject(NamedTuple):
    """An object that was found."""

    row: int  # of the prediction; people count from 1
    text: str  # its class and score
    k: int  # the number of its class
    box: np.ndarray  # (4,), x1, y1, x2, y2 in pixels of what the network sees
    sure: bool  # whether its score is large enough for `predict` to show it


class ExplainedObjects(NamedTuple):
    """The objects of an image, each of which is explained by itself, for `Task.explain`."""

    text: str  # the prediction
    objects: tuple[ExplainedObject, ...]  # best first; at least one


Respond: TypeAlias = Callable[[np.ndarray, tuple[int, int], int], dict[str, Any]]


def unchanged(labels: Tree, spec: Preprocessing) -> Tree:
    """The `Task.targets` of labels that belong to whole images."""
    del spec
    return labels


def sum_losses(
    outputs: Tree, targets: Tree, counted: Array, *, loss: Callable[[Tree, Tree], Array]
) -> dict[str, Array]:
    """Return the sum of the losses of the examples that are counted, and how many they are.

    Args:
        outputs, targets: of a batch.
        counted: ``(N,)`` bool.
        loss: ``loss(outputs, targets) -> (N,)``.
    """
    return {
        "loss": jnp.where(counted, loss(outputs, targets), 0).sum(),
        "count": counted.sum(dtype=jnp.int32),
    }
