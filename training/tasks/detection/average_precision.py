"""Average precision as COCO has it: by its own program, on what is in memory.

A class, or a size, of which there is no object has no average precision: NaN, which counts in no
mean.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...data.detection.objects import as_xywh
from .masks import as_bytes
from .objects import FoundObjects, TrueObjects

SIZES = ("small", "medium", "large")  # areas up to 32^2, up to 96^2, and beyond
AREAS = (32**2, 96**2)  # the ends of the first two
MOST_FOUND = 100  # detections of an image that count, unless a network gives more


class AveragePrecision(NamedTuple):
    """What COCO's program says of a split.

    Attributes:
        figures: "ap" (the mean over IoU from 0.5 to 0.95), "ap50", "ap75", "ap_small",
            "ap_medium", "ap_large", and the average recall with at most 1, 10 and 100 detections
            of each image: "ar_1", "ar_10", "ar_100", and of the objects of each size: "ar_small",
            "ar_medium", "ar_large". NaN where there is nothing to be found.
        per_class: "ap" and "ap50" of each class, and "ar_small" to "ar_large", ``(K,)``.
        precision: ``(T, R, K)``, at each IoU of `ious`, each recall of `recalls`, of each class.
        recall: ``(T, S)``, at each IoU, of objects of each of `SIZES`: a mean over classes.
        ious: ``(T,)``.
        recalls: ``(R,)``.
        truths: ``(K,)``, how many objects are there of each class, without those ignored.
        found: ``(K,)``, how many were found of each.
        sizes: ``(S,)``, how many objects are there of each of `SIZES`, without those ignored.
    """

    figures: dict[str, float]
    per_class: dict[str, np.ndarray]
    precision: np.ndarray
    recall: np.ndarray
    ious: np.ndarray
    recalls: np.ndarray
    truths: np.ndarray
    found: np.ndarray
    sizes: np.ndarray


def average_precision(
    found: Sequence[FoundObjects],
    truth: Sequence[TrueObjects],
    classes: int,
    *,
    masks: bool = False,
    most: int = MOST_FOUND,
) -> AveragePrecision:
    """Compute average precision and recall of a split with pycocotools.

    Args:
        found: of each image.
        truth: of each image, in the same order.
        classes: K.
        masks: whether the IoU is that of masks; else of boxes.
        most: how many detections of an image count at most, the best ones; 100 or more.

    Raises:
        ValueError: there are masks to be compared, and an image has none.
    """
    from pycocotools.cocoeval import COCOeval

    if masks:
        _check_masks(found, truth)
    limits = [1, 10, max(most, MOST_FOUND)]
    with contextlib.redirect_stdout(io.StringIO()):
        kind = "segm" if masks else "bbox"
        evaluation = COCOeval(_of_truth(truth, classes, masks), _of_found(found, masks), kind)
        evaluation.params.maxDets = limits
        evaluation.params.imgIds = list(range(1, len(truth) + 1))
        evaluation.params.catIds = list(range(1, classes + 1))
        evaluation.evaluate()
        evaluation.accumulate()
    # (T, R, K, A, D) and (T, K, A, D), over areas and limits of detections; -1: nothing is there.
    precision, recall = (_or_nan(evaluation.eval[name]) for name in ("precision", "recall"))
    ious, recalls = evaluation.params.iouThrs, evaluation.params.recThrs
    at50, at75 = (int(np.argmin(np.abs(ious - iou))) for iou in (0.5, 0.75))
    whole = precision[..., 0, -1]
    figures = {"ap": _mean(whole), "ap50": _mean(whole[at50]), "ap75": _mean(whole[at75])}
    for area, name in enumerate(SIZES, start=1):
        figures[f"ap_{name}"] = _mean(precision[..., area, -1])
    figures |= {f"ar_{n}": _mean(recall[..., 0, i]) for i, n in enumerate(limits)}
    per_class = {"ap": _means(whole), "ap50": _means(whole[at50])}
    for area, name in enumerate(SIZES, start=1):
        figures[f"ar_{name}"] = _mean(recall[..., area, -1])
        per_class[f"ar_{name}"] = _means(recall[..., area, -1])
    of_sizes = np.stack([_means(recall[..., area, -1].T) for area in (1, 2, 3)], axis=-1)
    truths, named = (
        np.bincount(np.concatenate([[], *each]).astype(int), minlength=classes)
        for each in ([t.classes[~t.ignored] for t in truth], [f.classes for f in found])
    )
    areas = np.concatenate([np.zeros(0), *(t.areas[~t.ignored] for t in truth)])
    sizes = np.bincount(np.searchsorted(AREAS, areas), minlength=len(SIZES))
    return AveragePrecision(
        figures, per_class, whole, of_sizes, ious, recalls, truths, named, sizes
    )


def _of_truth(truth: Sequence[TrueObjects], classes: int, masks: bool) -> Any:
    rows = [
        (image, boxes, int(objects.classes[i]), i, objects)
        for image, objects in enumerate(truth)
        for i, boxes in enumerate(as_xywh(objects.boxes).tolist())
    ]
    annotations = [
        {
            "id": number,
            "image_id": image + 1,
            "category_id": k + 1,
            "bbox": box,
            "area": float(objects.areas[i]),
            "iscrowd": int(objects.ignored[i]),
            **({"segmentation": as_bytes(objects.masks[i])} if masks else {}),
        }
        # From 1: what matches an annotation with the id 0 counts as unmatched.
        for number, (image, box, k, i, objects) in enumerate(rows, start=1)
    ]
    return _coco(annotations, [objects.size for objects in truth], classes)


def _of_found(found: Sequence[FoundObjects], masks: bool) -> Any:
    from pycocotools.mask import area

    annotations = []
    for image, objects in enumerate(found):
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        areas = np.prod(sides, axis=1)
        runs = [as_bytes(mask) for mask in objects.masks] if masks else []
        for i, box in enumerate(as_xywh(objects.boxes).tolist()):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image + 1,
                "category_id": int(objects.classes[i]) + 1,
                "bbox": box,
                "area": float(area(runs[i]) if masks else areas[i]),
                "score": float(objects.scores[i]),
                "iscrowd": 0,
            }
            annotations.append(annotation | ({"segmentation": runs[i]} if masks else {}))
    return _coco(annotations, [(0, 0)] * len(found), 0)


def _coco(annotations: list[Any], sizes: Sequence[tuple[int, int]], classes: int) -> Any:
    from pycocotools.coco import COCO

    coco: Any = COCO()
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes, start=1)]
    categories = [{"id": k + 1, "name": str(k)} for k in range(classes)]
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _check_masks(found: Sequence[FoundObjects], truth: Sequence[TrueObjects]) -> None:
    for i, (f, t) in enumerate(zip(found, truth, strict=True)):
        for what, objects in (("found", f), ("true", t)):
            if len(objects.masks) != len(objects.classes):
                raise ValueError(
                    f"average_precision: image {i}: got {len(objects.masks)} masks of "
                    f"{len(objects.classes)} {what} objects, need one for each; write masks=False "
                    "to compare boxes"
                )


def _or_nan(values: np.ndarray) -> np.ndarray:
    return np.where(values > -1, values, np.nan)


def _mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else float("nan")


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each element of the last axis."""
    return np.array([_mean(values[..., k]) for k in range(values.shape[-1])])
