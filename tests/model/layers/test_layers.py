"""Each layer against its op, and the layers' own arguments."""

import inspect
import typing
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model.layers.activation import ActivationName
from convax.training.optim.optimizer import sgd
from convax.training.step.train_step import (
    StepSpec,
    init_train_state,
    make_eval_step,
    make_train_step,
)
from convax.training.tasks.classification.task import correct_answers

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
def test_pools_equal_their_ops(padding):
    x = jax.random.normal(KEY, (2, 9, 9, 3))
    _, y = run(model.max_pool([2, 3], stride=2, padding=[1, 1]), x)
    np.testing.assert_array_equal(y, ops.max_pool(x, (2, 3), stride=2, padding=1))
    _, y = run(model.avg_pool(5, padding=padding, count_include_pad=False), x)
    if isinstance(padding, list):
        padding = tuple(padding)
    np.testing.assert_array_equal(y, ops.avg_pool(x, 5, padding=padding, count_include_pad=False))
    _, y = run(model.max_pool(2, stride=1, dilation=[2, 3], ceil_mode=True), x)
    np.testing.assert_array_equal(y, ops.max_pool(x, 2, stride=1, dilation=(2, 3), ceil_mode=True))
    for name, op in (("avg_pool", ops.avg_pool), ("lp_pool", ops.lp_pool)):
        _, y = run(model.LAYERS[name](4, padding=1, ceil_mode=True), x)
        np.testing.assert_array_equal(y, op(x, 4, padding=1, ceil_mode=True))


def test_conv_transpose_equals_its_op():
    x = jax.random.normal(KEY, (2, 3, 4, 4))
    layer = model.conv_transpose(6, [3, 2], stride=2, padding=[1, 0], output_padding=1, groups=2)
    params, y = run(layer, x)
    assert params["kernel"].shape == (3, 2, 2, 6)
    options = {"stride": 2, "padding": (1, 0), "output_padding": 1, "groups": 2}
    expected = ops.conv_transpose(x, params["kernel"], params["bias"], **options)
    np.testing.assert_array_equal(y, expected)
    flops = model.summarize(layer, x.shape[1:]).flops
    assert flops == 2 * (3 * 4 * 4) * (3 * 2) * (6 // 2)  # each input element, tap and output


def test_depthwise_conv_equals_its_op():
    x = jax.random.normal(KEY, (2, 5, 4, 3))
    params, y = run(model.depthwise_conv(3, multiplier=2, stride=2, padding="SAME"), x)
    assert params["kernel"].shape == (3, 3, 1, 6)
    expected = ops.depthwise_conv(x, params["kernel"], params["bias"], stride=2)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", ["mixed_pool", "stochastic_pool"])
def test_random_pools_draw_in_training_alone(name):
    x = jax.random.uniform(KEY, (2, 6, 6, 3))
    layer, op = model.LAYERS[name](window=3, stride=2, padding=1), getattr(ops, name)
    options = {"window": 3, "stride": 2, "padding": 1}
    np.testing.assert_array_equal(run(layer, x)[1], op(x, **options, train=False))
    drawn, _ = layer.apply({}, {}, x, train=True, key=KEY)
    np.testing.assert_array_equal(drawn, op(x, **options, train=True, key=KEY))
    with pytest.raises(ValueError, match="no random key"):
        layer.apply({}, {}, x, train=True)


def test_pools_of_the_whole_image():
    x = jax.random.normal(KEY, (2, 6, 5, 3))
    np.testing.assert_array_equal(run(model.global_avg_pool(), x)[1], ops.global_avg_pool(x))
    np.testing.assert_array_equal(run(model.global_max_pool(), x)[1], ops.global_max_pool(x))
    _, y = run(model.adaptive_avg_pool([2, 3]), x)
    np.testing.assert_array_equal(y, ops.adaptive_avg_pool(x, (2, 3)))
    _, y = run(model.spatial_pyramid_pool([3, 1]), x)
    np.testing.assert_array_equal(y, ops.spatial_pyramid_pool(x, (3, 1)))
    _, y = run(model.upsample([2, 3], method="bilinear", align_corners=True), x)
    expected = ops.upsample(x, (2, 3), method="bilinear", align_corners=True)
    np.testing.assert_array_equal(y, expected)
    averaged = {"method": "bicubic", "antialias": True}
    _, y = run(model.upsample(0.5, **averaged), x)
    np.testing.assert_array_equal(y, ops.upsample(x, 0.5, **averaged))
    _, y = run(model.upsample([1.5, 0.7]), x)
    np.testing.assert_array_equal(y, ops.upsample(x, (1.5, 0.7)))
    _, y = run(model.lp_pool(2, p=3.0), x)
    np.testing.assert_array_equal(y, ops.lp_pool(x, 2, p=3.0))


GIVEN = {"train", "key", "axis_name"}  # by whoever applies a layer
# What a layer takes besides, and what is another default than the operation's: PyTorch's, and a
# list where it is a tuple.
PADDED = {"conv", "conv_transpose", "depthwise_conv"}
OTHER_DEFAULTS = {(name, "padding") for name in PADDED} | {("spatial_pyramid_pool", "levels")}


def kinds_of(hint):
    """The kinds of values in a type: those of TOML, and arrays."""
    if hint is jax.Array or hint is type(None):
        return set()
    if typing.get_origin(hint) is typing.Literal:
        return {type(value) for value in typing.get_args(hint)}
    if typing.get_origin(hint) in (list, Sequence):
        return {list} | {(list, kind) for kind in kinds_of(typing.get_args(hint)[0])}
    if typing.get_origin(hint) is tuple:
        return {list} | {(list, kind) for kind in kinds_of(typing.get_args(hint)[0])}
    if isinstance(hint, type):
        return {hint}
    return set().union(*map(kinds_of, typing.get_args(hint)))


@pytest.mark.parametrize("name", [name for name in model.LAYERS if hasattr(ops, name)])
def test_layers_have_every_option_of_their_ops(name):
    """A config can write what a program can: each keyword, its default and the kinds of values."""
    op, layer = getattr(ops, name), model.LAYERS[name]
    hints, ours = typing.get_type_hints(op), inspect.signature(layer).parameters
    for option, parameter in inspect.signature(op).parameters.items():
        kinds = kinds_of(hints[option])
        if not kinds or option in GIVEN:
            continue
        assert option in ours, f"{name} has no {option}"
        assert kinds <= kinds_of(typing.get_type_hints(layer)[option]), option
        if (name, option) not in OTHER_DEFAULTS:
            assert ours[option].default == parameter.default, option


@pytest.mark.parametrize("axis", [-1, 1, -2])
def test_softmax_of_an_axis(axis):
    x = jax.random.normal(KEY, (2, 6, 5, 3))
    np.testing.assert_array_equal(run(model.softmax(axis=axis), x)[1], ops.softmax(x, axis))
    net = model.serial(model.softmax(axis=axis))
    field = model.summarize(net, (6, 5, 3)).receptive_field
    assert field == ((1, 1) if axis == -1 else (6, 5))


@pytest.mark.parametrize("axis", [0, -4, 4, -5])
def test_softmax_of_no_axis_is_rejected(axis):
    with pytest.raises(ValueError, match=rf"bad axis: got {axis} for .* 1 to 3, as 0 is the batch"):
        model.softmax(axis=axis).init(KEY, (2, 6, 5, 3))


def test_upsampling_by_a_fraction_says_nothing_of_what_it_sees():
    net = model.serial(model.conv(1, 3), model.upsample(1.5))
    assert model.summarize(net, (8, 8, 1)).receptive_field is None
    for whole in (2, 2.0, [2.0, 2]):
        net = model.serial(model.conv(1, 3), model.upsample(whole))
        assert model.summarize(net, (8, 8, 1)).receptive_field == (3, 3)


@pytest.mark.parametrize("scale", [0, -1.5, [], [2, 0.0], float("inf"), float("nan"), 1e300])
def test_scale_that_is_none_is_rejected(scale):
    with pytest.raises(ValueError, match=r"bad scale: got .*, need a positive number"):
        model.upsample(scale)


@pytest.mark.parametrize("name", get_args(ActivationName))
def test_activations_equal_their_ops(name):
    x = jax.random.normal(KEY, (2, 5))
    expected = getattr(ops, name)(x)
    np.testing.assert_array_equal(run(model.activation(name), x)[1], expected)
    np.testing.assert_array_equal(run(model.LAYERS[name](), x)[1], expected)


def test_activation_settings_reach_the_op():
    x = jnp.array([[-1.0, 2.0]])
    np.testing.assert_allclose(run(model.leaky_relu(negative_slope=0.5), x)[1], [[-0.5, 2.0]])
    np.testing.assert_allclose(
        run(model.elu(alpha=2.0), x)[1], [[2 * np.expm1(-1), 2.0]], rtol=1e-6
    )
    np.testing.assert_array_equal(run(model.celu(alpha=2.0), x)[1], ops.celu(x, 2.0))
    np.testing.assert_array_equal(run(model.softplus(beta=2.0), x)[1], ops.softplus(x, 2.0))
    clipped = run(model.hardtanh(min_val=-0.5, max_val=1.5), x)[1]
    np.testing.assert_array_equal(clipped, [[-0.5, 1.5]])


def test_glu_halves_the_channels():
    x = jax.random.normal(KEY, (2, 3, 6))
    np.testing.assert_array_equal(run(model.glu(), x)[1], ops.glu(x))


def test_kernel_init_by_name_or_function():
    named = run(model.dense(50, kernel_init="xavier_uniform"), jnp.ones((1, 40)))[0]["kernel"]
    np.testing.assert_array_equal(named, ops.xavier_uniform(KEY, (40, 50)))
    ones = run(model.dense(5, kernel_init=lambda k, s, d: jnp.ones(s, d)), jnp.ones((1, 4)))[0]
    assert ones["kernel"].sum() == 20
    with pytest.raises(ValueError, match=r"kernel_init: unknown name: got 'he', need one of "):
        model.dense(5, kernel_init="he").init(KEY, (1, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda **b: model.conv(6, 3, **b), (1, 4, 4, 2)),
        (lambda **b: model.conv_transpose(6, 2, **b), (1, 4, 4, 2)),
        (lambda **b: model.depthwise_conv(3, **b), (1, 4, 4, 6)),
        (lambda **b: model.dense(6, **b), (1, 4)),
    ],
)
def test_bias_init_by_number_or_function(make, shape):
    plain, ones = (make(**b).init(KEY, shape)[1] for b in ({}, {"bias_init": 1.0}))
    np.testing.assert_array_equal(ones["bias"], np.ones(6))
    np.testing.assert_array_equal(ones["kernel"], plain["kernel"])
    drawn = make(bias_init=lambda key, shape, dtype: jax.random.normal(key, shape, dtype))
    bias = drawn.init(KEY, shape)[1]["bias"]
    assert bias.shape == (6,) and bias.std() > 0.1
    assert "bias" not in make(bias=False, bias_init=1.0).init(KEY, shape)[1]


def test_scales_at_the_end_of_a_branch():
    layer = model.layer_scale(initial=0.5)
    x = jax.random.normal(KEY, (2, 3, 3, 4))
    params, y = run(layer, x)
    close(y, x / 2)
    assert params["scale"].shape == (4,)
    close(layer.apply({"scale": SCALE}, {}, x)[0], np.asarray(x) * np.arange(1, 5))
    assert not run(model.batch_norm(scale_init=0.0), x)[1].any()


def test_stochastic_depth_drops_examples_in_training_alone():
    layer, x = model.stochastic_depth(0.5), jnp.ones((64, 3, 2))
    np.testing.assert_array_equal(run(layer, x)[1], x)
    y, _ = layer.apply({}, {}, x, train=True, key=KEY)
    np.testing.assert_array_equal(y, ops.stochastic_depth(x, 0.5, train=True, key=KEY))
    with pytest.raises(ValueError, match="stochastic_depth: no random key"):
        layer.apply({}, {}, x, train=True)


def test_activation_refuses_an_unknown_name():
    with pytest.raises(
        ValueError, match=r"activation: unknown name: got 'rely', need one of 'relu'"
    ):
        model.activation("rely")  # type: ignore[arg-type]


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


SCALE, BIAS = jnp.arange(1.0, 5.0), jnp.arange(4.0)
NORMS = {
    "batch_norm": (model.batch_norm(), lambda x, s, b: ops.batch_norm(x, 0 * s, 0 * s + 1, s, b, train=False)[0]),
    "layer_norm": (model.layer_norm(), ops.layer_norm),
    "group_norm": (model.group_norm(2), lambda *a: ops.group_norm(*a, groups=2)),
    "instance_norm": (model.instance_norm(), ops.instance_norm),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_norms_scale_and_shift_each_channel(name):
    layer, expected = NORMS[name]
    x = jax.random.normal(KEY, (2, 3, 3, 4))
    params, y = run(layer, x)
    close(y, expected(x, jnp.ones(4), jnp.zeros(4)))
    assert {k: v.shape for k, v in params.items()} == {"scale": (4,), "bias": (4,)}
    _, _, state = layer.init(KEY, x.shape)
    y, _ = layer.apply({"scale": SCALE, "bias": BIAS}, state, x)
    close(y, expected(x, SCALE, BIAS))
    bare = model.LAYERS[name](
        **{"groups": 2} if name == "group_norm" else {}, scale=False, bias=False
    )
    params, y = run(bare, x)
    assert params == {}
    close(y, expected(x, jnp.ones(4), jnp.zeros(4)))


def test_rms_norm_has_a_scale_alone():
    x = jax.random.normal(KEY, (2, 3, 3, 4))
    params, y = run(model.rms_norm(axes=[-2, -1]), x)
    assert {k: v.shape for k, v in params.items()} == {"scale": (3, 4)}
    close(y, ops.rms_norm(x, axes=(-2, -1)))
    assert run(model.rms_norm(scale=False), x)[0] == {}


def test_batch_norm_without_running_statistics_has_no_state():
    x = jax.random.normal(KEY, (2, 3, 3, 4)) + 5
    layer = model.batch_norm(track_running_stats=False, scale_init=2.0)
    _, params, state = layer.init(KEY, x.shape)
    assert state == {}
    y, kept = layer.apply(params, state, x, train=False)
    close(y, 2 * ops.batch_norm(x, None, None, train=True)[0])
    assert kept == {}


def test_conv_standardizes_its_kernel():
    """It looks the same when the kernel is scaled or moved; and no norm is folded into it."""
    x = jax.random.normal(KEY, (2, 5, 5, 3))
    layer = model.conv(4, 3, standardize=True)
    params, y = run(layer, x)
    kernel = ops.standardize_weights(params["kernel"])
    close(y, ops.conv(x, kernel, params["bias"], padding="VALID"))
    moved = params | {"kernel": 1 + 100 * params["kernel"]}
    y, _ = layer.apply(moved, {}, x)
    close(y, layer.apply(params | {"kernel": 100 * params["kernel"]}, {}, x)[0])
    for standardize, norms in ((True, ()), (False, ("bn",))):
        net = model.serial(a=model.conv(4, 3, standardize=standardize), bn=model.batch_norm())
        assert model.fold_batch_norm(net).norms == norms


def test_batch_norm_without_its_state_says_so():
    net = model.serial(model.conv(2, 1), model.batch_norm())
    _, params, _ = net.init(KEY, (2, 3, 3, 1))
    message = r"batch_norm1: batch_norm: no running statistics: .*pass the state that init returned"
    with pytest.raises(model.LayerError, match=message):
        net.apply(params, {}, jnp.ones((2, 3, 3, 1)))


def test_batch_norm_keeps_running_statistics():
    """They move in training, stay in evaluation, and decide there."""
    layer = model.batch_norm(momentum=0.25)
    x = jax.random.normal(KEY, (8, 3, 3, 4)) * 2 + 5
    _, params, state = layer.init(KEY, x.shape)
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == {
        "mean": ((4,), jnp.float32),
        "var": ((4,), jnp.float32),
    }
    y, moved = layer.apply(params, state, x, train=True)
    close(y.mean((0, 1, 2)), np.zeros(4))
    close(moved["mean"], 0.25 * x.mean((0, 1, 2)))
    close(moved["var"], 0.75 + 0.25 * x.var((0, 1, 2), ddof=1))
    y, kept = layer.apply(params, moved, x, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, moved)
    close(y, ops.batch_norm(x, moved["mean"], moved["var"], train=False)[0])


def test_layer_norm_over_all_but_the_batch():
    x = jax.random.normal(KEY, (2, 3, 3, 4))
    params, y = run(model.layer_norm(axes=[1, 2, 3]), x)
    assert params["scale"].shape == (3, 3, 4)
    close(y, ops.layer_norm(x, axes=(1, 2, 3)))
    with pytest.raises(ValueError, match=r"the batch is no axis .*got axes=-1 for x \(5,\)"):
        model.layer_norm().init(KEY, (5,))
    message = (
        r"layer_norm: the batch is no axis .*axes=\[-2, -1\] for x \(2, 3\).*write \[1\] for all"
    )
    with pytest.raises(ValueError, match=message):
        model.layer_norm(axes=[-2, -1]).init(KEY, (2, 3))


def test_local_response_norm_and_maxout_equal_their_ops():
    x = jax.random.normal(KEY, (2, 3, 3, 6))
    options = dict(size=3, alpha=0.1, beta=0.5, k=1.0)
    close(run(model.local_response_norm(**options), x)[1], ops.local_response_norm(x, **options))
    close(run(model.maxout(3), x)[1], ops.maxout(x, 3))


@pytest.mark.parametrize("per_channel, shape", [(True, (4,)), (False, ())])
def test_prelu_learns_its_slope(per_channel, shape):
    x = jax.random.normal(KEY, (2, 3, 4))
    params, y = run(model.prelu(slope=0.5, per_channel=per_channel), x)
    np.testing.assert_array_equal(params["slope"], np.full(shape, 0.5))
    close(y, ops.leaky_relu(x, 0.5))


def test_dropout_needs_a_key_in_training():
    net, x = model.serial(model.dropout(0.5)), jnp.ones((4, 100))
    np.testing.assert_array_equal(run(net, x)[1], x)
    with pytest.raises(model.LayerError, match=r"^dropout1: dropout: no random key: .*train=False"):
        net.apply({}, {}, x, train=True)
    y, _ = net.apply({}, {}, x, train=True, key=KEY)
    assert set(np.unique(y)) == {0, 2}
    both = model.serial(model.dropout(0.5), model.dropout(0.5))
    y, _ = both.apply({}, {}, x, train=True, key=KEY)
    assert 50 < np.count_nonzero(y) < 150, "each layer draws its own"


def test_dropout_drops_whole_channels():
    x = jnp.ones((8, 5, 5, 16))
    y, _ = model.dropout(0.5, per_channel=True).apply({}, {}, x, train=True, key=KEY)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: model.dropout(1.0), "dropout: bad rate: got 1.0"),
        (lambda: model.stochastic_depth(1.0), "stochastic_depth: bad rate: got 1.0"),
        (lambda: model.batch_norm(momentum=2.0), "batch_norm: bad momentum: got 2.0"),
        (lambda: model.batch_norm(eps=0.0), "batch_norm: bad eps: got 0.0"),
        (lambda: model.layer_norm(axes=[1, 3]), r"layer_norm: axes are not the last"),
        (lambda: model.layer_norm(axes=2**60), r"layer_norm: axes are not the last"),
        (lambda: model.layer_norm(axes=[]), r"layer_norm: axes are not the last"),
        (lambda: model.group_norm(0), "group_norm: bad groups: got 0"),
        (lambda: model.group_norm(2, eps=-1.0), "group_norm: bad eps: got -1.0"),
        (lambda: model.instance_norm(eps=0.0), "instance_norm: bad eps: got 0.0"),
        (lambda: model.local_response_norm(k=0.0), "local_response_norm: a divisor can be zero"),
        (lambda: model.local_response_norm(size=0), "local_response_norm: bad size: got 0"),
        (lambda: model.maxout(0), "maxout: bad num_pieces: got 0"),
    ],
)
def test_wrong_numbers_are_refused_before_any_image_is_seen(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (model.batch_norm(), (3,), r"^net: batch_norm: wrong rank"),
        (model.group_norm(2), (1, 4, 4, 3), r"^net: group_norm: bad groups: got groups=2"),
        (model.instance_norm(), (1, 1, 1, 3), r"^net: instance_norm: nothing to normalize over"),
        (model.layer_norm(), (1, 4, 4, 1), r"^net: layer_norm: nothing to normalize over"),
        (model.maxout(2), (1, 3), r"^net: maxout: bad num_pieces"),
        (model.dropout(0.5, per_channel=True), (3,), r"^net: dropout: no channels"),
    ],
)
def test_a_shape_that_does_not_fit_names_the_layer(layer, shape, message):
    with pytest.raises(model.LayerError, match=message):
        model.serial(net=layer).init(KEY, shape)


# Every layer of this file that a config can name, in one network.
SPELLED_OUT = [
    {"type": "conv", "features": 8, "window": 3, "bias": False, "kernel_init": "lecun_uniform"},
    {"type": "batch_norm", "momentum": 0.5},
    {"type": "prelu"},
    {"type": "local_response_norm"},
    {"type": "conv", "features": 8, "window": 3},
    {"type": "group_norm", "groups": 4},
    {"type": "maxout", "num_pieces": 2},
    {"type": "instance_norm"},
    {"type": "dropout", "rate": 0.25, "per_channel": True},
    {"type": "flatten"},
    {"type": "layer_norm"},
    {"type": "dropout", "rate": 0.5},
    {"type": "dense", "features": 3},
]


def test_network_of_all_layers_trains():
    """The state moves with each step and not in evaluation; the dropout's key does as well."""
    net = model.from_layers(SPELLED_OUT)
    params, state = model.init_classifier(net, KEY, (1, 8, 8, 2), 3)
    optimizer, preprocess = sgd(0.1), lambda x: x
    loss = lambda logits, labels: ops.softmax_cross_entropy(logits, labels, reduction="none")  # noqa: E731
    step = make_train_step(StepSpec(net, loss, optimizer, preprocess))
    evaluate = make_eval_step(net, loss, correct_answers, preprocess, ops.softmax)
    images = jax.random.normal(KEY, (16, 8, 8, 2)) + 3
    labels = jnp.arange(16, dtype=jnp.int32) % 3
    old = init_train_state(params, state, optimizer, jax.random.key(1))
    seen = [jax.tree.map(np.array, (old.params, old.state))]
    for _ in range(2):
        old, metrics = step(old, images, labels)
        assert np.isfinite(metrics["loss"])
        seen.append(jax.tree.map(np.array, (old.params, old.state)))
    assert jax.tree.structure(old.state) == jax.tree.structure(state)
    for before, after in pairwise(seen):
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
        assert all(jax.tree.leaves(moved[1])), moved[1]
        assert moved[0]["prelu1"]["slope"] and moved[0]["batch_norm1"]["scale"]
    ones = jnp.ones(16)
    sums, first = evaluate(old.params, old.state, images, labels, ones)
    _, again = evaluate(old.params, old.state, images, labels, ones)
    assert sums["count"] == 16
    np.testing.assert_array_equal(first, again)


def test_summary_has_all_layers():
    summary = model.summarize(model.from_layers(SPELLED_OUT), (8, 8, 2))
    rows = {row.path: row for row in summary.rows}
    assert rows["batch_norm1"].parameters == rows["group_norm1"].parameters == 2 * 8
    assert rows["prelu1"].parameters == 8
    assert rows["maxout1"].out_shape == (4, 4, 4)
    assert rows["layer_norm1"].parameters == 2 * 4 * 4 * 4
    assert rows["dropout1"].receptive_field == (5, 5)
    assert "local_response_norm1" in summary.as_table()
