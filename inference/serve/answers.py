"""What the network says of an image, as the service says it."""

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...training.data.image import resize_picture
from ...training.report_segmentation import palette
from ...training.retrieval import nearest


class Question(NamedTuple):
    """How a client wants to know."""

    top: int = 3
    invert: bool = False


class Gallery(NamedTuple):
    """Embedded training images, to compare others with."""

    vectors: np.ndarray  # (M, D)
    labels: np.ndarray  # (M,)


Answer: TypeAlias = Callable[[np.ndarray, tuple[int, int], Question], dict[str, Any]]


def answers_of(task: str, classes: tuple[str, ...], gallery: Gallery | None = None) -> Answer:
    """``answer(output, size, question) -> record`` of one image, whose picture had `size`.

    Args:
        task: classification, segmentation or embedding; see `training.task`.
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
        return {"shares": shares, "mask": as_text(mask_png(mask))}

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


def whole_mask(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most probable class of each pixel of the picture itself.

    Args:
        maps: ``(H, W, K)``, of the network's image.
        size: ``(H', W')`` of the picture.

    Returns:
        ``(H', W')`` uint8. One class after the other, so that a large picture with many classes
        takes no more memory than with two.
    """
    best = resize_picture(maps[..., 0], size)
    mask = np.zeros(size, np.uint8)
    for k in range(1, maps.shape[-1]):
        other = resize_picture(maps[..., k], size)
        better = other > best
        mask[better] = k
        np.maximum(best, other, out=best)
    return mask


def mask_png(mask: np.ndarray) -> bytes:
    """A mask ``(H, W)`` uint8 as a PNG: its pixels are the classes, shown in colours."""
    from PIL import Image

    picture = Image.fromarray(mask).convert("P")  # keeps the numbers
    picture.putpalette(palette(256).tobytes())
    return png(picture)


def png(picture: Any) -> bytes:
    """A Pillow image as the bytes of a PNG file."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def as_text(content: bytes) -> str:
    """Base64."""
    return base64.b64encode(content).decode("ascii")


def make_gallery(predictor: Any, run: Any) -> Gallery:
    """Training images of each class of an embedding's run, embedded.

    Raises:
        DataError, RunError: the data is not there, or has changed.
    """
    from ...training.embedding import GALLERY
    from ...training.experiment import reopen

    _, experiment = reopen(run)
    images, labels = experiment.dataset.train
    each = [np.flatnonzero(labels == k)[:GALLERY] for k in range(len(predictor.classes))]
    chosen = np.sort(np.concatenate(each))
    return Gallery(predictor(np.asarray(images[chosen])), labels[chosen])
