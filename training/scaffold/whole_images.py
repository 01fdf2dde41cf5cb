"""Networks for what is learned of an image as a whole: its class, its classes, values."""

import re
from typing import Any

import numpy as np

from .layouts import Layout
from .recipe import (
    Because,
    Recipe,
    count_to_train_on,
    data_table,
    multiple,
    optimizer_table,
    schedule_table,
    training_table,
)
from .survey import Survey

SMALL, LARGE = 40, 80  # pixels of a side up to which images are small, and from which large
IMBALANCED, RARE = 3, 10  # images of the most frequent class for one of the rarest
_SEEN = 42_000  # images of a training
# Classes of which a mirror image is another one, or none.
_HANDED = re.compile(r"left|right|clockwise|digit|letter|char|text|arrow|sign", re.IGNORECASE)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def one_class(layout: Layout, survey: Survey) -> Recipe:
    """Choose for images of one class each."""
    loss = {
        "name": "softmax_cross_entropy",
        "label_smoothing": Because(0.1, "against overconfidence; 0.0 for none"),
    }
    recipe = _recipe(layout, survey, loss, _mirrors(survey)) | _judged_by(survey)
    if _imbalance(survey) >= RARE:
        why = "a rare class comes as often as another, its images again and again"
        recipe["training"]["sampling"] = Because("balanced", why)
    return recipe


def several_classes(layout: Layout, survey: Survey) -> Recipe:
    """Choose for images of several classes each, or of none."""
    loss: dict[str, Any] = {"name": "binary_cross_entropy"}
    counts = np.zeros(1) if survey.of_class is None else survey.of_class
    if survey.total > 10 * counts.min():
        weights = np.clip((survey.total - counts) / np.maximum(counts, 1), 1, 10).round(1)
        why = "some classes are rare: what is there counts more, up to ten times"
        loss["pos_weight"] = Because(weights.tolist(), why)
    return _recipe(layout, survey, loss, _mirrors(survey))


def values(layout: Layout, survey: Survey) -> Recipe:
    """Choose for numbers, of whose meaning nothing is known."""
    flip = Because(False, "a mirror image may have other values, a position say")
    recipe = _recipe(layout, survey, {"name": "mse"}, flip)
    color = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.0, "hue": 0.0}
    recipe["augment"] = {"flip": flip, "color": color}
    return recipe


def _recipe(layout: Layout, survey: Survey, loss: Recipe, flip: Because) -> Recipe:
    (H, W), fit, model = _network(survey)
    stored = None if (survey.sizes == (H, W)).all() else (H, W)
    return {
        "data": data_table(layout, survey, stored),
        "input": {"size": [H, W], "fit": fit},
        "augment": {
            "flip": flip,
            "translate": Because(max(min(H, W) // 8, 1), "moved by up to an eighth of the size"),
        },
        "model": model,
        "loss": loss,
        "optimizer": optimizer_table(4e-3, weight_decay=0.05),
        "schedule": schedule_table(),
        "training": training_table(survey, seen=_SEEN, least=10, most=60, batch=128),
    }


def _network(survey: Survey) -> tuple[tuple[int, int], Because, Recipe]:
    """Return the size that images are brought to, how, and the network."""
    h, w = survey.size
    side, count = (h * w) ** 0.5, count_to_train_on(survey)
    if side <= SMALL:
        size = (multiple(h, 4, least=16, most=48), multiple(w, 4, least=16, most=48))
        depth = 14 if count < 5_000 else 20 if count < 20_000 else 32
        model = {
            "name": Because("resnet_cifar", "for small images"),
            "depth": Because(
                depth, f"for {count:,} images; more of them train a deeper one: 20, 32"
            ),
            "shortcut": "A",
        }
        return size, Because("resize", "all images have, or are brought to, this size"), model
    edge = 64 if side <= LARGE else 128
    width = 16 if count < 1_000 else 32 if count < 20_000 else 64
    why = f"64 is the published one; narrower for {count:,} images"
    model = {
        "name": Because("resnet", "for photographs"),
        "depth": 18,
        "width": Because(width, why),
    }
    aspects = survey.sizes.max(axis=1) / survey.sizes.min(axis=1)
    if np.median(aspects) > 1.4:
        return (edge, edge), Because("letterbox", "the images are far from square: kept so"), model
    return (edge, edge), Because("resize", "the images are about square"), model


def _mirrors(survey: Survey) -> Because:
    """Return whether images may be mirrored."""
    names = [name.lower() for name in survey.classes]
    signs = all(len(name) == 1 or name in _NUMBERS for name in names)
    if signs or any(map(_HANDED.search, names)):
        return Because(False, "the classes look like digits, letters or directions")
    return Because(True, "left to right; write false if a mirror image is of another class")


def _judged_by(survey: Survey) -> Recipe:
    """Return by which metric the best checkpoint is chosen, where accuracy would not do."""
    if survey.of_class is None or _imbalance(survey) < IMBALANCED:
        return {}
    counts = survey.of_class
    why = (
        f"imbalanced classes, {counts.max():,} to {counts.min():,} images: their mean recall counts"
    )
    return {"early_stopping": {"metric": Because("balanced_accuracy", why)}}


def _imbalance(survey: Survey) -> float:
    """Return how many images the most frequent class has for one of the rarest."""
    counts = np.ones(1) if survey.of_class is None else survey.of_class
    return float(counts.max() / max(counts.min(), 1))
