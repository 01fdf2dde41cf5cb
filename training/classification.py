"""The task of telling which class an image is of."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..model import init_classifier
from .config import Config
from .report_classification import draw
from .step import accuracy, is_correct, make_loss, make_probabilities
from .task import Batches, Line, Numbers, Question, Saying, Task, unchanged


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


def predict(predictor: Any, run: Path) -> Callable[[Question], Saying]:
    """The most probable classes of a picture."""
    del run

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
