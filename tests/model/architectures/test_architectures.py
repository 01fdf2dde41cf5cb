"""The named networks against published figures, and networks spelled out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model import LayerError
from convax.model.layers.norm import NORMS

KEY = jax.random.key(0)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_lenet5_has_61706_parameters():
    net = model.lenet5(10, activation="relu", pool="max")
    out_shape, params, _ = net.init(KEY, (1, 32, 32, 1))
    assert out_shape == (1, 10)
    # C1: (25+1)*6; C3: (150+1)*16; C5: (400+1)*120; F6: (120+1)*84; output: (84+1)*10
    assert count(params) == 156 + 2416 + 48120 + 10164 + 850 == 61706
    assert list(params) == ["conv1", "conv2", "dense1", "dense2", "dense3"]


@pytest.mark.parametrize("hidden", [[], [7], [30, 20, 10, 5]], ids=str)
def test_mlp_of_any_depth(hidden):
    net = model.mlp(3, hidden=hidden, activation="sigmoid")
    out_shape, params, _ = net.init(KEY, (4, 8, 8, 1))
    widths = [64, *hidden, 3]
    assert count(params) == sum((a + 1) * b for a, b in itertools.pairwise(widths))
    assert out_shape == (4, 3)


def test_lenet5_spelled_out_is_lenet5():
    layers = [
        {"type": "conv", "features": 6, "window": 5},  # initialized by He's rule, not Xavier's
        {"type": "relu"},
        {"type": "max_pool", "window": 2},
        {"type": "conv", "features": 16, "window": 5},
        {"type": "relu"},
        {"type": "max_pool", "window": 2},
        {"type": "flatten"},
        {"type": "dense", "features": 120},
        {"type": "relu"},
        {"type": "dense", "features": 84},
        {"type": "relu"},
        {"type": "dense", "features": 10},
    ]
    spelled = model.build({"layers": layers}, classes=10)
    named = model.build({"name": "lenet5", "activation": "relu", "pool": "max"}, classes=10)
    _, params, _ = named.init(KEY, (1, 32, 32, 1))
    _, twin, _ = spelled.init(KEY, (1, 32, 32, 1))
    assert jax.tree.structure(params) == jax.tree.structure(twin)
    x = jax.random.normal(KEY, (2, 32, 32, 1))
    np.testing.assert_array_equal(named.apply(params, {}, x)[0], spelled.apply(params, {}, x)[0])


def test_every_registered_layer_can_be_built_and_run():
    needed = {"conv": {"features": 4, "window": 3}, "dense": {"features": 4}}
    needed |= {"conv_transpose": {"features": 4, "window": 2}, "depthwise_conv": {"window": 3}}
    windows = ("max_pool", "avg_pool", "lp_pool", "mixed_pool", "stochastic_pool")
    needed |= {name: {"window": 2} for name in windows}
    needed |= {name: {"output_size": 4} for name in ("adaptive_max_pool", "adaptive_avg_pool")}
    needed |= {"upsample": {"scale": 2}}
    needed |= {"maxout": {"num_pieces": 3}, "group_norm": {"groups": 3}, "dropout": {"rate": 0.5}}
    needed |= {"stochastic_depth": {"rate": 0.5}, "pad": {"padding": 1}}
    needed |= {name: {"factor": 2} for name in ("pixel_shuffle", "pixel_unshuffle")}
    needed |= {"channel_shuffle": {"groups": 3}, "unfold": {"window": 2}}
    needed |= {"fold": {"size": 7, "window": 2}}
    for name in model.LAYERS:
        net = model.from_layers([{"type": name, **needed.get(name, {})}])
        out_shape, params, state = net.init(KEY, (2, 6, 6, 12))
        assert net.apply(params, state, jnp.ones((2, 6, 6, 12)))[0].shape == out_shape


def test_a_classifier_must_give_one_logit_for_each_class():
    net = model.from_layers([{"type": "flatten"}, {"type": "dense", "features": 12}])
    message = r"^model: the last layer gives \(12,\) an image, but the data has 10 classes"
    with pytest.raises(LayerError, match=message):
        model.init_classifier(net, KEY, (1, 8, 8, 1), 10)


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_of_another_width_with_group_norm(depth):
    net = model.resnet(10, depth=depth, norm="group", width=24, zero_init_residual=True)
    out_shape, params, state = model.init_shapes(net, (2, 64, 64, 3))
    assert out_shape == (2, 10) and not state
    block = params["stage1"]["block1"]
    assert params["conv1"]["kernel"].shape == (7, 7, 3, 24) and "gn1" in block
    groups = [layer.info.kind for layer in net.info.parts.values()]
    assert groups[1] == "group_norm"


@pytest.mark.parametrize("features, groups", [(256, 32), (64, 8), (48, 2), (20, 2), (7, 1)])
def test_group_norm_of_an_architecture_has_at_most_32_groups_of_eight_channels(features, groups):
    x = jax.random.normal(KEY, (1, 3, 3, features))
    layer = NORMS["group"].layer(features)
    _, params, _ = layer.init(KEY, x.shape)
    expected = ops.group_norm(x, groups=groups, **params)
    np.testing.assert_array_equal(layer.apply(params, {}, x)[0], expected)
