"""The task of telling which class each pixel is of."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .... import ops
from ....model import init_segmenter
from ...config.schema import Config, CrossEntropyDice
from ...data import IGNORED, Split, resize_picture, upright_size
from ...data.preprocess import Preprocessing, preprocess_masks, restore_maps
from ..task import Batches, Line, Numbers, Question, Saying, Task
from .figures import draw, write_mask
from .metrics import ious, right_and_union


def segmentation(config: Config) -> Task:
    """Masks ``(N, H, W)`` of classes, logits ``(N, H, W, K)``, the mean intersection over union.

    .. math:: \\mathrm{IoU}_k = \\frac{c_{kk}}{\\sum_j c_{kj} + \\sum_j c_{jk} - c_{kk}}

    of the confusion matrix c of all pixels of a split that are not ignored, in whole numbers.
    """
    spec: Any = config.loss  # one that fits: the config has seen to it
    smoothing = spec.label_smoothing
    dice_weight = spec.dice_weight if isinstance(spec, CrossEntropyDice) else 0.0
    return Task(
        name="segmentation",
        metric="mean_iou",
        error="1 - mean IoU",
        sentence="mean IoU {share:.2%} on {images}",
        init=init_segmenter,
        targets=preprocess_masks,
        loss=partial(batch_loss, smoothing=smoothing, dice_weight=dice_weight),
        measures=measures,
        totals=partial(totals, smoothing=smoothing, dice_weight=dice_weight),
        keep=lambda logits: jnp.argmax(logits, axis=-1).astype(jnp.uint8),
        figures=partial(figures, dice_weight=dice_weight),
        answer=answer,
        draw=draw,
        predict=predict,
        batches=Batches(config.training.batch_size, (1, 8)),
    )


def batch_loss(logits: Array, targets: Array, *, smoothing: float, dice_weight: float) -> Array:
    """The mean cross-entropy of the pixels that count, plus `dice_weight` times their Dice loss.

    Args:
        logits: ``(N, H, W, K)``.
        targets: ``(N, H, W)``, classes, or `IGNORED`.
        smoothing: of the labels, for the cross-entropy.
        dice_weight: the weight of `ops.dice` of the softmax, a mean over examples and classes.
    """
    counts = targets != IGNORED
    pixels = jnp.maximum(counts.sum(dtype=jnp.int32), 1).astype(jnp.float32)
    loss = _cross_entropies(logits, targets, counts, smoothing).sum() / pixels
    return loss + dice_weight * _dices(logits, targets, counts).mean() if dice_weight else loss


def measures(logits: Array, targets: Array) -> dict[str, Array]:
    """The figures of a batch, from its confusion matrix."""
    counts = confusion(logits, targets, targets != IGNORED).astype(jnp.float32)
    right, union = right_and_union(counts)
    there = union > 0
    iou = jnp.where(there, right / jnp.where(there, union, 1), 0)
    return {
        "mean_iou": iou.sum() / jnp.maximum(there.sum(dtype=jnp.int32), 1).astype(jnp.float32),
        "pixel_accuracy": right.sum() / jnp.maximum(counts.sum(), 1),
    }


def totals(
    logits: Array, targets: Array, counted: Array, *, smoothing: float, dice_weight: float
) -> dict[str, Array]:
    """The sums over the examples that are counted; see `training.tasks.task`."""
    counts = (targets != IGNORED) & counted[:, None, None]
    sums = {
        "loss": _cross_entropies(logits, targets, counts, smoothing).sum(),
        "confusion": confusion(logits, targets, counts),
        "count": counted.sum(dtype=jnp.int32),
    }
    if dice_weight:
        each = _dices(logits, targets, counts).mean(axis=-1)
        sums["dice"] = jnp.where(counted, each, 0).sum()
    return sums


def figures(
    totals: Numbers, kept: np.ndarray, labels: np.ndarray, *, dice_weight: float
) -> dict[str, float]:
    """Loss, mean IoU, foreground IoU (of two classes) and pixel accuracy of a split."""
    del kept, labels
    counts = totals["confusion"]
    pixels = max(int(counts.sum()), 1)
    loss = float(totals["loss"]) / pixels
    if dice_weight:
        loss += dice_weight * float(totals["dice"]) / int(totals["count"])
    iou = ious(counts)
    there = iou[~np.isnan(iou)]
    found = {"loss": loss, "mean_iou": float(there.mean()) if there.size else 0.0}
    if len(counts) == 2:
        found["foreground_iou"] = float(np.nan_to_num(iou[1]))
    return found | {"pixel_accuracy": int(np.trace(counts)) / pixels}


def confusion(logits: Array, targets: Array, counts: Array) -> Array:
    """``(K, K)`` int32: how many pixels of class i (row) were taken for class j (column)."""
    K = logits.shape[-1]
    taken_for = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    cells = jnp.where(counts, targets.astype(jnp.int32) * K + taken_for, K * K)
    # What does not count goes into a cell of its own, and away.
    return jnp.zeros(K * K + 1, jnp.int32).at[cells.ravel()].add(1)[:-1].reshape(K, K)


def answer(logits: Array, preprocessing: Preprocessing, image_shape: tuple[int, ...]) -> Array:
    """``(N, H, W, K)``: the probability of each class at each pixel of the image as it was."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return restore_maps(probabilities, preprocessing, image_shape)


def predict(predictor: Any, examples: Callable[[], Split]) -> Callable[[Question], Saying]:
    """The class of each pixel, written as a picture of the image's own size."""
    del examples

    def say(question: Question) -> Saying:
        mask = whole_mask(question.answer, upright_size(question.source))
        write_mask(mask, question.out)
        shares = {c: float((mask == k).mean()) for k, c in enumerate(predictor.classes)}
        record = {"file": question.name, "mask": str(question.out)}
        listed = "   ".join(f"{name} {share:.1%}" for name, share in shares.items())
        text = f"{question.shown}: {listed}   -> {question.out}"
        lines = [Line(name, f"{share:.1%}", share) for name, share in shares.items()]
        columns = record | {f"share_{name}": share for name, share in shares.items()}
        return Saying({**record, "shares": shares}, text, columns, lines)

    return say


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


def _cross_entropies(logits: Array, targets: Array, counts: Array, smoothing: float) -> Array:
    """Of each pixel, 0 where it does not count."""
    return ops.softmax_cross_entropy(
        logits, targets, weights=counts, label_smoothing=smoothing, reduction="none"
    )


def _dices(logits: Array, targets: Array, counts: Array) -> Array:
    """The Dice loss of each example and class, ``(N, K)``."""
    probabilities = ops.softmax(logits.astype(jnp.float32))
    truth = jax.nn.one_hot(targets, logits.shape[-1], dtype=jnp.float32)
    return ops.dice(probabilities, truth, mask=counts, reduction="none")
