"""The task of telling which class an image is of."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .... import ops
from ....model import init_classifier
from ....ops.common.jax_compat import Tracer
from ...config.schema import MSE, Config, SoftmaxCrossEntropy
from ...data import Split
from ..task import Batches, Line, Numbers, Question, Saying, Task, unchanged
from .figures import draw


def classification(config: Config) -> Task:
    """Labels ``(N,)``, logits ``(N, K)``, the share of right answers."""
    spec: Any = config.loss  # one that fits: the config has seen to it
    loss, probabilities = make_loss(spec), make_probabilities(spec)
    return Task(
        name="classification",
        metric="accuracy",
        error="error rate",
        sentence="{share:.2%} of {images} right",
        init=init_classifier,
        targets=unchanged,
        loss=loss,
        measures=accuracy,
        totals=partial(correct_answers, loss=loss),
        keep=probabilities,
        figures=figures,
        answer=lambda outputs, preprocessing, image_shape: probabilities(outputs),
        draw=draw,
        predict=predict,
        batches=Batches(500, (1, 8, 64, 512)),
    )


def make_loss(spec: SoftmaxCrossEntropy | MSE) -> Callable[[Array, Array], Array]:
    """``loss(logits, labels) -> (N,)``, the loss of each example.

    Labels are classes ``(N,)``, or probabilities ``(N, K)`` where images were mixed.
    """
    if isinstance(spec, SoftmaxCrossEntropy):
        return partial(
            ops.softmax_cross_entropy, label_smoothing=spec.label_smoothing, reduction="none"
        )

    def one_hot_mse(logits: Array, labels: Array) -> Array:
        if labels.ndim < logits.ndim:
            labels = jax.nn.one_hot(labels, logits.shape[-1])
        target = labels.astype(logits.dtype)
        if isinstance(spec.label_smoothing, Tracer) or spec.label_smoothing:
            target = ops.smooth_labels(target, rate=spec.label_smoothing)
        return ops.mse(logits, target, reduction="none").mean(axis=-1)

    return one_hot_mse


def make_probabilities(spec: SoftmaxCrossEntropy | MSE) -> Callable[[Array], Array]:
    """``probabilities(logits) -> (N, K)`` float32: each row sums to 1, the largest logit first.

    Under the mean squared error the network's outputs estimate the probabilities themselves; what
    is below 0 counts as (almost) nothing.
    """

    def probabilities(logits: Array) -> Array:
        logits = logits.astype(jnp.float32)
        shares = jax.nn.softmax(logits)
        if isinstance(spec, SoftmaxCrossEntropy):
            return shares
        estimates = jax.nn.relu(logits) + 1e-6 * shares
        return estimates / estimates.sum(axis=-1, keepdims=True)

    return probabilities


def accuracy(logits: Array, labels: Array) -> dict[str, Array]:
    """The share of examples whose largest logit is the label's: the `measures` of classes."""
    return {"accuracy": is_correct(logits, labels).mean(dtype=jnp.float32)}


def is_correct(logits: Array, labels: Array) -> Array:
    """Whether the largest logit is the label's; of several, that of the most probable one."""
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    return jnp.argmax(logits, axis=-1) == labels


def correct_answers(
    logits: Array, labels: Array, counted: Array, *, loss: Callable[[Array, Array], Array]
) -> dict[str, Array]:
    """The sums over the examples that are counted: of their loss, right answers, and themselves."""
    return {
        "loss": jnp.where(counted, loss(logits, labels), 0).sum(),
        "correct": (is_correct(logits, labels) & counted).sum(dtype=jnp.int32),
        "count": counted.sum(dtype=jnp.int32),
    }


def figures(totals: Numbers, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean loss and the share of right answers."""
    del kept, labels
    count = int(totals["count"])
    return {"loss": float(totals["loss"]) / count, "accuracy": int(totals["correct"]) / count}


def predict(predictor: Any, examples: Callable[[], Split]) -> Callable[[Question], Saying]:
    """The most probable classes of a picture."""
    del examples

    def say(question: Question) -> Saying:
        order = np.argsort(-question.answer, kind="stable")[: question.top]
        ranked = [(predictor.classes[i], float(question.answer[i])) for i in order]
        name, probability = ranked[0]
        record = {"file": question.name, "class": name, "probability": probability}
        columns: dict[str, Any] = dict(record)
        for i, (other, p) in enumerate(ranked[1:], 2):
            columns |= {f"class_{i}": other, f"probability_{i}": p}
        record["top"] = [{"class": c, "probability": p} for c, p in ranked]
        others = "".join(f"   {c} {p:.1%}" for c, p in ranked[1:])
        text = f"{question.shown}: {name} {probability:.1%}{others}"
        return Saying(record, text, columns, [Line(c, f"{p:.1%}", p) for c, p in ranked])

    return say
