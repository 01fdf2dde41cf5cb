"""A batch in parts: the gradient of the whole, in less memory; and where it is another."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax import model, ops
from convax.training.common.memory import memory_usage
from convax.training.config.schema import ConfigError, load_config
from convax.training.optim.optimizer import adam, sgd
from convax.training.step.gradient import make_gradient
from convax.training.step.gradient_accumulation import accumulated
from convax.training.step.train_step import StepSpec, init_train_state, make_train_step
from convax.training.tasks.classification.task import accuracy

LOSS = partial(ops.softmax_cross_entropy, label_smoothing=0.1, reduction="none")
CONV = {"type": "conv", "features": 8, "window": 3}
END = [{"type": "flatten"}, {"type": "dense", "features": 3}]
PLAIN = [CONV, {"type": "group_norm", "groups": 2}, {"type": "relu"}, *END]
NORMED = [CONV, {"type": "batch_norm"}, {"type": "relu"}, *END]
DROPPED = [CONV, {"type": "flatten"}, {"type": "dropout", "rate": 0.5}, END[1]]
N = 24


def setting(layers, rng, shape=(6, 6, 1)):
    """Network, parameters, state, and a batch."""
    net = model.from_layers(layers)
    params, state = model.init_classifier(net, jax.random.key(0), (1, *shape), 3)
    x = jnp.asarray(rng.normal(size=(N, *shape)), jnp.float32)
    return net, params, state, x, jnp.asarray(rng.integers(0, 3, N), jnp.int32)


def close(one, other, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)


@pytest.mark.parametrize("parts", [2, 3, 24])
def test_the_gradient_is_that_of_the_whole_batch(parts, rng):
    net, params, state, x, labels = setting(PLAIN, rng)
    gradient = make_gradient(net, LOSS, accuracy)
    key = jax.random.key(1)
    whole = jax.jit(gradient)(params, state, x, labels, key)
    inside = jax.jit(accumulated(gradient, parts))(params, state, x, labels, key)
    close(inside, whole)


def test_accumulated_gradient_differs_by_rounding_alone(rng):
    """In float64 it is smaller."""
    net, params, state, x, labels = setting(PLAIN, rng)
    gradient, key = make_gradient(net, LOSS, lambda outputs, targets: {}), jax.random.key(1)
    with jax.enable_x64(True):
        params, x = (jax.tree.map(lambda a: a.astype(jnp.float64), a) for a in (params, x))
        arguments = (params, state, x, labels, key)
        found, whole = jax.jit(accumulated(gradient, 3))(*arguments), jax.jit(gradient)(*arguments)
        close(found, whole, 1e-12)


def test_accumulation_of_one_part_is_the_gradient_itself():
    assert accumulated(len, 1) is len


def test_batch_norm_takes_the_statistics_of_each_part(rng):
    """By hand: parts of every third example, through which the state goes."""
    net, params, state, x, labels = setting(NORMED, rng)
    gradient, key = jax.jit(make_gradient(net, LOSS, accuracy)), jax.random.key(1)
    found = jax.jit(accumulated(gradient, 3))(params, state, x, labels, key)
    grads, after = [], state
    for j in range(3):
        one = gradient(params, after, x[j::3], labels[j::3], key)
        grads, after = [*grads, one.grads], one.state
    close(found.state, after)
    close(found.grads, jax.tree.map(lambda *g: sum(g) / 3, *grads))
    whole = gradient(params, state, x, labels, key)
    assert np.abs(found.grads["conv1"]["kernel"] - whole.grads["conv1"]["kernel"]).max() > 1e-4


def test_accumulated_parts_draw_with_their_own_keys(rng):
    net, params, state, _, _ = setting(DROPPED, rng)
    x, labels = jnp.ones((N, 6, 6, 1)), jnp.zeros(N, jnp.int32)
    gradient, key = jax.jit(make_gradient(net, LOSS, accuracy)), jax.random.key(1)
    found = jax.jit(accumulated(gradient, 2))(params, state, x, labels, key)
    keys = [jax.random.fold_in(key, j) for j in range(2)]
    losses = [gradient(params, state, x[::2], labels[::2], k).loss for k in keys]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(found.loss, sum(losses) / 2, 1e-6)


def test_accumulation_needs_less_memory(rng):
    """Eight parts: what is kept for the backward pass is an eighth."""
    net, params, state, _, _ = setting([CONV, {"type": "relu"}, CONV, *END], rng, (32, 32, 3))
    images = jax.ShapeDtypeStruct((256, 32, 32, 3), jnp.uint8)
    labels = jax.ShapeDtypeStruct((256,), jnp.int32)
    optimizer = sgd(0.1)
    start = init_train_state(params, state, optimizer, jax.random.key(0))

    def size(parts):
        step = make_train_step(
            StepSpec(net, LOSS, optimizer, lambda x: x.astype(jnp.float32), accumulate=parts)
        )
        return memory_usage(step.lower(start, images, labels).compile())

    whole, eight = size(1), size(8)
    assert whole is not None and eight is not None
    assert eight < whole / 3


def test_accumulation_learns_the_same(tiny, tmp_path):
    whole = convax.train(load_config(tiny), tmp_path / "whole")
    parts = convax.train(load_config(tiny, ["training.grad_accum_steps=4"]), tmp_path / "parts")
    losses = [[r["loss"] for r in run.metrics() if r["kind"] == "train"] for run in (whole, parts)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_accumulation_works_with_frozen_layers_and_under_vmap(rng):
    net, params, state, x, labels = setting(NORMED, rng)
    frozen = lambda path: path.startswith(("conv1", "batch_norm1"))  # noqa: E731
    gradient = accumulated(make_gradient(net, LOSS, accuracy, frozen), 4)
    key = jax.random.key(1)
    found = gradient(params, state, x, labels, key)
    assert not found.grads["conv1"]["kernel"].any() and found.grads["dense1"]["kernel"].any()
    close(found.state, state, 0)
    many = jax.vmap(gradient, in_axes=(0, None, None, None, None))
    twice = jax.tree.map(lambda p: jnp.stack([p, p]), params)
    close(jax.tree.map(lambda a: a[1], many(twice, state, x, labels, key)), found)


def test_adam_takes_one_step_a_batch(rng):
    net, params, state, x, labels = setting(PLAIN, rng)
    optimizer = adam(1e-2)
    step = make_train_step(StepSpec(net, LOSS, optimizer, lambda x: x, accumulate=4))
    after, _ = step(init_train_state(params, state, optimizer, jax.random.key(0)), x, labels)
    assert (int(after.opt_state.count), int(after.step)) == (1, 1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.grad_accum_steps=3"],
            r"training.grad_accum_steps: grad_accum_steps = 3 should divide batch_size = 16",
        ),
        (["training.grad_accum_steps=0"], r"training.grad_accum_steps: should be greater than 0"),
        (
            [
                "training.grad_accum_steps=2",
                'task="embedding"',
                'loss={name="contrastive", margin=1.0}',
            ],
            r"'contrastive' compares the images of a whole batch: training.grad_accum_steps would",
        ),
    ],
)
def test_grad_accum_steps_that_do_not_fit_are_rejected(tiny, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(tiny, overrides)
