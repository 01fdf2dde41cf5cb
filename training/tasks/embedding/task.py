"""The task of placing images so that those of a class lie close together."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from ....model import init_embedder, l2_normalize
from ...common.text import plain_line
from ...data import Split
from ...plots.figures import shortened
from ..spec import bind_loss, find_loss
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
    TaskError,
    sum_losses,
    unchanged,
)
from .figures import draw
from .metrics import nearest, recalls, verification
from .page import page
from .spec import EMBEDDING

OTHERS = 10  # images before it, the nearest, whose distance is said
NEIGHBORS = 11  # training images beside an explained one


def embedding(config: Any, classes: int) -> Task:
    """Labels ``(N,)``, vectors ``(N, D)``, how often the nearest other image is of the class."""
    entry = find_loss(EMBEDDING, config.loss.name)
    compares = entry is not None and entry.compares
    size = config.training.batch_size
    return Task(
        spec=EMBEDDING,
        init=init_embedder,
        targets=unchanged,
        loss=bind_loss(EMBEDDING, config.loss, classes),
        batch_metrics=batch_metrics,
        metric_sums=batch_losses if compares else sum_losses,
        collect=lambda outputs, spec: outputs,
        metrics=metrics,
        postprocess=lambda outputs, preprocessing, image_shape: outputs,
        draw=draw,
        page=page,
        predict=predict,
        explain=explain,
        respond=respond,
        refer=make_gallery,
        batches=Batches(size, (1, 8, 64, 512), spread=True),  # for pairs of several classes
        aggregate=partial(aggregate, normalize=getattr(config.model, "normalize", False)),
    )


def aggregate(vectors: Array, *, normalize: bool) -> Array:
    """The mean of several views' vectors ``(V, N, D)``; of length 1, where theirs are."""
    mean = vectors.mean(axis=0)
    return l2_normalize().apply({}, {}, mean)[0] if normalize else mean


def batch_metrics(embeddings: Array, labels: Array) -> dict[str, Array]:
    """The recall@1 of a batch by itself: whether the nearest other one is of the class."""
    squared = jnp.square(embeddings).sum(axis=-1)
    D = squared[:, None] + squared[None, :] - 2 * embeddings @ embeddings.T
    itself = jnp.eye(len(labels), dtype=bool)
    found = labels[jnp.argmin(jnp.where(itself, jnp.inf, D), axis=-1)] == labels
    return {"recall_at_1": found.mean(dtype=jnp.float32)}


def batch_losses(
    embeddings: Array, labels: Array, counted: Array, *, loss: Callable[..., Array]
) -> dict[str, Array]:
    """Return the loss of the batch, as often as it has examples; see `training.tasks.task`."""
    count = counted.sum(dtype=jnp.int32)
    value = loss(embeddings, labels, weights=counted)
    return {"loss": value * count.astype(value.dtype), "count": count}


def metrics(sums: Numbers, collected: np.ndarray, examples: Split) -> dict[str, float]:
    """Return the mean loss, retrieval among all images, verification of pairs."""
    recall = recalls(collected, examples.labels, (1, 5))
    pairs = verification(collected, examples.labels)
    return {
        "loss": float(sums["loss"]) / int(sums["count"]),
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


def make_gallery(predictor: Any, examples: Examples) -> Gallery:
    """Embed training images, for others to be compared with.

    Args:
        predictor: of the network.
        examples: gives images and labels, some of each class.
    """
    images, labels, _ = examples()
    return Gallery(predictor(np.asarray(images)), labels)


def predict(predictor: Any, examples: Examples) -> Callable[[Question], Saying]:
    """The classes whose training images lie nearest, and the nearest of the images before it."""
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


def explain(predictor: Any, examples: Examples, image: np.ndarray, k: int | None) -> Explained:
    """Explain how near it is to the nearest training image of a class, by default the nearest."""
    images, labels, _ = examples()
    vectors, place = predictor(np.asarray(images)), predictor(image[None])[0]
    distances = np.linalg.norm(vectors.astype(np.float64) - place, axis=1)
    order = np.argsort(distances, kind="stable")
    near = order[:NEIGHBORS]
    names = [predictor.classes[i] for i in labels[near]]
    text = "nearest " + "   ".join(
        f"{name} at {distance:.3f}"
        for name, distance in zip(names[:3], distances[near], strict=False)
    )
    k = int(labels[near[0]]) if k is None else k
    name = predictor.classes[k]
    alike = order[labels[order] == k]
    if not len(alike):
        raise TaskError(f"class: no training image is of {name}")
    captions = [
        f"{shortened(name, 12)}  {distance:.3f}"
        for name, distance in zip(names, distances[near], strict=True)
    ]
    what = f"how near it is to the nearest training image of {name} (minus the squared distance)"
    return Explained(text, name, what, k, vectors[alike[0]], (np.asarray(images)[near], captions))


def respond(classes: tuple[str, ...], references: Any) -> Respond:
    """The vector, and the nearest classes where there is a gallery to compare it with."""

    def respond_to(prediction: np.ndarray, size: tuple[int, int], top: int) -> dict[str, Any]:
        record: dict[str, Any] = {"embedding": prediction.tolist()}
        if references is not None:
            ranked = nearest(prediction, references.vectors, references.labels)[:top]
            record["nearest"] = [{"class": classes[k], "distance": d} for k, d in ranked]
        return record

    return respond_to
