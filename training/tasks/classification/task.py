"""The task of telling which class an image is of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ....model import init_classifier
from ...data import Split
from ..per_class import PerClass, mean_of, of_confusion
from ..spec import bind_loss
from ..task import (
    Examples,
    Explained,
    Line,
    Numbers,
    Question,
    Respond,
    Saying,
    Task,
    batches_of,
    sum_losses,
    unchanged,
)
from .figures import Answers, confusion_counts, draw
from .page import page
from .spec import CLASSIFICATION


def classification(config: Any, classes: int) -> Task:
    """Labels ``(N,)``, logits ``(N, K)``, the share of right answers."""
    probabilities = make_probabilities(config.loss.name)
    return Task(
        spec=CLASSIFICATION,
        init=init_classifier,
        targets=unchanged,
        loss=bind_loss(CLASSIFICATION, config.loss, classes),
        batch_metrics=accuracy,
        metric_sums=correct_answers,
        collect=lambda outputs, spec: probabilities(outputs),
        metrics=metrics,
        per_class=per_class,
        postprocess=lambda outputs, preprocessing, image_shape: probabilities(outputs),
        draw=draw,
        page=page,
        predict=predict,
        explain=explain,
        respond=respond,
        batches=batches_of(config.training),
    )


def make_probabilities(loss: str) -> Callable[[Array], Array]:
    """Return ``probabilities(logits) -> (N, K)`` float32: each row sums to 1, in their order.

    Under a loss of the outputs' distance from the one-hot label they estimate the probabilities
    themselves; what is below 0 counts as (almost) nothing. Under one that asks of each class by
    itself, the answers are brought to the sum of 1. Else it is their softmax, which those of a
    hinge loss were not trained for.

    Args:
        loss: its name.
    """

    def probabilities(logits: Array) -> Array:
        logits = logits.astype(jnp.float32)
        shares = jax.nn.softmax(logits)
        if loss in ("mse", "huber"):
            estimates = jax.nn.relu(logits) + 1e-6 * shares
        elif loss in ("binary_cross_entropy", "focal"):
            estimates = jax.nn.sigmoid(logits) + 1e-6 * shares
        else:
            return shares
        return estimates / estimates.sum(axis=-1, keepdims=True)

    return probabilities


def accuracy(logits: Array, labels: Array) -> dict[str, Array]:
    """The share of examples whose largest logit is the label's: the `Task.batch_metrics`."""
    return {"accuracy": is_correct(logits, labels).mean(dtype=jnp.float32)}


def is_correct(logits: Array, labels: Array) -> Array:
    """Return whether the largest logit is the label's; of several, of the most probable."""
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    return jnp.argmax(logits, axis=-1) == labels


def correct_answers(
    logits: Array, labels: Array, counted: Array, *, loss: Callable[[Array, Array], Array]
) -> dict[str, Array]:
    """The sums over the examples that are counted: of their loss, right answers, and themselves."""
    correct = (is_correct(logits, labels) & counted).sum(dtype=jnp.int32)
    return {**sum_losses(logits, labels, counted, loss=loss), "correct": correct}


def metrics(sums: Numbers, collected: np.ndarray, examples: Split) -> dict[str, float]:
    """Return the mean loss, the share of right predictions, mean recall and mean F1 of classes.

    Means are over the classes that are there; of F1 also those that are predicted alone.
    """
    count, found = int(sums["count"]), per_class(sums, collected, examples).figures
    return {
        "loss": float(sums["loss"]) / count,
        "accuracy": int(sums["correct"]) / count,
        "balanced_accuracy": mean_of(found["recall"]),
        "macro_f1": mean_of(found["f1"]),
    }


def per_class(sums: Numbers, collected: np.ndarray, examples: Split) -> PerClass:
    """Return precision, recall and F1 of each class."""
    del sums
    return of_confusion(confusion_counts(Answers(collected, examples.labels)), "images")


def predict(predictor: Any, examples: Examples) -> Callable[[Question], Saying]:
    """The most probable classes of an image, and its set of classes where such were fitted."""
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
        if predictor.sets is not None:
            record["set"] = list(predictor.set_of(question.answer))
            columns["set"] = " ".join(record["set"])
            text += f"   set: {', '.join(record['set']) or 'none'}"
        return Saying(record, text, columns, [Line(c, f"{p:.1%}", p) for c, p in ranked])

    return say


def explain(predictor: Any, examples: Examples, image: np.ndarray, k: int | None) -> Explained:
    """The logit of a class, by default of the most probable one."""
    del examples
    probabilities = predictor(image[None])[0]
    order = np.argsort(-probabilities, kind="stable")[:3]
    k = int(order[0]) if k is None else k
    text = "   ".join(f"{predictor.classes[i]} {probabilities[i]:.1%}" for i in order)
    if k not in order:
        text += f"   {predictor.classes[k]} {probabilities[k]:.1%}"
    name = predictor.classes[k]
    return Explained(text, name, f"the logit of {name}", k)


def respond(classes: tuple[str, ...], references: Any) -> Respond:
    """The most probable classes."""
    del references

    def respond_to(prediction: np.ndarray, size: tuple[int, int], top: int) -> dict[str, Any]:
        order = np.argsort(-prediction, kind="stable")[:top]
        ranked = [{"class": classes[k], "probability": float(prediction[k])} for k in order]
        return {**ranked[0], "top": ranked}

    return respond_to
