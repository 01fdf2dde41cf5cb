"""Evaluate a trained network on data somewhere: its own, or others of its classes.

Others are another folder that the run has nothing to do with, of which none is set aside. Their
images go through the run's preprocessing, with the statistics of its training images, and labels
are numbered as the run's classes are, whatever the order of those in the folder.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from . import data
from .config.schema import Config
from .config_data import load_data
from .data.labels import IGNORED, is_class_each, is_objects
from .data.tree import Tree
from .evaluation import (
    Evaluation,
    evaluate_examples,
    evaluate_trained,
    make_eval_step_for,
    reopen_trained,
    with_classes,
)
from .experiment import init_network, split_seed, with_data_path
from .run.checkpoint import restore_network
from .run.directory import DatasetCard, Run, open_run
from .run.load_model import LoadedModel, build_network
from .step.loss_params import split_loss
from .tasks.registry import make_task


class EvaluatedOn(NamedTuple):
    """The figures of a network on some data, the network, and the examples."""

    evaluation: Evaluation
    model: LoadedModel
    examples: data.Split
    own: bool  # whether they are the data of the run


def evaluate_on(
    run: str | Path,
    path: Path | None = None,
    split: str | None = None,
    *,
    checkpoint: str = "best",
    use_ema: bool = True,
) -> EvaluatedOn:
    """Evaluate the network of a run on its data, wherever they lie by now, or on other data.

    Args:
        run: the run directory.
        path: of the data; None where they have not moved.
        split: the part to take; of the run's own data the test split by default, of others see
            `evaluate_other`.
        checkpoint, use_ema: see `training.evaluation.evaluate`.

    Raises:
        ConfigError: data of its source have no path.
        RunError, CheckpointError, DataError: the run, its checkpoint or the data cannot be used.
    """
    moved = None if path is None else load_own(open_run(run), path)
    if path is not None and moved is None:
        return evaluate_other(run, path, split, checkpoint=checkpoint, use_ema=use_ema)
    _, experiment, params, state = reopen_trained(
        run, checkpoint, use_ema=use_ema, data_path=path, dataset=moved
    )
    found = evaluate_trained(experiment, params, state, split or "test")
    examples: data.Split = getattr(experiment.dataset, found.split)
    return EvaluatedOn(found, experiment.loaded(params, state), examples, own=True)


def load_own(run: Run, path: Path) -> data.Dataset | None:
    """Load data elsewhere that are those of a run, by their fingerprint; None where they are not.

    Raises:
        ConfigError, DataError: see `with_data_path`.
    """
    config = with_data_path(run.config(), path)
    try:
        dataset = load_data(config)
    except data.DataError:  # of other data, which need not be split as the run's are
        return None
    return dataset if data.fingerprint(dataset) == run.dataset().fingerprint else None


def evaluate_other(
    run: str | Path,
    path: Path,
    split: str | None = None,
    *,
    checkpoint: str = "best",
    use_ema: bool = True,
) -> EvaluatedOn:
    """Evaluate the network of a run on other data, none of which is set aside.

    Args:
        run: the run directory.
        path: of data of its source: a folder of class folders, for a run on such.
        split: the part of these to take; their test part by default, or all where they have no
            parts.
        checkpoint, use_ema: see `training.evaluation.evaluate`.

    Raises:
        DataError: they cannot be used: a class that is none of the run's, images of another
            shape, or no such part.
        RunError, CheckpointError: the run cannot be used.
    """
    opened = open_run(run)
    config, card = opened.config(), opened.dataset()
    dataset = in_order_of(card, _load_whole(config, card, path), path)
    chosen = _part(dataset, path) if split is None else split
    examples: data.Split = getattr(dataset, chosen)
    if not examples.count:
        raise data.DataError(f"--split: {path} has no {chosen} part; name another, or leave it out")
    net, task = build_network(config, card), make_task(config, len(card.classes))
    keys = split_seed(config.seed)
    params, state, _ = jax.eval_shape(lambda: init_network(task, net, card, keys))
    params, state, _ = restore_network(
        opened.checkpoints, checkpoint, params, state, use_ema=use_ema
    )
    step = make_eval_step_for(task, net, card.preprocessing)
    found = evaluate_examples(task, step, params, state, examples, chosen)
    in_shape = (1, *card.preprocessing.size, card.image_shape[-1])
    model = LoadedModel(config, card, net, in_shape, split_loss(task.loss, params)[0], state)
    return EvaluatedOn(with_classes(task, found, examples), model, examples, own=False)


def in_order_of(card: DatasetCard, dataset: data.Dataset, path: Path) -> data.Dataset:
    """Return a dataset with its labels numbered as the classes of a run.

    Raises:
        DataError: it has a class that is none of the run's, or images of another shape or dtype.
    """
    shape = dataset.train.images.shape[1:]
    if shape != card.image_shape:
        found, wanted = ("x".join(map(str, each)) for each in (shape, card.image_shape))
        raise data.DataError(
            f"--data: {path}: images of {found}, need {wanted} as in the run; bring them to that "
            "size, or train with data.size"
        )
    stored, need = dataset.train.images.dtype, card.preprocessing.pixel_format.dtype
    if stored != need:
        raise data.DataError(
            f"--data: {path}: images of {stored}, need {need} as in the run; store them so"
        )
    known = {name: k for k, name in enumerate(card.classes)}
    unknown = [k for k, name in enumerate(dataset.classes) if name not in known]
    if unknown:
        raise data.DataError(
            f"--data: {path}: {data.named(dataset.classes, unknown)}: no class of the run, which "
            f"has {data.named(card.classes, range(len(known)))}; rename it, or take it away"
        )
    order = np.array([known[name] for name in dataset.classes])
    if order.tolist() == list(range(len(card.classes))):
        return dataset
    parts = {name: getattr(dataset, name) for name in data.SPLITS}
    renumbered = {
        name: part._replace(labels=_renumbered(part.labels, order, len(card.classes)))
        for name, part in parts.items()
    }
    return dataset._replace(**renumbered, classes=card.classes)


def _load_whole(config: Config, card: DatasetCard, path: Path) -> data.Dataset:
    """Load data elsewhere as a config says, with nothing set aside, and classes by their names."""
    moved = with_data_path(config, path).data
    changes: dict[str, Any] = {}
    if moved.source not in data.MADE:
        changes = {key: 0 for key in ("validation", "test") if key in type(moved).model_fields}
        changes["fold"] = None
    if moved.source == "voc":
        changes["classes"] = list(card.classes)
    return load_data(config.model_copy(update={"data": moved.model_copy(update=changes)}))


def _part(dataset: data.Dataset, path: Path) -> str:
    """Return the part to take of data where nobody says which."""
    if dataset.test.count:
        return "test"
    if dataset.validation.count:
        raise data.DataError(f"{path}: has train and validation, no test; choose one by --split")
    return "train"


def _renumbered(labels: Tree, order: np.ndarray, K: int) -> Tree:
    """Return labels of whichever form (`training.data.labels`) with class k as ``order[k]``."""
    if is_objects(labels):
        return labels._replace(classes=np.where(labels.classes < 0, -1, order[labels.classes]))
    if is_class_each(labels):
        return order[labels].astype(labels.dtype)
    if labels.ndim == 2:
        several = np.zeros((len(labels), K), labels.dtype)
        several[:, order] = labels
        return several
    table = np.full(IGNORED + 1, IGNORED, labels.dtype)
    table[: len(order)] = order
    return table[labels]
