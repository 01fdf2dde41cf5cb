"""The architectures against published figures, from shapes alone, and what is their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model.architectures.lenet_1998 import C3, connected_conv, rbf, subsample

KEY = jax.random.key(0)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# id: (network, classes, image, parameters, millions of multiply-adds). Parameters to the last one:
# LeCun et al. 1998; Krizhevsky et al. 2012; torchvision's for alexnet, vgg, resnet, mobilenet_v2, convnext
# and efficientnet (not lite0); the papers' rounded figures otherwise (resnet_cifar 0.27M, 0.46M, 0.85M and 1.7M,
# wide_resnet 36.5M, mobilenet_v1 4.2M and 569M multiply-adds). Those of spp_net and dilated are by
# hand, below. Multiply-adds: torchvision gives 0.71, 7.61, 11.31, 15.47 and 19.63, 1.81, 3.66, 4.09
# and 7.80, 0.30, 4.46, 8.68 and 15.36, 0.39 G.
NET224, NET32 = (224, 224, 3), (32, 32, 3)
ZOO = {
    # C1 25*6*28*28, C3 as a full convolution 150*16*10*10, C5 400*120, F6 120*84
    "lenet5_1998": (model.lenet5_1998, 10, (32, 32, 1), 60_000, 0.1176 + 0.24 + 0.048 + 0.01008),
    "alexnet_2012": (model.alexnet_2012, 1000, (227, 227, 3), 60_965_224, 724.4),
    "alexnet": (model.alexnet, 1000, NET224, 61_100_840, 714.2),
    **{
        f"vgg{depth}{'_bn' * norm}": (
            partial(model.vgg, depth=depth, batch_norm=norm), 1000, NET224, parameters, flops
        )
        for depth, norm, parameters, flops in [
            (11, False, 132_863_336, 7609.1), (11, True, 132_868_840, 7609.1),
            (13, False, 133_047_848, 11308.5), (13, True, 133_053_736, 11308.5),
            (16, False, 138_357_544, 15470.3), (16, True, 138_365_992, 15470.3),
            (19, False, 143_667_240, 19632.1), (19, True, 143_678_248, 19632.1),
        ]
    },
    "spp_net": (model.spp_net, 1000, NET224, 77_037_672, 1182.7),
    "dilated": (
        partial(model.dilated, features=32, dilations=[1, 2, 4]), 10, NET32,
        (27 + 1) * 32 + 2 * (288 + 1) * 32 + (32 + 1) * 10, (27 + 288 + 288) * 32 * 0.001024,
    ),
    **{
        f"resnet{depth}": (partial(model.resnet, depth=depth), 1000, NET224, parameters, flops)
        for depth, parameters, flops in [
            (18, 11_689_512, 1814.1), (34, 21_797_672, 3663.8),
            (50, 25_557_032, 4089.2), (101, 44_549_160, 7801.4),
        ]
    },
    **{
        f"resnet_cifar{depth}{kind}": (
            partial(model.resnet_cifar, depth=depth, shortcut=kind), 10, NET32, parameters, flops
        )
        for depth, kind, parameters, flops in [
            (20, "A", 269_722, 40.55), (32, "A", 464_154, 68.86),
            (56, "A", 853_018, 125.5), (110, "A", 1_727_962, 252.9),
            # 16*32 + 32*64 weights and two times 32 + 64 of batch norm in the shortcuts
            (20, "B", 269_722 + 2560 + 192, 40.81),
        ]
    },
    "wide_resnet28_10": (model.wide_resnet, 10, NET32, 36_479_194, 5243.3),
    "wide_resnet16_8": (
        partial(model.wide_resnet, depth=16, widen_factor=8), 10, NET32, 10_961_370, 1548.1
    ),
    "wide_resnet40_4": (
        partial(model.wide_resnet, depth=40, widen_factor=4, dropout=0.3), 10, NET32, 8_949_210, 1298.6
    ),
    "mobilenet_v1": (model.mobilenet_v1, 1000, NET224, 4_231_976, 568.7),
    "mobilenet_v2": (model.mobilenet_v2, 1000, NET224, 3_504_872, 300.8),
    "mobilenet_v2_1.4": (partial(model.mobilenet_v2, width=1.4), 1000, NET224, 6_108_776, 582.2),
    "efficientnet_b0": (model.efficientnet, 1000, NET224, 5_288_548, 385.8),
    # its authors round to 4.7 M
    "efficientnet_lite0": (partial(model.efficientnet, size="lite0"), 1000, NET224, 4_652_008, 385.2),
    **{
        f"convnext_{size}": (partial(model.convnext, size=size), 1000, NET224, parameters, flops)
        for size, parameters, flops in [
            ("tiny", 28_589_128, 4455.5), ("small", 50_223_688, 8683.7), ("base", 88_591_464, 15354.7)
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("network, classes, image, parameters, flops", ZOO.values(), ids=ZOO)
def test_parameters_and_flops_are_the_published_ones(network, classes, image, parameters, flops):
    summary = model.summarize(network(classes), image)
    assert summary.parameters == parameters
    np.testing.assert_allclose(summary.flops, 2e6 * flops, rtol=1e-3)
    assert summary.rows[-1].out_shape == (classes,)
    assert None not in (row.receptive_field for row in summary.rows)


# Of the same networks, wider and deeper: torchvision's figures.
LARGER = {
    "resnet152": (partial(model.resnet, depth=152), 60_192_808),
    "resnext50_32x4d": (partial(model.resnet, depth=50, groups=32, width_per_group=4), 25_028_904),
    "wide_resnet50_2": (partial(model.resnet, depth=50, width_per_group=128), 68_883_240),
    "efficientnet_b1": (partial(model.efficientnet, size="b1"), 7_794_184),
    "efficientnet_b2": (partial(model.efficientnet, size="b2"), 9_109_994),
    "efficientnet_b3": (partial(model.efficientnet, size="b3"), 12_233_232),
    "efficientnet_b4": (partial(model.efficientnet, size="b4"), 19_341_616),
}


@pytest.mark.parametrize(
    "name", [n if "50" in n else pytest.param(n, marks=pytest.mark.slow) for n in LARGER]
)
def test_parameters_of_the_larger_are_the_published_ones(name):
    network, parameters = LARGER[name]
    assert count(model.init_shapes(network(1000), (1, 64, 64, 3))[1]) == parameters


def test_groups_are_for_bottlenecks():
    with pytest.raises(
        ValueError, match=r"^resnet: groups and width_per_group are for bottlenecks"
    ):
        model.resnet(10, depth=18, groups=32)


def test_same_padding_of_efficientnet_comes_with_the_eps_of_tensorflow():
    """A stride of 2 on an even size has the odd pixel on the right; all else is as before."""
    x = jnp.arange(1.0, 4 * 4 * 3 + 1).reshape(1, 4, 4, 3)
    found = {}
    for padding in ("symmetric", "SAME"):
        stem = model.backbone(model.efficientnet(3, padding=padding), ["stem/conv"])
        kernel = jnp.ones((3, 3, 3, 32))
        found[padding] = stem.apply({"stem": {"conv": {"kernel": kernel}}}, {}, x)[0]["stem/conv"]
    np.testing.assert_allclose(found["symmetric"][0, 0, 0, 0], x[0, :2, :2].sum(), rtol=1e-6)
    np.testing.assert_allclose(found["SAME"][0, 0, 0, 0], x[0, :3, :3].sum(), rtol=1e-6)


# What fits into a name; images as small as the network takes, twice in the batch.
DETECTOR = {
    "backbone": "small",
    "width": 8,
    "hidden": 8,
    "rpn": {"anchor_sizes": [[8], [16], [32]], "pre_nms_top_n_test": 20, "post_nms_top_n_test": 9},
    "roi": {"detections_per_img": 5},
}
GIVEN = {k: v for k, v in DETECTOR.items() if k != "rpn"}
SMALL = {
    "lenet5": ({"activation": "relu", "pool": "max"}, (32, 32, 1)),
    "lenet5_1998": ({}, (32, 32, 1)),
    "mlp": ({"hidden": [8], "activation": "relu"}, (8, 8, 1)),
    "alexnet": ({}, (63, 63, 3)),
    "alexnet_2012": ({}, (67, 67, 3)),
    "vgg": ({"depth": 11, "batch_norm": True}, (32, 32, 3)),
    "spp_net": ({}, (40, 40, 3)),
    "dilated": ({"features": 8, "dilations": [1, 2]}, (8, 8, 3)),
    "resnet": ({"depth": 50}, (32, 32, 3)),
    "resnet_cifar": ({"depth": 8}, (8, 8, 3)),
    "wide_resnet": ({"depth": 10, "widen_factor": 1, "dropout": 0.3}, (8, 8, 3)),
    "mobilenet_v1": ({"width": 0.25}, (32, 32, 3)),
    "mobilenet_v2": ({"width": 0.35}, (32, 32, 3)),
    "convnext": ({}, (32, 32, 3)),
    "efficientnet": ({}, (32, 32, 3)),
    "unet": (
        {"features": [4, 8, 8], "batch_norm": True, "upsampling": "transposed"},
        (9, 7, 3),
    ),
    "fcn": ({"backbone": "vgg11", "stride": 8, "hidden": 4}, (45, 50, 3)),
    "siamese": ({"features": 7, "normalize": True}, (16, 16, 1)),
    "rcnn": ({**GIVEN, "size": 16, "context": 2}, (32, 40, 3)),
    "spp_detector": (GIVEN, (32, 40, 3)),
    "fast_rcnn": (GIVEN, (32, 40, 3)),
    "faster_rcnn": ({**DETECTOR, "fpn": 8, "stages": [1, 2]}, (32, 40, 3)),
    "mask_rcnn": ({**DETECTOR, "fpn": 8, "stages": [1, 2], "mask_features": [8]}, (32, 40, 3)),
}
TAKING_PROPOSALS = ("rcnn", "spp_detector", "fast_rcnn")
DETECTORS = (*TAKING_PROPOSALS, "faster_rcnn", "mask_rcnn")  # which give more than an array
SEGMENTERS = ("unet", "fcn")  # whose logits are those of pixels


def given(name, image):
    """Two images, and proposals where the network needs them: shapes alone."""
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    boxes = jax.ShapeDtypeStruct((2, 6, 4), jnp.float32)
    return model.DetectorInput(x, proposals=boxes) if name in TAKING_PROPOSALS else x


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", model.ARCHITECTURES)
def test_every_architecture_gives_logits_and_a_state_like_its_own(name, train):
    keywords, image = SMALL[name]
    net = model.build({"name": name, **keywords}, classes=7)
    _, params, state = model.init_shapes(net, (1, *image))
    apply = lambda *args: net.apply(*args, train=train, key=KEY)  # noqa: E731
    y, after = jax.eval_shape(apply, params, state, given(name, image))
    assert jax.tree.map(jnp.shape, y) == model.init_shapes(net, (2, *image))[0]
    if name not in DETECTORS:
        assert y.shape == ((2, *image[:2], 7) if name in SEGMENTERS else (2, 7))
        assert y.dtype == jnp.float32
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


@pytest.mark.slow
@pytest.mark.parametrize("name", model.ARCHITECTURES)
def test_architectures_are_float32_where_the_default_is_float64(name):
    """JAX_ENABLE_X64=1 changes what an array is of which nobody said the dtype."""
    keywords, image = SMALL[name]
    with jax.enable_x64(True):
        net = model.build({"name": name, **keywords}, classes=7)
        _, params, state = model.init_shapes(net, (1, *image))
        apply = lambda *args: net.apply(*args, train=True, key=KEY)  # noqa: E731
        y, after = jax.eval_shape(apply, params, state, given(name, image))
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves((params, state, y, after))}
    assert dtypes == ({"float32", "int32"} if name in DETECTORS else {"float32"})


@pytest.mark.parametrize(
    "network, path, size",
    [
        (model.alexnet(10), "pool5", 195),
        (model.vgg(10, depth=16, batch_norm=False), "stage5/pool", 212),
        (model.mobilenet_v1(10), "block13/act2", 315),
        # the paper's stride in the first 1x1 convolution, not the 3x3, would make this 483
        (model.resnet(10, depth=50), "stage4/block3/then", 427),
    ],
)
def test_receptive_fields_of_the_literature(network, path, size):
    """Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, Distill 2019."""
    rows = {row.path: row for row in model.summarize(network, NET224).rows}
    assert rows[path].receptive_field == (size, size)


@pytest.mark.parametrize(
    "network",
    [
        model.resnet(3, depth=18),
        model.resnet_cifar(3, depth=8, shortcut="A"),
        model.wide_resnet(3, depth=10, widen_factor=1),
        model.mobilenet_v2(3),
        model.convnext(3),
        model.serial(model.context_module(2), model.global_avg_pool(), model.dense(3)),
    ],
)
def test_architectures_take_signals_and_volumes(network):
    for image in ((32,), (32, 32, 32)):
        assert model.init_shapes(network, (2, *image, 2))[0] == (2, 3)


def paths(tree):
    return ["/".join(k.key for k in path) for path, _ in jax.tree.leaves_with_path(tree)]


@pytest.mark.parametrize(
    "network, expected",
    [
        (
            model.resnet(10, depth=50),
            "stage2/block1/conv1/kernel stage2/block1/shortcut/bn/scale conv1/kernel fc/bias",
        ),
        (model.wide_resnet(10), "stage1/block1/shortcut/kernel stage1/block2/bn1/scale bn/bias"),
        (model.mobilenet_v2(10), "stage2/block1/expand/kernel last/bn/scale stem/conv/kernel"),
        (model.convnext(10), "stage2/downsample/conv/bias stage1/block3/scale/scale norm/scale"),
        (model.vgg(10, depth=11, batch_norm=True), "stage1/bn1/scale fc3/kernel"),
    ],
)
def test_parameters_have_readable_paths(network, expected):
    _, params, _ = model.init_shapes(network, (1, 32, 32, 3))
    assert set(expected.split()) <= set(paths(params))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: model.vgg(10, depth=12, batch_norm=False), "vgg: unknown depth: got 12, need one of 11, 13, 16, 19"),
        (lambda: model.resnet(10, depth=19), "resnet: unknown depth: got 19, need one of 18, 34, 50, 101"),
        (lambda: model.resnet_cifar(10, depth=21), r"resnet_cifar: bad depth: got 21, need 6n \+ 2, .*; write depth=20"),
        (lambda: model.resnet_cifar(10, depth=2), "resnet_cifar: bad depth: got 2, .*; write depth=8"),
        (lambda: model.resnet_cifar(10, depth=20, shortcut="C"), "resnet_cifar: unknown shortcut: got 'C', need one of 'A', 'B'"),
        (lambda: model.wide_resnet(10, depth=27), r"wide_resnet: bad depth: got 27, need 6n \+ 4, .*; write depth=28"),
        (lambda: model.wide_resnet(10, depth=4), "wide_resnet: bad depth: got 4, .*; write depth=10"),
        (lambda: model.wide_resnet(10, widen_factor=0), "wide_resnet: bad widen_factor: got 0"),
        (lambda: model.wide_resnet(10, dropout=1.0), "dropout: bad rate: got 1.0"),
        (lambda: model.mobilenet_v1(10, width=0.0), "mobilenet_v1: bad width: got 0.0, need 0 < width"),
        (lambda: model.mobilenet_v2(10, width=float("nan")), "mobilenet_v2: bad width: got nan"),
        (lambda: model.convnext(10, size="huge"), "convnext: unknown size: got 'huge', need one of 'tiny', 'small', 'base'"),
        (lambda: model.convnext(10, stochastic_depth=1.0), "stochastic_depth: bad rate: got 1.0"),
        (lambda: model.spp_net(10, levels=[]), "spp_net: bad levels"),
        (lambda: model.dilated(10, features=8, dilations=[]), "dilated: bad features"),
        (lambda: model.dilated(10, features=8, dilations=[1, 0]), r"dilated: bad dilations: got \[1, 0\]"),
        (lambda: model.lenet5_1998(0), "lenet5_1998: bad classes: got 0"),
        (lambda: subsample().init(KEY, (1, 4, 4)), r"subsample: wrong rank: got \(1, 4, 4\), need \(N, H, W, C\)"),
        (lambda: model.context_module(0), "context_module: bad channels: got 0"),
    ],
)  # fmt: skip
def test_architectures_refuse_what_does_not_exist(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --------------------------------------------------------------------------------- LeNet-5 of 1998


def test_lenet5_1998_layer_by_layer():
    out_shape, params, state = model.init_shapes(model.lenet5_1998(10), (1, 32, 32, 1))
    counts = {name: count(part) for name, part in params.items()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
    assert out_shape == (1, 10) and state["output"]["codes"].shape == (10, 84)


def test_maps_of_c3_see_the_maps_of_table_1_alone():
    assert [len(row) for row in C3] == [3] * 6 + [4] * 9 + [6]
    assert len(set(C3)) == 16 and np.bincount(np.concatenate(C3)).tolist() == [10] * 6
    layer = connected_conv(C3, 3)
    params = jax.tree.map(np.asarray, layer.init(KEY, (1, 3, 3, 6))[1])
    x = np.asarray(jax.random.normal(KEY, (1, 3, 3, 6)))
    y = np.asarray(jax.jit(layer.apply)(params, {}, x)[0])
    plain, start = jax.jit(partial(ops.conv, padding=0)), 0
    for o, row in enumerate(C3):
        kernel = params["kernel"][:, :, start : start + len(row), None]
        expected = plain(x[..., row], kernel, params["bias"][o : o + 1])
        np.testing.assert_allclose(y[..., o], expected[..., 0], rtol=1e-5, atol=1e-6)
        start += len(row)
    for limit, o in ((2.4 / 27, 0), (2.4 / 36, 6), (2.4 / 54, 15)):
        assert abs(params["bias"][o]) <= limit
    with pytest.raises(
        ValueError, match=r"connected_conv: channels do not match: got \(1, 3, 3, 5"
    ):
        layer.init(KEY, (1, 3, 3, 5))


def test_subsample_equals_hand_arithmetic():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)  # windows 0 1 4 5 and 2 3 6 7
    params = {"scale": jnp.array([0.5]), "bias": jnp.array([1.0])}
    y, _ = subsample().apply(params, {}, x)
    np.testing.assert_allclose(y.ravel(), [0.5 * 10 + 1, 0.5 * 18 + 1])


def test_codes_are_drawings_of_the_digits_or_random():
    _, _, state = rbf(10).init(KEY, (1, 84))
    codes = np.asarray(state["codes"])
    assert set(np.unique(codes)) == {-1, 1} and len(np.unique(codes, axis=0)) == 10
    one = ["".join(".#"[int(p > 0)] for p in row) for row in codes[1].reshape(12, 7)]
    assert one[0] == "...##.." and one[9] == ".######" and one[11] == "......."
    _, _, state = rbf(26).init(KEY, (1, 84))
    letters = np.asarray(state["codes"])
    assert letters.shape == (26, 84) and len(np.unique(letters, axis=0)) == 26
    z, _ = rbf(10).apply({}, {"codes": codes}, codes[3:4])
    assert z.argmax() == 3 and z[0, 3] == 0
    np.testing.assert_allclose(z[0, 8], -4 * (codes[3] != codes[8]).sum())


def test_the_paper_s_loss_is_cross_entropy_with_a_class_more():
    y = np.array([[3.0, 0.5, 7.0], [2.0, 9.0, 4.0]], np.float32)
    labels, j = np.array([1, 2]), 2.5
    logits = jnp.asarray(-y)
    z = jnp.concatenate([logits, jnp.full_like(logits[:, :1], -j)], axis=-1)
    expected = np.mean(y[[0, 1], labels] + np.log(np.exp(-j) + np.exp(-y).sum(-1)))
    np.testing.assert_allclose(ops.softmax_cross_entropy(z, labels), expected, rtol=1e-6)


# ------------------------------------------------------------------------------------ the others


def test_alexnet_starts_as_the_paper_says(thin_dense):
    _, params, _ = model.alexnet_2012(10).init(KEY, (1, 67, 67, 3))
    biases = {name: float(part["bias"][0]) for name, part in params.items()}
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert biases == {name: float(name in ones) for name in params}
    np.testing.assert_allclose(params["conv3"]["kernel"].std(), 0.01, rtol=0.02)


def test_a_dilated_stack_sees_exponentially_far():
    rows = model.summarize(model.dilated(5, features=4, dilations=[1, 2, 4]), (16, 16, 3)).rows
    seen = [row.receptive_field for row in rows if row.kind == "conv"]
    assert seen == [(3, 3), (7, 7), (15, 15)]
    rows = model.summarize(model.context_module(3), (16, 16, 3)).rows
    seen = [row.receptive_field[0] for row in rows if row.kind == "conv"]
    assert seen == [3, 5, 9, 17, 33, 65, 67, 67]


@pytest.mark.slow
def test_the_context_module_starts_as_the_identity():
    net = model.context_module(3)
    params = jax.jit(lambda key: net.init(key, (1, 6, 5, 3))[1])(KEY)
    x = jax.random.uniform(KEY, (1, 6, 5, 3))
    np.testing.assert_allclose(jax.jit(net.apply)(params, {}, x)[0], x, rtol=1e-6)
    assert model.summarize(model.context_module(21), (9, 9, 21)).parameters == 64 * 21**2 + 8 * 21
    large = model.context_module(2, large=True)
    assert model.init_shapes(large, (1, 6, 5, 2))[0] == (1, 6, 5, 2)
    params = jax.jit(lambda key: large.init(key, (1, 6, 5, 2))[1])(KEY)
    assert params["context"]["conv6"]["kernel"].shape == (3, 3, 32, 64)
    kernel = params["context"]["conv2"]["kernel"]  # of 4 channels, two for each of 2: 1/2 in each
    np.testing.assert_allclose(kernel[1, 1, 0, :2], [0.5, 0.5])
    assert 0 < abs(kernel[1, 1, 0, 2:]).max() < 0.05


def test_spp_net_takes_images_of_any_size():
    net = model.spp_net(5)
    shapes = [model.init_shapes(net, (1, *size, 3)) for size in ((96, 64), (70, 101), (224, 224))]
    sizes = [jax.tree.map(jnp.shape, params) for _, params, _ in shapes]
    assert sizes[0] == sizes[1] == sizes[2] and {out for out, _, _ in shapes} == {(1, 5)}
    assert sizes[0]["fc6"]["kernel"] == ((36 + 9 + 4 + 1) * 256, 4096)
    trunk = [(49, 3, 96), (25, 96, 256), (9, 256, 384), (9, 384, 384), (9, 384, 256)]
    parameters = sum((window * Ci + 1) * Co for window, Ci, Co in trunk)
    parameters += 12801 * 4096 + 4097 * 4096 + 4097 * 1000
    assert parameters == ZOO["spp_net"][3]
    pyramid = model.serial(  # the same with few channels, run
        model.conv(4, 3), model.spatial_pyramid_pool([6, 3, 2, 1]), model.dense(5)
    )
    _, params, _ = pyramid.init(KEY, (1, 12, 9, 1))
    for size in ((12, 9), (9, 20)):
        y, _ = jax.jit(pyramid.apply)(params, {}, np.ones((2, *size, 1), np.float32))
        assert y.shape == (2, 5)
    assert model.init_shapes(model.zf5(), (1, 224, 224, 3))[0] == (1, 13, 13, 256)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_residual_network_of_zero_scales_passes_its_shortcuts_on(shortcut):
    net = model.resnet_cifar(4, depth=8, shortcut=shortcut, zero_init_residual=True)
    _, params, state = net.init(KEY, (1, 8, 8, 3))
    assert not params["stage2"]["block1"]["bn2"]["scale"].any()
    assert params["stage2"]["block1"]["bn1"]["scale"].all()
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    (_, found), _ = model.capture_intermediates(net, ["relu", "stage1", "stage2"]).apply(
        params, state, x
    )
    np.testing.assert_array_equal(found["stage1"], found["relu"])
    if shortcut == "A":
        np.testing.assert_array_equal(found["stage2"][..., :16], found["relu"][:, ::2, ::2])
        assert not found["stage2"][..., 16:].any()


def test_widths_of_mobilenet_are_multiples_of_8():
    _, params, _ = model.init_shapes(model.mobilenet_v2(10, width=0.35), (1, 32, 32, 3))
    widths = [params[f"stage{n}"]["block1"]["bn3"]["scale"].size for n in range(1, 8)]
    assert widths == [8, 8, 16, 24, 32, 56, 112]  # torchvision's, of 5.6, 8.4, 11.2, 22.4 ...
    assert params["last"]["bn"]["scale"].size == 1280
    _, params, _ = model.init_shapes(model.mobilenet_v1(10, width=0.5), (1, 32, 32, 3))
    assert params["block13"]["bn2"]["scale"].size == 512


def test_convnext_starts_near_the_identity_and_needs_a_key():
    net = model.convnext(3, size="tiny")
    _, params, _ = model.init_shapes(net, (1, 32, 32, 3))
    block = params["stage3"]["block9"]
    assert (
        block["depthwise"]["kernel"].shape == (7, 7, 1, 384) and block["scale"]["scale"].size == 384
    )
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    with pytest.raises(model.LayerError, match=r"^stage1/block1/drop: stochastic_depth: no random"):
        jax.eval_shape(lambda p, x: net.apply(p, {}, x, train=True), params, x)


def test_summaries_of_the_largest_take_seconds_and_no_memory():
    table = model.summarize(model.resnet(1000, depth=101), (224, 224, 3)).as_table()
    assert "stage3/block23/conv2" in table and "44,549,160" in table
