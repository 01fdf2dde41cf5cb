"""Clipping by value, in Python and in a config."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convax
from convax.training.config.schema import ConfigError, load_config
from convax.training.experiment import prepare
from convax.training.optim.clip import clip_by_global_norm, clip_by_value
from convax.training.optim.optimizer import chain, sgd


def test_equals_optax(rng):
    grads = {"w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.array([np.nan, -9.0])}
    ours, theirs = clip_by_value(0.5), optax.clip(0.5)
    found = jax.jit(ours.update)(grads, ours.init(grads))[0]
    expected = theirs.update(grads, theirs.init(grads))[0]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_short_type_stays():
    grads = jnp.array([3.0, -3.0], jnp.bfloat16)
    assert clip_by_value(0.1).update(grads, ())[0].dtype == jnp.bfloat16


def test_values_are_clipped_before_the_norm(tiny):
    overrides = [
        "optimizer={name='sgd', learning_rate=1.0, momentum=0.0, nesterov=false, weight_decay=0.0, clip_value=3.0, clip_norm=1.0}",
        "schedule={name='constant'}",
    ]
    experiment = prepare(load_config(tiny, overrides))
    params = experiment.init().params
    grads = jax.tree.map(lambda p: jnp.full_like(p, 7.0), params)
    updates, _ = experiment.optimizer.update(grads, experiment.optimizer.init(params), params)
    by_hand = chain(clip_by_value(3.0), clip_by_global_norm(1.0), sgd(1.0))
    expected, _ = by_hand.update(grads, by_hand.init(params), params)
    for one, other in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_with_it(tiny, tmp_path):
    run = convax.train(load_config(tiny, ["optimizer.clip_value=0.01"]), tmp_path / "run")
    assert run.info()["result"]["test"]["accuracy"] > 0.8


def test_errors(tiny):
    with pytest.raises(
        ValueError, match=r"clip_by_value: max_value is out of range: got 0, need a"
    ):
        clip_by_value(0)
    with pytest.raises(ConfigError, match=r"optimizer.clip_value: should be greater than 0"):
        load_config(tiny, ["optimizer.clip_value=0.0"])
