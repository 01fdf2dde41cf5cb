"""What a config, and whoever uses a trained network, must know of a task: plain data.

Each task states it in its folder, `training.tasks.registry` lists them all, and everything else
asks for what a task can do, never for its name. This is the ground floor of the tasks: it imports
`ops` and `training.common` alone, so that `training.config` may stand upon it.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from ..common.pytree_paths import named_leaves

# Of an image; see `TaskSpec.labels`.
LabelKind = Literal["class", "mask", "classes", "values", "boxes", "instances"]

Outputs: TypeAlias = Mapping[str, np.ndarray]  # a prediction, as `TaskSpec.named` has it

# The name, in a config, of what a Python program gives: see `training.config.given`.
GIVEN = "given"

# Parameters of a loss that the program gives; a config has the others.
SUPPLIED = ("weights", "mask", "reduction", "num_classes")


class LossSpec(NamedTuple):
    """A loss as a config names it.

    Attributes:
        loss: ``loss(outputs, targets, **keywords)``, of each example or of the batch as a whole.
            Its keywords are those of `signature`, and ``num_classes`` where it takes that.
            With `owns_params` it is ``loss(**keywords)``, a `model.Layer`: see `Task.loss`.
        signature: the function whose keywords, with their types and defaults, are the table's.
        stated: the keywords that a config must state although they have a default; by default all
            that are numbers, as it hides none that decides the result.
        compares: whether it compares the images of a batch with each other, so that the loss of a
            batch is not the mean of those of its parts.
        one_class: whether it takes nothing but one class for each image, no shares of several.
        owns_params: whether it has parameters of its own, which are trained with the network's.
        own: whether it was registered, and is not ours.
    """

    loss: Callable[..., Any]
    signature: Callable[..., Any]
    stated: tuple[str, ...] | None = None
    compares: bool = False
    one_class: bool = False
    owns_params: bool = False
    own: bool = False


def keywords_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a loss that a config has.

    Example:
        >>> def hinge(logits, labels, *, margin=1.0, weights=None): ...
        >>> list(keywords_of(hinge))
        ['margin']
    """
    parameters = inspect.signature(function).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in SUPPLIED
    }


def find_loss(spec: "TaskSpec", name: str) -> LossSpec | None:
    """Return a loss of a task by its name in a config; None if there is none.

    One that was given in Python is of each example, and of tasks alone whose losses are functions
    of outputs and targets.
    """
    if name != GIVEN:
        return spec.losses.get(name)
    fits = len(spec.example) == 2 and spec.labels not in ("boxes", "instances")
    return LossSpec(_given, _given, own=True) if fits else None


def _given(outputs: Any, targets: Any) -> Any:
    """Stand for the keywords of a loss that was given: it has none."""


class Comparison(NamedTuple):
    """How far two predictions of the same images are apart."""

    difference: float  # the largest of what counts; NaN if one of them is
    scale: float  # what a difference is measured by
    compared: int  # how many: values, or things that were found


def compare_values(found: Outputs, expected: Outputs) -> Comparison:
    """Compare predictions number by number; the scale is the largest of them.

    Example:
        >>> compare_values({"y": np.array([1.0, 4.5])}, {"y": np.array([1.0, 4.0])})
        Comparison(difference=0.5, scale=4.0, compared=2)
    """
    pairs = [(np.asarray(found[name]), np.asarray(expected[name])) for name in expected]
    difference = np.max([np.abs(a - b).max() for a, b in pairs])
    scale = np.max([np.abs(b).max() for _, b in pairs])
    return Comparison(float(difference), float(scale), sum(b.size for _, b in pairs))


class TaskSpec(NamedTuple):
    """A kind of task, before a config asks for one.

    Attributes:
        name: as ``task`` in a config.
        make: ``"package.module:function"``, or the function: ``make(config, classes) -> Task``,
            where `classes` is how many there are. A text is imported when a task is made.
        labels: what the data says of an image: a "class", several "classes" (or none), "values"
            that are numbers, or a "mask" with a class for each pixel; "boxes" with a class each, or
            "instances", which are boxes with masks: `model.detection.structures.GroundTruth`.
        losses: what a config may name, by that name.
        example: ``(outputs, targets)``, and what else a loss is given, as shapes and dtypes: to
            try its keywords on.
        metrics: the figures that a run can stop by, and "loss". It is judged by the first unless
            ``early_stopping.metric`` says otherwise: the more the better, 1 at the most.
        error: what 1 less that figure is called.
        summary: says that figure, ``share``, of some ``images``.
        inputs: what a network may take beside images, by name: a sentence about each.
        outputs: what a prediction is called outside, in a bundle or an ONNX file, where it is one
            array; see `named`.
        outputs_text: the same in a sentence, with shapes.
        compare: ``compare(found, expected) -> Comparison`` of the predictions of some images, by
            name: whether a network says elsewhere what it says here.
        least_classes: how many classes there must be for anything to be learned.
        unfit: augmentations that make no sense, and why.
        outputs_per_class: whether the network has an output for each class, or value.
        ranks: whether a prediction is one probability for each class of an image, which add up to
            1: there is a most probable one, and a temperature.
        has_heatmap: whether an output is a score for each class of an image.
        standardizes: whether its targets are values, which the network learns less their mean in
            the training images and divided by their deviation there.
        per_pixel: whether a prediction is a map over the image, which turns as the image does.
        writes_images: whether `predict` writes an image for each that it is given.
        has_threshold: whether `predict` shows those things alone whose score is large enough.
        alone: why several networks cannot answer together; None where they can.
    """

    name: str
    make: str | Callable[..., Any]
    labels: LabelKind
    losses: Mapping[str, LossSpec]
    example: tuple[Any, ...]
    metrics: tuple[str, ...]
    error: str
    summary: str
    outputs: str
    outputs_text: str
    compare: Callable[[Outputs, Outputs], Comparison] = compare_values
    least_classes: int = 2
    unfit: Mapping[str, str] = {}
    inputs: Mapping[str, str] = {}
    outputs_per_class: bool = True
    ranks: bool = False
    has_heatmap: bool = False
    standardizes: bool = False
    per_pixel: bool = False
    writes_images: bool = False
    has_threshold: bool = False
    alone: str | None = None

    @property
    def metric(self) -> str:
        """Return the name of the figure that a run is judged by."""
        return self.metrics[0]

    def named(self, prediction: Any) -> dict[str, Any]:
        """Return the arrays of a prediction by name, in their order.

        Args:
            prediction: a pytree of arrays, or of shapes; an array alone is called `outputs`.
        """
        return {name or self.outputs: leaf for name, leaf in named_leaves(prediction)}


def bind_loss(spec: TaskSpec, table: Any, classes: int) -> Any:
    """Return the loss that a config names, with its numbers: a function, or a `model.Layer`.

    Args:
        spec: of the task.
        table: ``[loss]`` of a config; its values may be traced.
        classes: how many there are.
    """
    if table.name == GIVEN:
        return table.object if table.is_there else lambda outputs, targets: table.object
    entry = spec.losses[table.name]
    keywords = {name: getattr(table, name) for name in keywords_of(entry.signature)}
    if "num_classes" in inspect.signature(entry.loss).parameters:
        keywords["num_classes"] = classes
    return entry.loss(**keywords) if entry.owns_params else partial(entry.loss, **keywords)


def example_of(shape: tuple[int, ...], dtype: str = "float32") -> jax.ShapeDtypeStruct:
    """Return a shape and a dtype, for `TaskSpec.example`."""
    return jax.ShapeDtypeStruct(shape, dtype)
