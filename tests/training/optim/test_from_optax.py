"""Optax's optimizers by name: each can be a config's, and takes its steps as ours do."""

from inspect import signature

import jax
import jax.numpy as jnp
import optax.contrib
import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.loop.signals import InterruptedRun
from convax.training.optim.from_optax import _UNFIT, is_off, optax_optimizers
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes

THEIRS = optax_optimizers()
SHAPES = {"kernel": (3, 3, 1, 4), "dense": (8, 4), "bias": (4,), "scale": ()}


@pytest.mark.parametrize("name", THEIRS)
def test_a_step_takes_gradient_state_and_parameters_alone(name):
    """And its state keeps its shapes and dtypes, so that steps can be one program."""
    optimizer = THEIRS[name](lambda step: 0.1 / (1 + step))
    params = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in SHAPES.items()}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state = jax.eval_shape(optimizer.init, params)
        updates, after = jax.eval_shape(optimizer.update, params, state, params)
    assert {key: u.shape for key, u in updates.items()} == SHAPES
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )


def test_those_left_out_are_there():
    for name in _UNFIT:
        part, _, function = name.rpartition(".")
        assert hasattr(optax.contrib if part else optax, function)
    assert not any(f"optax.{name}" in THEIRS for name in _UNFIT)
    assert {"optax.lion", "optax.lamb", "optax.rmsprop", "optax.adagrad"} < THEIRS.keys()
    assert "optax.contrib.muon" in THEIRS


def test_what_a_config_must_state():
    lion = ["optimizer={name='optax.lion', learning_rate=1e-3}"]
    with pytest.raises(ConfigError, match=r"optimizer\.b1: missing; write optimizer\.b1 = 0\.9"):
        load_config("lenet5-digits", lion)
    with pytest.raises(ConfigError, match=r"got 'optax\.loin'; did you mean 'optax\.lion'"):
        load_config("lenet5-digits", ["optimizer={name='optax.loin', learning_rate=1e-3}"])
    stated = [f"optimizer.{key}" for key in ("b1=0.9", "b2=0.99", "weight_decay=0.0")]
    assert load_config("lenet5-digits", lion + stated).optimizer.b2 == 0.99
    with pytest.raises(ConfigError, match=r"optimizer\.beta: unknown key"):
        load_config("lenet5-digits", [*lion, *stated, "optimizer.beta=1"])


@pytest.mark.slow
def test_killed_and_resumed_muon_ends_with_the_same_bytes(tmp_path):
    parameters = signature(THEIRS["optax.contrib.muon"]).parameters
    stated = {key: p.default for key, p in parameters.items() if not is_off(p)}
    stated |= {"learning_rate": 0.01}
    table = ", ".join(f"{key} = {value}" for key, value in stated.items())
    changes = [f'optimizer={{name = "optax.contrib.muon", {table}}}']
    config = load_config(write_tiny(tmp_path), changes)
    with jax.numpy_dtype_promotion("standard"):
        whole = convax.train(config, tmp_path / "whole")
        with pytest.raises(InterruptedRun):
            convax.train(config, tmp_path / "run", display=Recorder(33))
        assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(whole)
    assert whole.info()["result"]["test"]["accuracy"] > 0.6
