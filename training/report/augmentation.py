"""A figure of what ``[augment]`` makes of training images, to be looked at before a training."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .. import data
from ..config.schema import Config, ConfigError
from ..config_data import load_data, sampling_of
from ..data.preprocess import Preprocessing, preprocess
from ..data.tree import rows
from ..experiment import augmentation_of, dataset_card, resolve_data_path, split_seed
from ..plots import figures
from ..step.train_step import augment_key, step_key
from ..tasks.registry import make_task, spec_of
from ..tasks.task import Task, Tree

IMAGES, EPOCHS = 6, 7  # as many rows, and columns beside the image as it is


def draw(config: Config, out: Path, *, title: str, config_dir: Path | None = None) -> Path:
    """Draw images of the first batch, one a row: as they are, then as in each epoch.

    The random numbers are those that training would draw in its steps 0, one epoch later, and so
    on, were the batch the same.

    Args:
        config: the experiment.
        out: the PNG file to write.
        title: what stands above.
        config_dir: the folder of the config file, for a relative ``data.path``.

    Raises:
        ConfigError, DataError: the config has no ``[augment]``, or the data cannot be read.
    """
    if config.augment is None:
        raise ConfigError(
            f"{title}: no [augment] to draw; add that table, or try --set augment.flip=true"
        )
    dataset = load_data(resolve_data_path(config, config_dir))
    originals, changed, captions = _seen(config, dataset)
    tiles = np.concatenate([originals[:, None], changed], axis=1)
    with figures.style():
        figure = figures.mistakes(
            tiles.reshape(-1, *tiles.shape[2:]),
            captions,
            title=f"{title}: training images as the network sees them",
            subtitle=_said(config),
            columns=1 + EPOCHS,
        )
        return figures.write(figure, out)


def _seen(config: Config, dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return images ``(N, H, W, C)``, ``(N, EPOCHS, H, W, C)``, and captions row by row.

    What a task draws on its images, masks or boxes, is drawn on them where it is then.
    """
    card = dataset_card(config, dataset)
    task = make_task(config, len(card.classes))
    augment, spec = augmentation_of(config, card), card.preprocessing
    assert augment is not None
    size, batch_size = dataset.train.count, config.training.batch_size
    batch = data.batch_indices(0, size=size, **sampling_of(config, dataset.train))
    images = jnp.asarray(dataset.train.images[batch])
    labels = jax.tree.map(jnp.asarray, rows(dataset.train.labels, batch))
    run_key = split_seed(config.seed)[1]

    @jax.jit
    def seen(step: Array) -> tuple[Array, Array]:
        key = augment_key(step_key(run_key, step))
        x, targets = preprocess(images, spec), task.targets(labels, spec=spec)
        return augment(key, x, targets, images=images, step=step)

    x, targets = preprocess(images, spec), task.targets(labels, spec=spec)
    steps = [jnp.int32(-(-epoch * size // batch_size)) for epoch in range(EPOCHS)]
    first = slice(min(IMAGES, batch_size))
    found = [
        jax.tree.map(lambda leaf: np.asarray(leaf[first]), both)
        for both in ((x, targets), *map(seen, steps))
    ]
    shown = [viewable(x, y, spec, task, card.classes) for x, y in found]
    names = [_names(task, y, card.classes, i) for i, (_, y) in enumerate(found)]
    captions = [caption for row in zip(*names, strict=True) for caption in row]
    return shown[0], np.stack(shown[1:], axis=1), captions


def viewable(
    x: np.ndarray, targets: Tree, spec: Preprocessing, task: Task, classes: tuple[str, ...]
) -> np.ndarray:
    """Return the network's input as images to look at, with the targets over them.

    Photographs are bytes, others in [0, 1], as `training.plots.pictures` takes them.
    """
    mean, std = (np.array(v, np.float32).reshape(1, 1, 1, -1) for v in (spec.mean, spec.std))
    seen = np.clip(x * std + mean, 0, 1)
    if spec.pixels is None:
        seen = np.round(255 * seen).astype(np.uint8)
    return seen if task.overlay is None else task.overlay(seen, targets, classes)


def _names(task: Task, targets: Any, classes: tuple[str, ...], epoch: int) -> list[str]:
    """Return the captions of a column: what the images are; for masks, which show it, the epoch."""
    if task.spec.per_pixel:
        return [f"epoch {epoch}" if epoch else "as it is"] * len(targets)
    return task.captions(targets, classes)


def _said(config: Config) -> str:
    """Say in a line what is asked for."""
    hatched = "; hatched pixels are of no class" if spec_of(config.task).per_pixel else ""
    asked = config.augment.model_dump(exclude_defaults=True) if config.augment else {}
    words = [f"{name} {_text(value)}" for name, value in asked.items()]
    return f"left as they are, then as in the first {EPOCHS} epochs: " + "; ".join(words) + hatched


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_text(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).lower()
