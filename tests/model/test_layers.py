"""Each layer against its op, and the layers' own arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops

KEY = jax.random.key(0)


def run(layer, x):
    out_shape, params, state = layer.init(KEY, x.shape)
    y, _ = layer.apply(params, state, x)
    assert y.shape == out_shape
    return params, y


@pytest.mark.parametrize(
    ("shape", "window", "kernel_shape"),
    [
        ((2, 9, 4), 3, (3, 2, 6)),
        ((2, 9, 8, 4), [3, 1], (3, 1, 2, 6)),
        ((2, 5, 6, 7, 4), 2, (2, 2, 2, 2, 6)),
    ],
    ids=["1-D", "2-D", "3-D"],
)
def test_conv_takes_its_rank_from_the_input(shape, window, kernel_shape):
    x = jax.random.normal(KEY, shape)
    layer = model.conv(6, window, stride=2, padding=1, groups=2)
    params, y = run(layer, x)
    assert params["kernel"].shape == kernel_shape
    expected = ops.conv(x, params["kernel"], params["bias"], stride=2, padding=1, groups=2)
    np.testing.assert_array_equal(y, expected)


def test_bias_can_be_left_out_and_starts_at_zero():
    assert list(run(model.conv(6, 3, bias=False), jnp.ones((1, 5, 5, 1)))[0]) == ["kernel"]
    assert list(run(model.dense(6, bias=False), jnp.ones((1, 5)))[0]) == ["kernel"]
    assert not run(model.dense(6), jnp.ones((1, 5)))[0]["bias"].any()


@pytest.mark.parametrize("padding", ["SAME", [1, 2]])
def test_pools(padding):
    x = jax.random.normal(KEY, (2, 9, 9, 3))
    _, y = run(model.max_pool([2, 3], stride=2, padding=[1, 1]), x)
    np.testing.assert_array_equal(y, ops.max_pool(x, (2, 3), stride=2, padding=1))
    _, y = run(model.avg_pool(5, padding=padding, count_include_pad=False), x)
    if isinstance(padding, list):
        padding = tuple(padding)
    np.testing.assert_array_equal(y, ops.avg_pool(x, 5, padding=padding, count_include_pad=False))


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "softmax", "gelu", "silu"]
)
def test_activations(name):
    x = jax.random.normal(KEY, (2, 5))
    expected = getattr(ops, name)(x)
    np.testing.assert_array_equal(run(model.activation(name), x)[1], expected)
    np.testing.assert_array_equal(run(model.LAYERS[name](), x)[1], expected)


def test_activation_settings():
    x = jnp.array([[-1.0, 2.0]])
    np.testing.assert_allclose(run(model.leaky_relu(negative_slope=0.5), x)[1], [[-0.5, 2.0]])
    np.testing.assert_allclose(
        run(model.elu(alpha=2.0), x)[1], [[2 * np.expm1(-1), 2.0]], rtol=1e-6
    )


def test_kernel_init_by_name_or_function():
    named = run(model.dense(50, kernel_init="xavier_uniform"), jnp.ones((1, 40)))[0]["kernel"]
    np.testing.assert_array_equal(named, ops.xavier_uniform(KEY, (40, 50)))
    ones = run(model.dense(5, kernel_init=lambda k, s, d: jnp.ones(s, d)), jnp.ones((1, 4)))[0]
    assert ones["kernel"].sum() == 20
    with pytest.raises(ValueError, match=r"kernel_init: unknown name: got 'he'; need one of "):
        model.dense(5, kernel_init="he").init(KEY, (1, 4))  # type: ignore[arg-type]


def test_unknown_activation():
    with pytest.raises(ValueError, match=r"activation: unknown name: got 'rely'; need one of relu"):
        model.activation("rely")  # type: ignore[arg-type]
