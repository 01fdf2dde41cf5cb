"""The task of telling numbers of an image: an age, a position, a count."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ....model import init_regressor
from ...data import Split
from ...data.preprocess import Preprocessing, restore_values, standardize_values
from ...plots.figures import shortened
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
)
from .figures import draw
from .metrics import errors_of, mean_r2
from .page import page
from .spec import REGRESSION


def regression(config: Any, classes: int) -> Task:
    """Values ``(N, V)``, as many outputs, the share of their variance that is explained.

    The network learns each value less its mean in the training images, divided by its deviation
    there; predictions and figures are in the values' own units, the loss is not.
    """
    return Task(
        spec=REGRESSION,
        init=init_regressor,
        targets=standardize_values,
        loss=bind_loss(REGRESSION, config.loss, classes),
        batch_metrics=batch_metrics,
        metric_sums=sum_losses,
        collect=restore_values,
        metrics=metrics,
        postprocess=postprocess,
        draw=draw,
        page=page,
        predict=predict,
        explain=explain,
        respond=respond,
        captions=captions,
        batches=batches_of(config.training),
    )


def batch_metrics(outputs: Array, targets: Array) -> dict[str, Array]:
    """Return the R² of a batch, of all its values together."""
    error = jnp.square(outputs - targets).sum()
    spread = jnp.square(targets - targets.mean(axis=0, keepdims=True)).sum()
    return {"r2": 1 - error / jnp.where(spread > 0, spread, 1)}


def metrics(sums: Numbers, collected: np.ndarray, examples: Split) -> dict[str, float]:
    """Return the mean loss, and R², MAE and MSE, each a mean over the values."""
    found = errors_of(collected, examples.labels)
    return {
        "loss": float(sums["loss"]) / int(sums["count"]),
        "r2": mean_r2(found),
        "mae": float(found.mae.mean()),
        "mse": float(found.mse.mean()),
    }


def postprocess(outputs: Array, preprocessing: Preprocessing, image_shape: tuple) -> Array:
    """Return the values in their units, ``(N, V)`` float32."""
    del image_shape
    return restore_values(outputs, preprocessing)


def predict(predictor: Any, examples: Examples) -> Callable[[Question], Saying]:
    """Say each value of an image."""
    del examples

    def say(question: Question) -> Saying:
        values = dict(zip(predictor.classes, map(float, question.answer), strict=True))
        text = "   ".join(f"{name} {value:.4g}" for name, value in values.items())
        return Saying(
            {"file": question.name, "values": values},
            f"{question.shown}: {text}",
            {"file": question.name, **values},
            [Line(name, f"{value:.4g}") for name, value in values.items()],
        )

    return say


def explain(predictor: Any, examples: Examples, image: np.ndarray, k: int | None) -> Explained:
    """Explain a value, by default the first."""
    del examples
    values, k = predictor(image[None])[0], k or 0
    text = "   ".join(
        f"{name} {value:.4g}" for name, value in zip(predictor.classes, values, strict=True)
    )
    name = predictor.classes[k]
    return Explained(text, name, f"{name}, less its mean and divided by its deviation", k)


def respond(classes: tuple[str, ...], references: Any) -> Respond:
    """Answer with each value."""
    del references

    def respond_to(prediction: np.ndarray, size: tuple[int, int], top: int) -> dict[str, Any]:
        return {"values": dict(zip(classes, map(float, prediction), strict=True))}

    return respond_to


def captions(targets: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    """Return the first values of each image, as the network learns them."""
    return [
        "\n".join(
            f"{shortened(name, 10)} {value:.2g}"
            for name, value in zip(classes[:2], values, strict=False)
        )
        for values in targets
    ]
