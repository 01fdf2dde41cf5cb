"""Published weights in place of a network that learns from nothing: `convax new --pretrained`."""

from typing import Any

from ..data import DataError
from ..weights.published import NORMALIZE, PUBLISHED
from .recipe import Because, Recipe, multiple, training_table
from .survey import Survey

_SEEN = 10_000  # images of a training
_RATE = 5e-4


def begin_with(name: str, recipe: Recipe, survey: Survey) -> Recipe:
    """Return a recipe for images as a whole whose network begins with published weights.

    Args:
        name: of the weights.
        recipe: for the same data, without them.
        survey: the data.

    Raises:
        DataError: it is no data of photographs.
    """
    if survey.dtype != "uint8" or survey.channels not in (1, 3):
        raise DataError(
            f"--pretrained: for photographs, got images of {survey.channels} channel(s) of "
            f"{survey.dtype}; leave it out"
        )
    published = PUBLISHED[name]
    h, w = survey.size
    edge = multiple(int((h * w) ** 0.5), 32, least=96, most=224)
    why = "the weights are for color; of gray images all three are alike"
    data = recipe["data"] | {"channels": Because(3, why)}
    data.pop("size", None)
    data |= {} if (survey.sizes == edge).all() else {"size": [edge, edge]}
    model: dict[str, Any] = {k: v for k, v in published.model.items() if v is not None}
    model["name"] = Because(model["name"], f"{name} is of this network")
    rate = Because(_RATE, "low, as the weights are good already")
    return recipe | {
        "data": data,
        "input": recipe["input"]
        | {
            "size": Because([edge, edge], "the weights are of 224x224; smaller takes less time"),
            "normalize": Because(NORMALIZE, "as the weights were trained with"),
        },
        "model": model,
        "optimizer": recipe["optimizer"] | {"learning_rate": rate},
        "training": recipe["training"]
        | training_table(survey, seen=_SEEN, least=3, most=20, batch=32),
        "init_from": {
            "pretrained": Because(name, f"ImageNet's, top-1 {published.top1} %; a head of its own"),
        },
    }
