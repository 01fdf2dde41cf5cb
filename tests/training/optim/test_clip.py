"""Clipping by value and by the norm, as a config asks for it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convax
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import prepare
from convax.training.optim.clip import clip_by_global_norm
from convax.training.optim.optimizer import sgd


def test_clip_value_acts_before_clip_norm(tiny):
    overrides = [
        "optimizer={name='sgd', learning_rate=1.0, momentum=0.0, nesterov=false, weight_decay=0.0, clip_value=3.0, clip_norm=1.0}",
        "schedule={name='constant'}",
    ]
    experiment = prepare(load_config(tiny, overrides))
    params = experiment.init().params
    grads = jax.tree.map(lambda p: jnp.full_like(p, 7.0), params)
    updates, _ = experiment.optimizer.update(grads, experiment.optimizer.init(params), params)
    by_hand = optax.chain(optax.clip(3.0), clip_by_global_norm(1.0), sgd(1.0))
    expected, _ = by_hand.update(grads, by_hand.init(params), params)
    for one, other in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_with_clipped_values_learns(tiny, tmp_path):
    run = convax.train(load_config(tiny, ["optimizer.clip_value=0.01"]), tmp_path / "run")
    assert run.info()["result"]["test"]["accuracy"] > 0.8


def test_clip_bound_of_zero_is_a_config_error(tiny):
    with pytest.raises(ConfigError, match=r"optimizer.clip_value: should be greater than 0"):
        load_config(tiny, ["optimizer.clip_value=0.0"])
