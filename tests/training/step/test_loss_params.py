"""A loss that owns parameters: trained with the network's, and apart from them in use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model
from convax.model import Layer, LayerInfo, LayerValueError
from convax.training.optim.optimizer import sgd
from convax.training.step.loss_params import init_loss, split_loss
from convax.training.step.train_step import (
    StepSpec,
    init_train_state,
    make_eval_step,
    make_train_step,
)

X = jnp.array([[1.0, 2.0], [3.0, -1.0]])
Y = jnp.array([0.5, 1.5])


def scaled_error(state=None):
    """The squared error times a learned factor."""

    def init(key, in_shape):
        assert in_shape == (2, 1)  # of the network's outputs
        return in_shape[:1], {"factor": jax.random.uniform(key, ())}, state or {}

    def apply(params, state, x, *, train=False, key=None):
        outputs, targets = x
        return params["factor"] * jnp.square(outputs[:, 0] - targets), state

    return Layer(init, apply, LayerInfo("loss"))


def begin(owned, **layers):
    net = model.serial(**layers) if layers else model.serial(fc=model.dense(1))
    key = jax.random.key(0)
    out_shape, params, state = net.init(key, (2, 2))
    return net, init_loss(owned, params, key, out_shape), state


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_moves_network_and_loss(accumulate):
    loss = scaled_error()
    net, params, state = begin(loss)
    recipe = StepSpec(net, loss, sgd(0.1), lambda x: x, accumulate=accumulate)
    before = jax.tree.map(np.array, params)
    train_state = init_train_state(params, state, recipe.optimizer, jax.random.key(1))
    after, metrics = make_train_step(recipe)(train_state, X, Y)
    # By hand: l = f (w x + b - y)^2, averaged.
    f, W, b = before["loss"]["factor"], before["fc"]["kernel"], before["fc"]["bias"]
    x = np.asarray(X)
    error = (x @ W + b)[:, 0] - np.asarray(Y)
    np.testing.assert_allclose(metrics["loss"], (f * error**2).mean(), rtol=1e-5)
    moved = jax.tree.map(lambda new, old: (old - new) / 0.1, after.params, before)
    np.testing.assert_allclose(moved["loss"]["factor"], (error**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(moved["fc"]["kernel"][:, 0], f * (error @ x), rtol=1e-4)


def test_a_frozen_loss_stays():
    loss = scaled_error()
    net, params, state = begin(loss)
    frozen = lambda path: path.startswith("loss/")  # noqa: E731
    recipe = StepSpec(net, loss, sgd(0.1), lambda x: x, frozen=frozen)
    first = float(params["loss"]["factor"])
    train_state = init_train_state(params, state, recipe.optimizer, jax.random.key(1))
    after, _ = make_train_step(recipe)(train_state, X, Y)
    assert after.params["loss"]["factor"] == first


def test_an_evaluation_is_given_the_loss_with_its_parameters():
    loss = scaled_error()
    net, params, state = begin(loss)

    def totals(outputs, targets, counted, loss):
        return {"loss": jnp.where(counted, loss(outputs, targets), 0).sum()}

    evaluate = make_eval_step(net, loss, totals, lambda x: x, lambda outputs: outputs)
    sums, outputs = evaluate(params, state, X, Y, jnp.array([1.0, 0.0]))
    expected = params["loss"]["factor"] * (outputs[0, 0] - Y[0]) ** 2
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-6)


def test_a_function_has_no_parameters():
    params, function = {"fc": {"kernel": X}}, lambda outputs, targets: outputs - targets
    assert init_loss(function, params, jax.random.key(0), (2, 1)) is params
    assert split_loss(function, params) == (params, function)


def test_what_a_loss_draws_changes_nothing_of_the_network():
    _, with_loss, _ = begin(scaled_error())
    _, without, _ = begin(lambda outputs, targets: outputs)
    assert with_loss.keys() - without.keys() == {"loss"}
    np.testing.assert_array_equal(with_loss["fc"]["kernel"], without["fc"]["kernel"])


def test_a_layer_may_not_have_the_name_of_the_loss():
    with pytest.raises(
        LayerValueError, match=r"loss: a layer of the network has the name .* rename"
    ):
        begin(scaled_error(), loss=model.dense(1))


def test_a_loss_has_no_state():
    with pytest.raises(LayerValueError, match=r"loss: a loss has no state: got \['mean'\]"):
        begin(scaled_error({"mean": jnp.zeros(())}))
