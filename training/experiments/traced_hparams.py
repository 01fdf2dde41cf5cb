"""Experiments that differ in nothing but numbers, as one: what `batched_program` compiles.

The seed, and the hyper-parameters of `TRACED`, are no part of a program: they can be arguments of
it. `hparams_of` takes them out of an experiment, and `bind` puts others in, which may be
traced. So the program of one experiment, mapped over these arguments, is that of all its siblings.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from .. import data
from ..config.given import NOTHING, attach
from ..config.schema import Config
from ..config_data import add_proposals, class_weights_of, read_data
from ..experiment import (
    COMPILE_QUICKLY,
    Experiment,
    augmentation_of,
    check_learning_rates,
    dataset_card,
    init_network,
    make_optimizer,
    make_schedule,
    make_train_state,
    prepare,
    run_length,
    split_seed,
)
from ..tasks.registry import make_task

# The keys of a config, beside the seed, whose values may be traced.
TRACED = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "optimizer.b1",
    "optimizer.b2",
    "optimizer.eps",
    "optimizer.clip_norm",
    "loss.label_smoothing",
    "loss.margin",
)

HParams = dict[str, Any]
_WEIGHTS = "class_weights"  # among them, which are of the seed's training images


def differing(configs: Sequence[Config]) -> list[str]:
    """Return the keys of `TRACED` that are not the same in all configs, which all have them."""
    return [key for key in TRACED if len({value_at(config, key) for config in configs}) > 1]


def program_of(config: Config) -> str:
    """Return a text that two configs have in common where one program can train both."""
    table = config.model_dump(exclude={"seed", "sweep"}, exclude_none=True)
    for key in TRACED:
        part, name = key.split(".")
        if key != "optimizer.momentum" or value_at(config, key):  # without it no velocity is kept
            table[part] = {k: "traced" if k == name else v for k, v in table[part].items()}
    return repr(table)


def prepare_members(configs: Sequence[Config]) -> list[Experiment]:
    """Make each config ready to run; what they share is there once: network, data as it was read.

    Args:
        configs: of one program (`program_of`).

    Returns:
        Their experiments, in this order.
    """
    attach(configs[0], NOTHING)  # of which there are none
    source = configs[0].data.model_dump(exclude_none=True)
    made = source["source"] in data.MADE
    named = () if made else ("validation", "test", "stratify")
    parts: dict[str, Any] = {part: source.pop(part, 0) for part in named}
    parts |= {} if made else {"fold": source.pop("fold", None)}
    everything = read_data(configs[0], source, seed=0)
    datasets = {
        seed: add_proposals(
            configs[0], everything if made else data.split(everything, **parts, seed=seed)
        )
        for seed in {c.seed for c in configs}
    }
    first = prepare(configs[0], datasets[configs[0].seed])
    cards = {seed: dataset_card(configs[0], dataset) for seed, dataset in datasets.items()}

    def begin(keys: tuple[Array, Array]):
        params, state, run_key = init_network(first.task, first.net, first.card, keys)
        return make_train_state(first.config, first.optimizer, params, state, run_key)

    start = jax.jit(begin, compiler_options=COMPILE_QUICKLY)

    def member(config: Config) -> Experiment:
        schedule = _schedule(first, config)
        return first._replace(
            config=config,
            task=make_task(config, len(first.card.classes)),
            dataset=datasets[config.seed],
            card=cards[config.seed],
            optimizer=make_optimizer(config, schedule),
            schedule=schedule,
            init=partial(start, split_seed(config.seed)),
            augment=augmentation_of(config, cards[config.seed]),
            class_weights=class_weights_of(config, datasets[config.seed]),
        )

    members = [member(config) for config in configs]
    for pick in (min, max):  # a schedule is proportional to its peak
        extreme = pick(members, key=lambda one: one.config.optimizer.learning_rate)
        check_learning_rates(extreme.config, extreme.schedule, extreme.total_steps)
    return members


def hparams_of(experiment: Experiment, keys: Sequence[str]) -> HParams:
    """Return the values of these keys, and the statistics of the data, which are the seed's."""
    weights = experiment.class_weights
    of_classes = {} if weights is None else {_WEIGHTS: weights}
    values = {key: np.float32(value_at(experiment.config, key)) for key in keys}
    return experiment.card.preprocessing.statistics | of_classes | values


def bind(experiment: Experiment, hparams: HParams) -> Experiment:
    """Return the experiment with other values of its hyper-parameters, which may be traced.

    Args:
        experiment: any of those that share a program.
        hparams: see `hparams_of`.
    """
    config, card = experiment.config, experiment.card
    measured = {name: hparams[name] for name in card.preprocessing.statistics}
    spec = card.preprocessing._replace(**measured)
    for key in hparams.keys() - measured.keys() - {_WEIGHTS}:
        config = _put(config, key, hparams[key])
    schedule, card = _schedule(experiment, config), card._replace(preprocessing=spec)
    return experiment._replace(
        config=config,
        task=make_task(config, len(card.classes)),
        card=card,
        augment=augmentation_of(config, card),
        schedule=schedule,
        optimizer=make_optimizer(config, schedule),
        class_weights=hparams.get(_WEIGHTS),
    )


def _schedule(experiment: Experiment, config: Config) -> Any:
    """The learning rate of a config that is as long as the experiment."""
    examples, total = experiment.card.counts["train"], experiment.total_steps
    return make_schedule(config, run_length(config, examples, total))


def value_at(config: Config, key: str) -> Any:
    """Return the value of a key ``table.name``; None where that table has none of this name."""
    part, name = key.split(".")
    return getattr(getattr(config, part), name, None)


def _put(config: Config, key: str, value: Any) -> Config:
    """The config with another value, which is not looked at."""
    part, name = key.split(".")
    table = getattr(config, part).model_copy(update={name: value})
    return config.model_copy(update={part: table})
