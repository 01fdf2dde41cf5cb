"""Summaries: figures known from the literature or by hand, from shapes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops


def by_path(summary):
    return {row.path: row for row in summary.rows}


def test_summary_of_lenet5_has_the_published_figures():
    summary = model.summarize(model.lenet5(10, activation="relu", pool="max"), (32, 32, 1))
    assert summary.parameters == 61706
    # Multiply-adds, LeCun et al. 1998's layers with full C3: 28*28*6*25 + 10*10*16*150 + ...
    assert summary.flops == 2 * (117600 + 240000 + 48000 + 10080 + 840)
    rows = by_path(summary)
    assert rows["conv1"].out_shape == (28, 28, 6)
    assert rows["conv1"].activation_bytes == 4 * 28 * 28 * 6
    sees = {path: row.receptive_field for path, row in rows.items()}
    assert sees["conv1"] == (5, 5)
    assert sees["pool1"] == (6, 6)
    assert sees["conv2"] == (14, 14)
    assert sees["pool2"] == (16, 16)
    assert sees["dense1"] == summary.receptive_field == (32, 32)


def test_dilated_stack_of_yu_and_koltun():
    stack = [model.conv(2, 3, dilation=d, padding="SAME") for d in (1, 2, 4)]
    rows = model.summarize(model.serial(*stack), (32, 32, 2)).rows
    assert [row.receptive_field for row in rows] == [(3, 3), (7, 7), (15, 15)]


def test_summary_of_strides_dilations_and_groups_equals_hand_arithmetic():
    net = model.serial(
        model.conv(4, [7, 3], stride=[2, 1], padding="SAME"),  # sees 7x3, jumps 2x1
        model.avg_pool(3, stride=2),  # 7+2*2=11, 3+2*1=5; jumps 4x2
        model.conv(4, 3, dilation=2, groups=2),  # 11+2*2*4=27, 5+2*2*2=13
        model.max_pool(2, stride=1, dilation=3),  # 27+1*3*4=39, 13+1*3*2=19
    )
    rows = model.summarize(net, (64, 64, 3)).rows
    assert [row.receptive_field for row in rows] == [(7, 3), (11, 5), (27, 13), (39, 19)]
    height, width, channels = rows[2].out_shape
    assert rows[2].flops == 2 * height * width * channels * 3 * 3 * (4 // 2)


def test_branches_count_the_larger_field():
    net = model.residual(model.serial(model.conv(3, 3, padding=1), model.conv(3, 3, padding=1)))
    assert model.summarize(net, (8, 8, 3)).receptive_field == (5, 5)


def test_where_branches_meet_the_larger_counts_along_each_axis():
    net = model.parallel(
        model.conv(2, [1, 9], padding="SAME"), model.conv(2, [9, 1], padding="SAME")
    )
    assert model.summarize(net, (16, 16, 3)).receptive_field == (9, 9)


def test_summary_in_one_and_three_dimensions():
    assert model.summarize(model.conv(2, 5), (20, 3)).receptive_field == (5,)
    assert model.summarize(model.conv(2, 2), (6, 6, 6, 3)).receptive_field == (2, 2, 2)


def seen_by_hand(net, shape):
    """The largest extent of input, along each axis, that any output element depends on."""
    _, params, state = model.init_shapes(net, (1, *shape))
    params = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), params)
    y = lambda x: net.apply(params, state, x[None])[0][0].sum(axis=-1)  # noqa: E731
    depends = np.asarray(jax.jit(jax.jacobian(y))(jnp.ones(shape))).any(axis=-1) != 0
    spatial, sizes = len(shape) - 1, []
    for axis in range(spatial):
        others = tuple(a for a in range(spatial, 2 * spatial) if a != spatial + axis)
        along = depends.any(axis=others).reshape(-1, shape[axis])
        ends = [np.flatnonzero(row)[[0, -1]] for row in along]
        sizes.append(max(last - first + 1 for first, last in ends))
    return tuple(sizes)


@pytest.mark.parametrize(
    "layers",
    [
        [model.conv(1, 3), model.conv_transpose(1, 4, stride=2, padding=1)],
        [model.conv_transpose(1, [3, 2], stride=[1, 2], dilation=[2, 1]), model.conv(1, 3)],
        [model.conv_transpose(1, 3, stride=2, dilation=2), model.avg_pool(2)],
        [model.avg_pool(2), model.upsample(2, method="bilinear"), model.conv(1, 3)],
        [model.avg_pool(2), model.upsample(2, method="bicubic"), model.conv(1, 3)],
        [model.upsample(3), model.conv(1, 3, stride=3)],
        [model.avg_pool(2), model.upsample(2), model.conv(1, 2)],
    ],
)
def test_what_is_made_larger_sees_what_its_gradient_reaches(layers):
    """Or one more, where how the layers lie against each other leaves out the worst case."""
    net, shape = model.serial(*layers), (24, 24, 1)
    said, seen = model.summarize(net, shape).receptive_field, seen_by_hand(net, shape)
    assert said is not None and {a - b for a, b in zip(said, seen, strict=True)} <= {0, 1}


@pytest.mark.parametrize(("upsampling", "size"), [("transposed", 100), ("bilinear", 116)])
def test_receptive_field_of_a_unet(upsampling, size):
    """Along one axis, its pools averages: the gradient of a maximum reaches one element alone."""
    net = model.unet(2, features=[1, 1, 1, 1], batch_norm=False, upsampling=upsampling)
    pools = [r.path for r in model.summarize(net, (256, 1)).rows if r.kind == "max_pool"]
    net = model.replace(net, dict.fromkeys(pools, lambda layer: model.avg_pool(2)))
    assert len(pools) == 3 and seen_by_hand(net, (256, 1)) == (size,)
    assert model.summarize(net, (256, 1)).receptive_field == (size,)


def test_receptive_field_of_a_transposed_convolution():
    net = model.serial(model.conv(1, 3), model.conv_transpose(1, 4, stride=2), model.conv(1, 3))
    rows = model.summarize(net, (12, 12, 1)).rows
    assert [row.receptive_field for row in rows] == [(3, 3), (4, 4), (5, 5)]


def test_a_users_layer_is_counted_and_what_it_sees_is_unknown():
    def init(key, in_shape):
        return (in_shape[0], 5), {"w": jnp.zeros((in_shape[-1], 5))}, {}

    def apply(params, state, x, *, train=False, key=None):
        step = jax.jit(lambda c, _: (c + x @ params["w"], None))
        return jax.lax.scan(step, jnp.zeros((x.shape[0], 5)), None, length=3)[0], state

    own = model.Layer(init, apply)
    summary = model.summarize(model.serial(model.flatten(), own=own), (2, 2, 1))
    assert by_path(summary)["own"].flops == 3 * 2 * 4 * 5
    assert summary.receptive_field is None
    assert " ?\n" in summary.as_table() + "\n"


def test_summary_counts_convolutions_of_lax():
    def apply(params, state, x, *, train=False, key=None):
        dimensions = ("NHWC", "HWIO", "NHWC")
        kernel = jnp.zeros((3, 3, 2, 4))
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=dimensions, feature_group_count=2
        )
        return y, state

    own = model.Layer(lambda key, s: ((s[0], s[1] - 2, s[2] - 2, 4), {}, {}), apply)
    assert model.summarize(own, (5, 5, 4)).flops == 2 * (3 * 3 * 4) * (3 * 3 * 2)


def test_summary_as_table_and_json():
    summary = model.summarize(model.mlp(10, hidden=[20], activation="relu"), (8, 8, 1))
    values = summary.as_dict()
    assert values["parameters"] == 65 * 20 + 21 * 10
    assert {"flops", "receptive_field", "activation_bytes"} <= values.keys()
    assert [layer["path"] for layer in values["layers"]] == [
        "flatten1",
        "dense1",
        "relu1",
        "dense2",
    ]
    lines = summary.as_table().splitlines()
    assert lines[0].split() == [
        "layer", "kind", "output", "parameters", "FLOPs", "activations", "sees"
    ]  # fmt: skip
    assert "1,510" in lines[-2]


def test_nothing_is_computed_for_a_large_network():
    huge = model.mlp(1000, hidden=[200_000, 200_000], activation="relu")  # 160 GB of parameters
    assert model.summarize(huge, (224, 224, 3)).parameters > 7e10


def test_an_image_that_does_not_fit_names_the_layer():
    net = model.lenet5(10, activation="relu", pool="max")
    with pytest.raises(model.LayerError, match=r"^conv2: conv: the window is larger"):
        model.summarize(net, (10, 10, 1))


def test_summary_names_the_implementations_on_cpu():
    separable = model.serial(model.depthwise_conv(3), model.conv(32, 1))
    up = model.conv_transpose(16, 4, stride=2)
    with ops.implementation("cpu"):
        summary = model.summarize(model.serial(separable=separable, up=up), (16, 16, 8))
    rows = by_path(summary)
    assert rows["separable/depthwise_conv1"].lowerings == (
        ("shift_and_add", "polyphase", "shift_and_add"),
    )
    assert rows["separable/conv1"].lowerings == (("space_to_depth", "xla", "im2col"),)
    assert rows["up"].lowerings == (("polyphase", "xla", "im2col"),)
    assert "polyphase" in summary.as_table(lowering=True)
    assert "polyphase" not in summary.as_table()
