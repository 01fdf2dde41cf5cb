"""The task of telling which class each pixel is of."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ....model import init_segmenter
from ...data import IGNORED, Split, resize_image, upright_size
from ...data.placement import place
from ...data.preprocess import Preprocessing, preprocess_masks, restore_maps
from ...plots.image_encoding import as_text, encoded
from ..per_class import PerClass, mean_of, of_confusion
from ..spec import bind_loss
from ..task import (
    Batches,
    Examples,
    Explained,
    Line,
    Numbers,
    Question,
    Respond,
    Saying,
    Task,
)
from .figures import draw, mask_image, write_mask
from .losses import Terms
from .metrics import ious, right_and_union
from .overlay import overlay
from .page import page
from .spec import SEGMENTATION


def segmentation(config: Any, classes: int) -> Task:
    """Masks ``(N, H, W)`` of classes, logits ``(N, H, W, K)``, the mean intersection over union.

    .. math:: \\mathrm{IoU}_k = \\frac{c_{kk}}{\\sum_j c_{kj} + \\sum_j c_{jk} - c_{kk}}

    of the confusion matrix c of all pixels of a split that are not ignored, in whole numbers.
    """
    terms = bind_loss(SEGMENTATION, config.loss, classes)
    letterbox = config.input.fit == "letterbox"
    return Task(
        spec=SEGMENTATION,
        init=init_segmenter,
        targets=preprocess_masks,
        loss=partial(batch_loss, terms=terms),
        batch_metrics=batch_metrics,
        metric_sums=partial(metric_sums, terms=terms),
        collect=lambda logits, spec: jnp.argmax(logits, axis=-1).astype(jnp.uint8),
        metrics=metrics,
        per_class=per_class,
        postprocess=postprocess,
        draw=draw,
        page=page,
        predict=predict,
        explain=explain,
        respond=partial(respond, letterbox=letterbox),
        overlay=tint,
        batches=Batches(config.training.batch_size, (1, 8)),
    )


def tint(images: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Return images ``(N, H, W, C)`` with their classes in colors, ``(N, H, W, 3)``, uint8."""
    return np.round(255 * overlay(images, targets, len(classes))).astype(np.uint8)


def batch_loss(logits: Array, targets: Array, *, terms: Callable[..., Terms]) -> Array:
    """Return the mean over the pixels that count, plus that over the images, of a loss's terms.

    Args:
        logits: ``(N, H, W, K)``.
        targets: ``(N, H, W)``, classes, or `IGNORED`.
        terms: see `training.tasks.segmentation.losses`.
    """
    counts = targets != IGNORED
    found = terms(logits, targets, counts)
    of_images = None if found.images is None else found.weight * found.images.mean()
    if found.pixels is None:
        return jnp.asarray(of_images)
    pixels = jnp.maximum(counts.sum(dtype=jnp.int32), 1).astype(jnp.float32)
    loss = found.pixels.sum() / pixels
    return loss if of_images is None else loss + of_images


def batch_metrics(logits: Array, targets: Array) -> dict[str, Array]:
    """Return the figures of a batch, from its confusion matrix."""
    counts = confusion(logits, targets, targets != IGNORED).astype(jnp.float32)
    right, union = right_and_union(counts)
    there = union > 0
    iou = jnp.where(there, right / jnp.where(there, union, 1), 0)
    return {
        "mean_iou": iou.sum() / jnp.maximum(there.sum(dtype=jnp.int32), 1).astype(jnp.float32),
        "pixel_accuracy": right.sum() / jnp.maximum(counts.sum(), 1),
    }


def metric_sums(
    logits: Array, targets: Array, counted: Array, *, terms: Callable[..., Terms], loss: Any = None
) -> dict[str, Array]:
    """Return the sums over the examples that are counted, of the `terms` of the `loss`."""
    del loss
    counts = (targets != IGNORED) & counted[:, None, None]
    found = terms(logits, targets, counts)
    sums = {
        "confusion": confusion(logits, targets, counts),
        "count": counted.sum(dtype=jnp.int32),
    }
    if found.pixels is not None:
        sums["loss"] = found.pixels.sum()
    if found.images is not None:
        each = found.images.mean(axis=-1)
        sums["image_loss"] = found.weight * jnp.where(counted, each, 0).sum()
    return sums


def metrics(sums: Numbers, collected: np.ndarray, examples: Split) -> dict[str, float]:
    """Return loss, mean IoU, foreground IoU (of two classes) and pixel accuracy of a split.

    A class that is neither there nor found counts in no mean; such a foreground has no IoU.
    """
    del collected, examples
    counts = sums["confusion"]
    pixels = max(int(counts.sum()), 1)
    loss = float(sums.get("loss", 0)) / pixels
    loss += float(sums.get("image_loss", 0)) / int(sums["count"])
    iou = ious(counts)
    found = {"loss": loss, "mean_iou": mean_of(iou)}
    if len(counts) == 2 and np.isfinite(iou[1]):
        found["foreground_iou"] = float(iou[1])
    return found | {"pixel_accuracy": int(np.trace(counts)) / pixels}


def per_class(sums: Numbers, collected: np.ndarray, examples: Split) -> PerClass:
    """Return intersection over union, precision and recall of each class, in pixels."""
    del collected, examples
    return of_confusion(sums["confusion"], "pixels", iou=True)


def confusion(logits: Array, targets: Array, counts: Array) -> Array:
    """``(K, K)`` int32: how many pixels of class i (row) were taken for class j (column)."""
    K = logits.shape[-1]
    taken_for = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    cells = jnp.where(counts, targets.astype(jnp.int32) * K + taken_for, K * K)
    # What does not count goes into a cell of its own, and away.
    return jnp.zeros(K * K + 1, jnp.int32).at[cells.ravel()].add(1)[:-1].reshape(K, K)


def postprocess(logits: Array, preprocessing: Preprocessing, image_shape: tuple[int, ...]) -> Array:
    """``(N, H, W, K)``: the probability of each class at each pixel of the image as it was."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return restore_maps(probabilities, preprocessing, image_shape)


def predict(predictor: Any, examples: Examples) -> Callable[[Question], Saying]:
    """The class of each pixel, written as an image of the image's own size."""
    del examples

    def say(question: Question) -> Saying:
        size = upright_size(question.source, predictor.pixels)
        mask = whole_mask(question.answer, size, letterbox=predictor.letterbox)
        write_mask(mask, question.out)
        shares = {c: float((mask == k).mean()) for k, c in enumerate(predictor.classes)}
        record = {"file": question.name, "mask": str(question.out)}
        listed = "   ".join(f"{name} {share:.1%}" for name, share in shares.items())
        text = f"{question.shown}: {listed}   -> {question.out}"
        lines = [Line(name, f"{share:.1%}", share) for name, share in shares.items()]
        columns = record | {f"share_{name}": share for name, share in shares.items()}
        return Saying({**record, "shares": shares}, text, columns, lines)

    return say


def whole_mask(maps: np.ndarray, size: tuple[int, int], *, letterbox: bool = False) -> np.ndarray:
    """The most probable class of each pixel of the image itself.

    Args:
        maps: ``(H, W, K)``, of the network's image.
        size: ``(H', W')`` of the image.
        letterbox: whether that kept its aspect: what lies beside it is cut off.

    Returns:
        ``(H', W')`` uint8. One class after the other, so that a large image with many classes
        takes no more memory than with two.
    """
    h, w = place(size, maps.shape[:2], letterbox=letterbox).placed
    maps = maps[:h, :w]
    best = resize_image(maps[..., 0], size)
    mask = np.zeros(size, np.uint8)
    for k in range(1, maps.shape[-1]):
        other = resize_image(maps[..., k], size)
        better = other > best
        mask[better] = k
        np.maximum(best, other, out=best)
    return mask


def explain(predictor: Any, examples: Examples, image: np.ndarray, k: int | None) -> Explained:
    """The logit of a class where it was found; by default of the largest but the first."""
    del examples
    best = predictor(image[None])[0].argmax(axis=-1)
    shares = np.bincount(best.ravel(), minlength=len(predictor.classes)) / best.size
    if k is None:
        k = int(shares[1:].argmax()) + 1 if shares[1:].any() else 0
    text = "   ".join(f"{predictor.classes[i]} {shares[i]:.1%}" for i in np.flatnonzero(shares))
    name = predictor.classes[k]
    where = "where it was found" if shares[k] else "of all pixels, as it was found nowhere"
    return Explained(text, name, f"the mean logit of {name} {where}", k)


def respond(classes: tuple[str, ...], references: Any, *, letterbox: bool = False) -> Respond:
    """The share of each class, and the mask as an image."""
    del references

    def respond_to(prediction: np.ndarray, size: tuple[int, int], top: int) -> dict[str, Any]:
        mask = whole_mask(prediction, size, letterbox=letterbox)
        counts = np.bincount(mask.ravel(), minlength=len(classes))
        shares = {name: int(n) / mask.size for name, n in zip(classes, counts, strict=False)}
        return {"shares": shares, "mask": as_text(encoded(mask_image(mask)))}

    return respond_to
