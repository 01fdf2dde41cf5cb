"""The data of a config: loaded, or given in Python; split, and how batches are drawn of them."""

from typing import Any

import numpy as np

from . import data
from .config.schema import Config, ConfigError, validate
from .plugins.tables import SOURCES
from .step.class_weights import balanced_weights
from .tasks.registry import spec_of


def load_data(config: Config) -> data.Dataset:
    """Load the dataset of a config, split by its seed, with proposals where it asks for some."""
    keys = config.data.model_dump(exclude_none=True)
    return add_proposals(config, read_data(config, keys, config.seed))


def read_data(config: Config, keys: dict[str, Any], seed: int) -> data.Dataset:
    """Read the data of a config, by convax or by a function that was registered.

    Args:
        config: says what its task wants of them.
        keys: of ``[data]``, those of the split among them, or left out.
        seed: of the split.
    """
    if keys["source"] == "memory":
        raise data.DataError(
            "data.source: these data were given in Python, and are not kept; give them again in "
            "Python, data=(images, labels), to convax.resume, convax.evaluate or "
            'convax.inference.report.page.write_report; or store them by np.savez, source = "npz"'
        )
    if keys["source"] in SOURCES:
        return data.load_registered(**keys, seed=seed)
    letterbox = config.input.fit == "letterbox"
    return data.load(**keys, labels=spec_of(config.task).labels, letterbox=letterbox, seed=seed)


def given_data(config: Config, given: data.Dataset | data.Arrays) -> tuple[Config, data.Dataset]:
    """Return a config whose data are those given in Python, and these, split as it says.

    Args:
        config: says how much of them is for validation and testing, whatever its own data are.
        given: see `training.data.load_memory`.
    """
    keys = ("validation", "test", "stratify", "fold", "value_range")
    said = {key: getattr(config.data, key, None) for key in keys}
    parts = {key: value for key, value in said.items() if value is not None}
    table = config.model_dump(exclude_none=True)
    table |= {"data": {"source": "memory", "validation": 0} | parts}
    config = validate(table, "config")
    return config, add_proposals(config, data.load_memory(given, **parts, seed=config.seed))


def sampling_of(config: Config, split: data.Split) -> dict[str, Any]:
    """Return what decides which examples a batch has: keywords of `data.batch_indices`."""
    classes = None
    if config.training.sampling == "balanced":
        classes = np.array(split.labels)
        classes.setflags(write=False)  # so that no batch has to hash it
    return {"batch_size": config.training.batch_size, "seed": config.seed, "classes": classes}


def class_weights_of(config: Config, dataset: data.Dataset) -> np.ndarray | None:
    """Return by how much the training images of each class count, ``(K,)``; None: all alike.

    Raises:
        ConfigError: weights that are given are not as many as the classes, or all 0.
    """
    given, K = config.training.class_weights, len(dataset.classes)
    if given is None:
        return None
    if given == "balanced":
        return balanced_weights(np.bincount(np.asarray(dataset.train.labels), minlength=K))
    if len(given) != K or not any(given):
        raise ConfigError(
            f"training.class_weights: got {len(given)} numbers, need {K} that are not all 0, one "
            f"for each class: {data.named(dataset.classes, range(K))}"
        )
    return np.array(given, np.float32)


def add_proposals(config: Config, dataset: data.Dataset) -> data.Dataset:
    """Return a dataset, already split, with proposals where the config asks for some."""
    if config.proposals is None:
        return dataset
    letterbox = config.input.fit == "letterbox"
    return data.with_proposals(dataset, data.proposing(config.proposals, letterbox=letterbox))
