"""The task of telling all classes that an image is of: none, one or several."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ....model import init_classifier
from ...data import Split
from ...data.preprocess import Preprocessing
from ...plots.figures import shortened
from ..per_class import mean_of
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
from .figures import draw, names_of
from .metrics import THRESHOLD, per_class
from .page import page
from .spec import MULTILABEL


def multilabel(config: Any, classes: int) -> Task:
    """Labels ``(N, K)`` of 0 and 1, logits ``(N, K)``, the classes' mean average precision."""
    return Task(
        spec=MULTILABEL,
        init=init_classifier,
        targets=unchanged,
        loss=bind_loss(MULTILABEL, config.loss, classes),
        batch_metrics=batch_metrics,
        metric_sums=sum_losses,
        collect=probabilities,
        metrics=metrics,
        per_class=lambda sums, collected, examples: per_class(collected, examples.labels),
        postprocess=postprocess,
        draw=draw,
        page=page,
        predict=predict,
        explain=explain,
        respond=respond,
        captions=captions,
        batches=batches_of(config.training),
    )


def probabilities(logits: Array, spec: Preprocessing) -> Array:
    """Return the probability of each class by itself, ``(N, K)`` float32."""
    del spec
    return jax.nn.sigmoid(logits.astype(jnp.float32))


def batch_metrics(logits: Array, targets: Array) -> dict[str, Array]:
    """Return the F1 of a batch, of all its classes together."""
    said, true = logits > 0, targets > 0
    hits = (said & true).sum(dtype=jnp.int32).astype(jnp.float32)
    both = (said.sum(dtype=jnp.int32) + true.sum(dtype=jnp.int32)).astype(jnp.float32)
    return {"f1": 2 * hits / jnp.maximum(both, 1)}


def metrics(sums: Numbers, collected: np.ndarray, examples: Split) -> dict[str, float]:
    """Return the mean loss, and the means of average precision and F1 over the classes."""
    found = per_class(collected, examples.labels).figures
    return {
        "loss": float(sums["loss"]) / int(sums["count"]),
        "mean_average_precision": mean_of(found["average_precision"]),
        "f1": mean_of(found["f1"]),
    }


def postprocess(logits: Array, preprocessing: Preprocessing, image_shape: tuple) -> Array:
    """Return `probabilities`."""
    del image_shape
    return probabilities(logits, preprocessing)


def predict(predictor: Any, examples: Examples) -> Callable[[Question], Saying]:
    """Say the classes of an image, and the most probable of the others."""
    del examples

    def say(question: Question) -> Saying:
        prediction, classes = question.answer, predictor.classes
        order = np.argsort(-prediction, kind="stable")
        said = [classes[k] for k in order if prediction[k] >= THRESHOLD]
        shown = [k for i, k in enumerate(order) if i < question.top or i < len(said)]
        shares = {name: float(p) for name, p in zip(classes, prediction, strict=True)}
        text = "   ".join(f"{classes[k]} {prediction[k]:.1%}" for k in shown[: len(said)])
        rest = "   ".join(f"{classes[k]} {prediction[k]:.1%}" for k in shown[len(said) :])
        parts = [text or "none", *([f"({rest})"] if rest else [])]
        return Saying(
            {"file": question.name, "classes": said, "probabilities": shares},
            f"{question.shown}: {'   '.join(parts)}",
            {"file": question.name, "classes": "; ".join(said)}
            | {f"probability_{name}": share for name, share in shares.items()},
            [Line(classes[k], f"{prediction[k]:.1%}", float(prediction[k])) for k in shown],
        )

    return say


def explain(predictor: Any, examples: Examples, image: np.ndarray, k: int | None) -> Explained:
    """Explain the logit of a class, by default of the most probable one."""
    del examples
    prediction = predictor(image[None])[0]
    order = np.argsort(-prediction, kind="stable")[:3]
    k = int(order[0]) if k is None else k
    shown = order if k in order else [*order, k]
    text = "   ".join(f"{predictor.classes[i]} {prediction[i]:.1%}" for i in shown)
    name = predictor.classes[k]
    return Explained(text, name, f"the logit of {name}", k)


def respond(classes: tuple[str, ...], references: Any) -> Respond:
    """Answer with the classes of an image, and the most probable ones."""
    del references

    def respond_to(prediction: np.ndarray, size: tuple[int, int], top: int) -> dict[str, Any]:
        order = np.argsort(-prediction, kind="stable")
        ranked = [{"class": classes[k], "probability": float(prediction[k])} for k in order[:top]]
        return {
            "classes": [classes[k] for k in order if prediction[k] >= THRESHOLD],
            "top": ranked,
        }

    return respond_to


def captions(targets: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    """Return the classes of each image."""
    return [shortened(names_of(row, classes), 20) for row in targets]
