"""What the network says of an image, as the service says it."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...training.tasks.embedding.metrics import nearest
from ...training.tasks.embedding.task import Gallery
from ...training.tasks.segmentation.figures import mask_picture
from ...training.tasks.segmentation.task import whole_mask
from ..html.image_encoding import as_text, encoded


class Question(NamedTuple):
    """How a client wants to know."""

    top: int = 3
    invert: bool = False


Answer: TypeAlias = Callable[[np.ndarray, tuple[int, int], Question], dict[str, Any]]


def answers_of(task: str, classes: tuple[str, ...], gallery: Gallery | None = None) -> Answer:
    """``answer(output, size, question) -> record`` of one image, whose picture had `size`.

    Args:
        task: classification, segmentation or embedding; see `training.tasks.task`.
        classes: the name of each class.
        gallery: what embeddings are compared with.
    """

    def classes_of(output: np.ndarray, size: tuple[int, int], question: Question) -> dict[str, Any]:
        order = np.argsort(-output, kind="stable")[: question.top]
        top = [{"class": classes[k], "probability": float(output[k])} for k in order]
        return {**top[0], "top": top}

    def mask_of(output: np.ndarray, size: tuple[int, int], question: Question) -> dict[str, Any]:
        mask = whole_mask(output, size)
        counts = np.bincount(mask.ravel(), minlength=len(classes))
        shares = {name: int(n) / mask.size for name, n in zip(classes, counts, strict=False)}
        return {"shares": shares, "mask": as_text(encoded(mask_picture(mask)))}

    def place_of(output: np.ndarray, size: tuple[int, int], question: Question) -> dict[str, Any]:
        record: dict[str, Any] = {"embedding": output.tolist()}
        if gallery is not None:
            ranked = nearest(output, gallery.vectors, gallery.labels)[: question.top]
            record["nearest"] = [{"class": classes[k], "distance": d} for k, d in ranked]
        return record

    kinds: dict[str, Answer] = {
        "classification": classes_of,
        "segmentation": mask_of,
        "embedding": place_of,
    }
    return kinds[task]
