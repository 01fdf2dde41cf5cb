"""Taps: what a network computes on the way, as it would without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model
from convax.model.summary import _multiply_adds

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 6, 6, 2))


def network():
    """Every way in which layers nest, with state and with random numbers."""
    block = model.residual_block(
        conv1=model.conv(4, 3, padding=1), bn1=model.batch_norm(), activation=model.relu()
    )
    return model.serial(
        stem=model.conv(4, 3, padding=1),
        stage1=model.serial(block1=block, block2=model.residual(model.dropout(0.5))),
        both=model.parallel(a=model.conv(2, 1), b=model.serial(act=model.tanh())),
        pool=model.global_avg_pool(),
        fc=model.dense(5),
    )


PATHS = [
    "stage1/block1",
    "stage1/block1/conv1",
    "stage1/block2/branch",
    "both/b/act",
    "stage1",
    "fc",
]


@pytest.fixture(scope="module")
def initialized():
    net = network()
    _, params, state = net.init(KEY, X.shape)
    return net, params, state


def close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, expected
    )


def test_intermediates_are_the_outputs_of_the_layers(initialized):
    net, params, state = initialized
    (y, found), _ = model.capture_intermediates(net, PATHS).apply(params, state, X)
    assert list(found) == PATHS
    stem, _ = model.conv(4, 3, padding=1).apply(params["stem"], {}, X)
    inside = params["stage1"]["block1"]
    conv1, _ = model.conv(4, 3, padding=1).apply(inside["conv1"], {}, stem)
    bn1, _ = model.batch_norm().apply(inside["bn1"], state["stage1"]["block1"]["bn1"], conv1)
    block1 = jnp.maximum(bn1 + stem, 0)
    close(found["stage1/block1/conv1"], conv1)
    close(found["stage1/block1"], block1)
    close(found["stage1"], 2 * block1)  # no dropout in evaluation: block + block
    close(found["both/b/act"], jnp.tanh(2 * block1))
    close(found["fc"], y)


@pytest.mark.parametrize("train", [False, True])
def test_capture_changes_no_parameter_state_or_output(initialized, train):
    """The same parameters, state, random numbers, output."""
    net, params, state = initialized
    captured = model.capture_intermediates(net, PATHS)
    (out_shape, shapes), params_too, state_too = captured.init(KEY, X.shape)
    jax.tree.map(np.testing.assert_array_equal, (params_too, state_too), (params, state))
    assert out_shape == (3, 5) and shapes["stage1"] == (3, 6, 6, 4)
    y, after = net.apply(params, state, X, train=train, key=KEY)
    (y_too, found), after_too = captured.apply(params, state, X, train=train, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, (y_too, after_too), (y, after))
    assert jax.tree.structure(after_too) == jax.tree.structure(state)
    assert {path: a.shape for path, a in found.items()} == shapes


def test_capture_goes_through_jit_grad_vmap_and_remat(initialized):
    net, params, state = initialized
    captured = model.capture_intermediates(net, ["stage1/block1", "both"])

    def score(params, x):
        (_, found), _ = captured.apply(params, state, x)
        return jnp.sum(found["stage1/block1"] ** 2) + jnp.sum(found["both"])

    def run(x):
        return captured.apply(params, state, x)[0]

    close(jax.jit(run)(X), run(X))
    grads = jax.jit(jax.grad(score))(params, X)
    assert np.abs(grads["stem"]["kernel"]).max() > 0 and not grads["fc"]["kernel"].any()
    eps = jnp.zeros_like(params["both"]["a"]["bias"]).at[0].set(1e-2)
    moved = params | {
        "both": {"a": params["both"]["a"] | {"bias": params["both"]["a"]["bias"] + eps}}
    }
    slope = (score(moved, X) - score(params, X)) / 1e-2
    np.testing.assert_allclose(grads["both"]["a"]["bias"][0], slope, rtol=1e-2)
    each = jax.vmap(lambda x: run(x[None]))(X)
    close(jax.tree.map(lambda a: a[:, 0], each), run(X))
    close(jax.jit(jax.checkpoint(run))(X), run(X))


def test_capture_computes_nothing_twice(initialized):
    net, params, state = initialized

    def multiply_adds(layer):
        return _multiply_adds(jax.make_jaxpr(lambda x: layer.apply(params, state, x))(X).jaxpr)

    assert multiply_adds(model.capture_intermediates(net, PATHS)) == multiply_adds(net)
    pixels = 3 * 36  # stem, conv1, a, fc
    assert multiply_adds(net) == pixels * (9 * 2 * 4 + 9 * 4 * 4 + 4 * 2) + 3 * 6 * 5


def test_a_backbone_ends_with_its_last_path(initialized):
    net, params, state = initialized
    trunk = model.backbone(net, ["stage1/block1", "stage1"])
    shapes, own, own_state = trunk.init(KEY, X.shape)
    assert shapes == {"stage1/block1": (3, 6, 6, 4), "stage1": (3, 6, 6, 4)}
    assert list(own) == ["stem", "stage1"] and list(own_state) == ["stage1"]
    found, after = trunk.apply(params, state, X)  # the whole network's parameters fit
    (_, expected), _ = model.capture_intermediates(net, list(shapes)).apply(params, state, X)
    close(found, expected)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    inner = model.backbone(net, ["stage1/block1/bn1"])
    _, own, _ = inner.init(KEY, X.shape)
    assert list(own) == ["stem", "stage1"] and sorted(own["stage1"]["block1"]) == ["bn1", "conv1"]


def test_a_head_on_several_stages():
    """As a segmentation network does it: one layer of a `serial`, with its own parameters."""
    one, two = model.conv(3, 1), model.conv(3, 1)

    def init(key, in_shape):
        shape, first, _ = one.init(key, in_shape["stage1"])
        _, second, _ = two.init(key, in_shape["stage2"])
        return shape, {"first": first, "second": second}, {}

    def apply(params, state, x, *, train=False, key=None):
        coarse, _ = two.apply(params["second"], {}, x["stage2"])
        fine, _ = one.apply(params["first"], {}, x["stage1"])
        return fine + jnp.repeat(jnp.repeat(coarse, 2, 1), 2, 2), state

    stages = {f"stage{n}": model.conv(n * 2, 3, padding=1, stride=n) for n in (1, 2)}
    classifier = model.serial(**stages, pool=model.global_avg_pool(), fc=model.dense(9))
    net = model.serial(
        backbone=model.backbone(classifier, ["stage1", "stage2"]), head=model.Layer(init, apply)
    )
    out_shape, params, state = net.init(KEY, X.shape)
    assert out_shape == (3, 6, 6, 3) and state == {}
    assert {name: list(part) for name, part in params.items()} == {
        "backbone": ["stage1", "stage2"],
        "head": ["first", "second"],
    }
    y, _ = jax.jit(net.apply)(params, state, X)
    assert y.shape == out_shape
    summary = model.summarize(net, X.shape[1:])
    assert [row.path for row in summary.rows] == ["backbone/stage1", "backbone/stage2", "head"]
    assert summary.flops == 2 * (36 * 9 * 2 * 2 + 9 * 9 * 2 * 4 + 36 * 2 * 3 + 9 * 4 * 3)
    assert summary.receptive_field is None


def test_backbone_of_a_resnet_has_its_stages():
    trunk = model.backbone(model.resnet(10, depth=50), ["stage2", "stage3", "stage4/block1"])
    shapes, params, state = model.init_shapes(trunk, (1, 64, 64, 3))
    assert shapes == {
        "stage2": (1, 8, 8, 512), "stage3": (1, 4, 4, 1024), "stage4/block1": (1, 2, 2, 2048)
    }  # fmt: skip
    assert "fc" not in params and list(params["stage4"]) == list(state["stage4"]) == ["block1"]


def opaque():
    return network()._replace(info=network().info._replace(rebuild=None))


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: model.capture_intermediates(network(), ["stage1/blok1"]),
            r"capture_intermediates: no layer at 'stage1/blok1': need the path of a layer of this network; near it: "
            r"stage1/block\d",
        ),
        (
            lambda: model.backbone(network(), ["zzz"]),
            r"backbone: no layer at 'zzz': .*near it: stem, stage1, both, pool, fc",
        ),
        (lambda: model.backbone(network(), []), r"backbone: no paths: got \[\], need at least one"),
        (
            lambda: model.capture_intermediates(model.serial(trunk=opaque()), ["trunk/stem"]),
            r"capture_intermediates: a layer that cannot be looked into: got a serial at 'trunk', need one with "
            r"LayerInfo\.rebuild; take it as a whole",
        ),
    ],
)
def test_capture_and_backbone_refuse_unknown_paths(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_layer_without_rebuild_is_captured_as_a_whole():
    net = model.serial(trunk=opaque())
    _, params, state = net.init(KEY, X.shape)
    (y, found), _ = model.capture_intermediates(net, ["trunk"]).apply(params, state, X)
    np.testing.assert_array_equal(found["trunk"], y)


def test_capture_within_a_capture(initialized):
    net, params, state = initialized
    inside = ["stem", "stage1/block1"]
    (_, expected), _ = model.capture_intermediates(net, inside).apply(params, state, X)
    trunk = model.backbone(net, ["stage1/block1", "stage1"])
    (maps, found), after = model.capture_intermediates(trunk, inside).apply(params, state, X)
    close(found, expected)
    close(maps["stage1/block1"], expected["stage1/block1"])
    jax.tree.map(np.testing.assert_array_equal, after, trunk.apply(params, state, X)[1])
    twice = model.capture_intermediates(model.capture_intermediates(net, inside), inside)
    ((_, inner), outer), _ = twice.apply(params, state, X)
    close((inner, outer), (expected, expected))


@pytest.mark.slow
def test_capture_inside_a_fully_convolutional_network():
    net, x = model.fcn(3, backbone="resnet18", stride=16, hidden=0), jnp.ones((1, 32, 40, 3))
    _, params, state = net.init(KEY, x.shape)
    paths = ["backbone/stage3/block1/conv1", "head/score_stage4", "head/twice_stage3"]
    (shape, shapes), _, _ = model.init_shapes(model.capture_intermediates(net, paths), x.shape)
    assert shape == (1, 32, 40, 3)
    assert list(shapes.values()) == [(1, 2, 3, 256), (1, 1, 2, 3), (1, 2, 4, 3)]
    (y, found), _ = model.capture_intermediates(net, paths).apply(params, state, x)
    close(y, net.apply(params, state, x)[0])
    up = model.conv_transpose(3, 4, stride=2, padding="SAME", bias=False)
    twice, _ = up.apply(params["head"]["twice_stage3"], {}, found["head/score_stage4"])
    close(found["head/twice_stage3"], twice)


def test_backbone_of_a_network_that_has_one():
    """Only what follows in a `serial` is left out: the rest is made of all of its parts."""
    net = model.fcn(3, backbone="resnet18", stride=16, hidden=0)
    for path in ("backbone/stage3", "backbone"):
        shapes, _, _ = model.init_shapes(model.backbone(net, [path]), (1, 32, 32, 3))
        assert list(shapes) == [path]
    trunk = model.backbone(network(), ["stem", "stage1"])
    shapes, _, _ = model.init_shapes(model.backbone(trunk, ["stem"]), X.shape)
    assert shapes == {"stem": (3, 6, 6, 4)}
