"""What is said of an image's objects: a line each, JSON, rows of a table, COCO's results."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....model.detection.structures import Detections
from ...common import atomic_io
from ...data import read_image
from ...data.detection.objects import as_xywh
from ...data.placement import Placement
from ...plots.image_encoding import as_text, encoded
from ..task import Line, Question, Saying
from .drawing import draw_marks, marks_found
from .masks import decode_mask
from .mistakes import SURE
from .objects import FoundObjects, found_in

PlaceOf = Callable[[tuple[int, int]], Placement]
HEADS = ("file", "class", "score", "x1", "y1", "x2", "y2")  # of a table


def say_objects(
    question: Question, classes: Sequence[str], category_ids: Sequence[int], place_of: PlaceOf
) -> Saying:
    """Return what is said of an image, and write it with its objects drawn on it.

    Args:
        question: whose answer is a row of `Detections`. Objects of its threshold and more, by
            default `SURE`, are named and drawn; the record has all.
        classes: the K names.
        category_ids: of each class, for COCO's results.
        place_of: from the size ``(h, w)`` of an image file to its placement in what the network
            sees.
    """
    image = read_image(question.source, size=None, channels=3)
    size = (image.shape[0], image.shape[1])
    answer: Any = question.answer
    found = found_in(answer, place_of(size))
    threshold = SURE if question.threshold is None else question.threshold
    shown = found.rows(found.scores >= threshold)
    write_image(draw_marks(image, marks_found(shown, classes), len(classes)), question.out)
    objects = records(found, classes)
    lines = [_line(each) for each in records(shown, classes)]
    said = "".join(f"\n  {line.label} {line.value}" for line in lines)
    record = {"file": question.name, "image": str(question.out), "size": list(size)}
    return Saying(
        record | {"detections": objects},
        f"{question.shown}: {count_text(shown, classes)}   -> {question.out}{said}",
        table_rows(question.name, found, classes),
        lines,
        HEADS,
        coco_results(found, image_id_of(question.name), category_ids),
    )


def records(found: FoundObjects, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a record of each object: class, score, box ``[x1, y1, x2, y2]``, and mask as runs."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes, strict=True)
    objects = [
        {"class": classes[k], "score": float(score), "box": [round(v, 2) for v in box]}
        for box, score, k in rows
    ]
    masks = ({"mask": mask} for mask in found.masks)
    return [o | m for o, m in zip(objects, masks, strict=True)] if found.masks else objects


def table_rows(name: str, found: FoundObjects, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row of a table for each object."""
    return [
        {"file": name, "class": each["class"], "score": each["score"]}
        | dict(zip(HEADS[3:], each["box"], strict=True))
        for each in records(found, classes)
    ]


def coco_results(
    found: FoundObjects, image_id: int | str, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the objects of an image in COCO's results format, in the precision that they have.

    Args:
        found: of the image.
        image_id: as its data set has it.
        category_ids: of each class, as its data set has them.

    Example:
        >>> one = FoundObjects(np.array([[1.0, 2, 4, 8]]), np.array([0.5]), np.array([1]))
        >>> coco_results(one, 139, (1, 18))
        [{'image_id': 139, 'category_id': 18, 'bbox': [1.0, 2.0, 3.0, 6.0], 'score': 0.5}]
    """
    boxes = as_xywh(found.boxes).tolist()
    results = [
        {
            "image_id": image_id,
            "category_id": int(category_ids[k]),
            "bbox": box,
            "score": float(score),
        }
        for box, score, k in zip(boxes, found.scores, found.classes, strict=True)
    ]
    masks = ({"segmentation": mask} for mask in found.masks)
    return [r | m for r, m in zip(results, masks, strict=True)] if found.masks else results


def image_id_of(name: str) -> int | str:
    """Return the id of an image in COCO's results: the number that its file is called, or the name.

    Example:
        >>> image_id_of("val/000000000139.jpg"), image_id_of("a/cat.7.png")
        (139, 'cat.7')
    """
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() and stem.isascii() else stem


def respond_with_objects(
    answer: Detections, size: tuple[int, int], classes: Sequence[str], place_of: PlaceOf
) -> dict[str, Any]:
    """Return the JSON that the service gives of an image.

    Args:
        answer: a row of what the predictor returns.
        size: ``(h, w)`` of the image.
        classes: the K names.
        place_of: as in `say_objects`.

    Returns:
        "size", and "detections" as `records` has them; a mask is a PNG of its box's pixels, see
        `whole_pixels`.
    """
    from PIL import Image

    found = found_in(answer, place_of(size))
    objects = records(found._replace(masks=()), classes)
    for each, mask in zip(objects, found.masks, strict=False):
        left, top, right, bottom = whole_pixels(each["box"], size)
        inside = decode_mask(mask)[top:bottom, left:right]
        each["mask"] = as_text(encoded(Image.fromarray(255 * inside.astype(np.uint8))))
    return {"detections": objects, "size": list(size)}


def count_text(found: FoundObjects, classes: Sequence[str]) -> str:
    """Return how many objects of each class were found, in words.

    Example:
        >>> one = FoundObjects(np.zeros((3, 4)), np.ones(3), np.array([1, 0, 1]))
        >>> count_text(one, ("cat", "dog"))
        '1 cat, 2 dog'
    """
    counts = _counts(found, classes)
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing found"


def write_image(image: np.ndarray, path: Path) -> None:
    """Write an image ``(H, W, 3)`` uint8 as a PNG file."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_io.atomic_write(path, encoded(Image.fromarray(image)))


def _line(record: dict[str, Any]) -> Line:
    x1, y1, x2, y2 = (round(v) for v in record["box"])
    value = f"{record['score']:.1%}  x {x1}-{x2}  y {y1}-{y2}"
    return Line(record["class"], value, record["score"])


def _counts(found: FoundObjects, classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(found.classes.astype(int), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def whole_pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels that a box touches, from x1 and y1 up to x2 and y2; one at least.

    Args:
        box: ``x1, y1, x2, y2``.
        size: ``(h, w)`` of its image.

    Example:
        >>> whole_pixels([1.5, 2, 3, 2], (2, 9))
        (1, 1, 3, 2)
    """
    h, w = size
    x1, y1 = min(math.floor(box[0]), w - 1), min(math.floor(box[1]), h - 1)
    return x1, y1, max(math.ceil(box[2]), x1 + 1), max(math.ceil(box[3]), y1 + 1)
