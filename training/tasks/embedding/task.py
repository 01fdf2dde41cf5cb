"""The task of placing images so that those of a class lie close together."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from .... import ops
from ....model import init_embedder, unit_length
from ...common.text import plain_line
from ...config.schema import Config, Contrastive
from ...data import Split
from ..task import Batches, Line, Numbers, Question, Saying, Task, unchanged
from .figures import draw
from .metrics import nearest, recalls, verification

OTHERS = 10  # pictures before it, the nearest, whose distance is said


def embedding(config: Config) -> Task:
    """Labels ``(N,)``, vectors ``(N, D)``, how often the nearest other image is of the class."""
    loss = make_pair_loss(config.loss)
    size = config.training.batch_size
    return Task(
        name="embedding",
        metric="recall_at_1",
        error="1 - recall@1",
        sentence="recall@1 {share:.2%} of {images}",
        init=init_embedder,
        targets=unchanged,
        loss=loss,
        measures=measures,
        totals=partial(totals, loss=loss),
        keep=lambda outputs: outputs,
        figures=figures,
        answer=lambda outputs, preprocessing, image_shape: outputs,
        draw=draw,
        predict=predict,
        batches=Batches(size, (1, 8, 64, 512), spread=True),  # for pairs of several classes
        merge=partial(merge, normalize=getattr(config.model, "normalize", False)),
    )


def merge(vectors: Array, *, normalize: bool) -> Array:
    """The mean of several views' vectors ``(V, N, D)``; of length 1, where theirs are."""
    mean = vectors.mean(axis=0)
    return unit_length().apply({}, {}, mean)[0] if normalize else mean


def make_pair_loss(spec: Any) -> Callable[..., Array]:
    """``loss(embeddings, labels, weights=None) -> scalar``, of the pairs or triplets of a batch."""
    if isinstance(spec, Contrastive):
        return partial(contrastive_pairs, margin=spec.margin)
    losses = {
        "triplet_batch_hard": ops.triplet_batch_hard,
        "triplet_semi_hard": ops.triplet_semi_hard,
    }
    return partial(losses[spec.name], margin=spec.margin)


def contrastive_pairs(
    embeddings: Array, labels: Array, weights: Array | None = None, *, margin: float
) -> Array:
    """`ops.contrastive` of all pairs of a batch, half the weight on the pairs of one class.

    Among ten classes one pair in ten is of one class; unweighted, the others would drown them.

    Args:
        embeddings: ``(N, D)``.
        labels: ``(N,)``.
        weights: ``(N,)``, 0 for examples that are not there.
        margin: the distance that classes should keep.

    Returns:
        A scalar: the mean of pairs of one class and the mean of the others, added and halved.
    """
    N = len(labels)
    first, second = np.triu_indices(N, 1)
    there = jnp.ones(N, bool) if weights is None else weights.astype(bool)
    there, same = there[first] & there[second], labels[first] == labels[second]
    loss = ops.contrastive(
        embeddings[first], embeddings[second], same, margin=margin, weights=there, reduction="none"
    )

    def mean(chosen: Array) -> Array:
        count = jnp.maximum((chosen & there).sum(dtype=jnp.int32), 1).astype(loss.dtype)
        return jnp.where(chosen, loss, 0).sum() / count

    return (mean(same) + mean(~same)) / 2


def measures(embeddings: Array, labels: Array) -> dict[str, Array]:
    """The recall@1 of a batch by itself: whether the nearest other one is of the class."""
    squared = jnp.square(embeddings).sum(axis=-1)
    D = squared[:, None] + squared[None, :] - 2 * embeddings @ embeddings.T
    itself = jnp.eye(len(labels), dtype=bool)
    found = labels[jnp.argmin(jnp.where(itself, jnp.inf, D), axis=-1)] == labels
    return {"recall_at_1": found.mean(dtype=jnp.float32)}


def totals(
    embeddings: Array, labels: Array, counted: Array, *, loss: Callable[..., Array]
) -> dict[str, Array]:
    """The loss of the batch, as often as it has examples; see `training.tasks.task`."""
    count = counted.sum(dtype=jnp.int32)
    value = loss(embeddings, labels, weights=counted)
    return {"loss": value * count.astype(value.dtype), "count": count}


def figures(totals: Numbers, kept: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean loss of the batches, retrieval among all images, verification of pairs."""
    recall = recalls(kept, labels, (1, 5))
    pairs = verification(kept, labels)
    return {
        "loss": float(totals["loss"]) / int(totals["count"]),
        "recall_at_1": recall[0],
        "recall_at_5": recall[1],
        "auc": pairs.auc,
        "eer": pairs.eer,
        "pair_accuracy": pairs.accuracy,
    }


class Gallery(NamedTuple):
    """Embedded training images, to compare others with."""

    vectors: np.ndarray  # (M, D)
    labels: np.ndarray  # (M,)


def make_gallery(predictor: Any, examples: Callable[[], Split]) -> Gallery:
    """Embed training images, for others to be compared with.

    Args:
        predictor: of the network.
        examples: gives images and labels, some of each class.
    """
    images, labels = examples()
    return Gallery(predictor(np.asarray(images)), labels)


def predict(predictor: Any, examples: Callable[[], Split]) -> Callable[[Question], Saying]:
    """The classes whose training images lie nearest, and the nearest of the pictures before it."""
    gallery = make_gallery(predictor, examples)
    names: list[str] = []
    places = np.zeros((0, 0), np.float32)  # with room for twice as many, once it is full

    def say(question: Question) -> Saying:
        nonlocal places
        place, count = question.answer, len(names)
        ranked = nearest(place, gallery.vectors, gallery.labels)[: question.top]
        near = [(predictor.classes[k], distance) for k, distance in ranked]
        if count == len(places):
            more = np.zeros((count or 64, place.size), np.float32)
            places = np.concatenate([places.reshape(-1, place.size), more])
        distances = np.linalg.norm(places[:count] - place, axis=1)
        order = np.argsort(distances, kind="stable")[:OTHERS]
        others = [(names[i], float(distances[i])) for i in order]
        names.append(question.name)
        places[count] = place
        record = {
            "file": question.name,
            "nearest": [{"class": name, "distance": distance} for name, distance in near],
            "others": [{"file": file, "distance": distance} for file, distance in others],
            "embedding": place.tolist(),
        }
        columns: dict[str, Any] = {"file": question.name}
        for i, (name, distance) in enumerate(near, 1):
            columns |= {f"class_{i}": name, f"distance_{i}": distance}
        columns |= {f"embedding_{i}": x for i, x in enumerate(place.tolist(), 1)}
        text = f"{question.shown}: " + "   ".join(f"{name} at {d:.3f}" for name, d in near)
        text += "".join(f"\n  {distance:.3f} from {plain_line(file)}" for file, distance in others)
        return Saying(record, text, columns, [Line(name, f"at {d:.3f}") for name, d in near])

    return say
