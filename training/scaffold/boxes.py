"""Networks for objects: their boxes, and their masks."""

from typing import Any

import numpy as np

from .layouts import Layout
from .recipe import (
    Because,
    Recipe,
    data_table,
    multiple,
    optimizer_table,
    schedule_table,
    training_table,
)
from .survey import Objects, Survey

LEAST_SIDE = 24  # pixels of the network's input that nearly all objects should have
_ONE_MAP = 4  # times as large as the smallest objects: up to there one map will do


def boxes(layout: Layout, survey: Survey) -> Recipe:
    """Choose for objects in boxes."""
    return _recipe(layout, survey, {"name": "faster_rcnn"}, {})


def instances(layout: Layout, survey: Survey) -> Recipe:
    """Choose for objects with masks."""
    return _recipe(layout, survey, {"name": "mask_rcnn"}, {"mask_features": [64, 64]})


def _recipe(layout: Layout, survey: Survey, name: Recipe, heads: dict[str, Any]) -> Recipe:
    H, W = _canvas(survey)
    why = "so that small objects keep their pixels; larger finds smaller ones, and takes longer"
    return {
        "data": data_table(layout, survey, (H, W)),
        "input": {
            "size": Because([H, W], why),
            "fit": "letterbox",
        },
        "augment": {
            "flip": Because(True, "left to right; write false where that makes another object"),
            "zoom": {"scale": Because([0.7, 1.4], "objects nearer and farther")},
        },
        "model": name | _network(survey.objects, (H, W)) | heads,
        "loss": {"name": "rcnn"},
        "optimizer": optimizer_table(2e-3, weight_decay=0.05, clip_norm=5.0),
        "schedule": schedule_table(),
        "training": training_table(survey, seen=8_000, least=10, most=100, batch=8),
        "ema": {"decay": Because(0.998, "averages of the weights find more"), "warmup": True},
    }


def _canvas(survey: Survey) -> tuple[int, int]:
    """Return height and width: the aspect of the images, as large as the small objects need."""
    (h, w), objects = survey.size, survey.objects
    least = np.percentile((objects.sides * objects.images).min(axis=1), 10)
    longest = multiple(max(h, w) * LEAST_SIDE / max(least, 1), 32, least=96, most=320)
    longest = min(longest, multiple(max(h, w), 32, least=64, most=320))
    H, W = (multiple(longest * side / max(h, w), 32, least=32, most=320) for side in (h, w))
    return H, W


def _on_canvas(objects: Objects, canvas: tuple[int, int]) -> np.ndarray:
    """Return the sides of all objects ``(n, 2)`` in pixels of the canvas."""
    scale = (np.array(canvas) / objects.images).min(axis=1, keepdims=True)
    return np.maximum(objects.sides * objects.images * scale, 1)


def _network(objects: Objects, canvas: tuple[int, int]) -> Recipe:
    """Return the network for objects: its maps, and anchors that nearly cover them."""
    sides = _on_canvas(objects, canvas)
    small, large = np.percentile(np.sqrt(sides.prod(axis=1)), [5, 95])
    one_map = large <= _ONE_MAP * small
    steps = np.geomspace(small, large, 3 if one_map else 8)
    lengths = [float(max(round(side), 4)) for side in steps]
    anchors = [lengths] if one_map else [lengths[i : i + 2] for i in range(0, 8, 2)]
    ratios = np.percentile(sides[:, 0] / sides[:, 1], [15, 50, 85]).round(1).clip(0.2, 5)
    distinct = [ratios[1]] if ratios[2] < 1.3 * ratios[0] else sorted({*ratios})
    stages = [2] if one_map else [2, 3, 4]
    why = "a map of an eighth of the size" if one_map else "objects differ in size: a map for each"
    return {
        "backbone": "small",
        "norm": Because("group", "a batch has few images, and nothing is trained beforehand"),
        "width": 32,
        "stages": Because(stages, why),
        "fpn": 0 if one_map else 64,
        "hidden": 256,
        "rpn": {
            "anchor_sizes": Because(
                anchors, "sides of the objects in these data, in pixels of input.size"
            ),
            "aspect_ratios": Because(
                [float(r) for r in distinct], "their heights over their widths"
            ),
            "pre_nms_top_n_train": 400,
            "pre_nms_top_n_test": 400,
            "post_nms_top_n_train": 200,
            "post_nms_top_n_test": 200,
        },
        "roi": {"batch_size_per_image": 64, "detections_per_img": max(50, 2 * objects.most)},
    }
