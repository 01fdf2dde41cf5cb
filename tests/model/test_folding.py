"""Batch norm folded into the layer before it: where, where not, and that nothing else changes."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model
from convax.model import LayerValueError, fold_batch_norm
from tests.model.architectures.test_zoo import SMALL, given

# Keywords beside those of SMALL, and how many norms are folded, and left: those ahead of the
# convolutions, behind a shortcut, of wide_resnet.
HEADS = {"head_norm": "batch", "head_features": [8]}
ZOO = {
    "vgg": ({}, 8, 0),
    "resnet": ({"depth": 18, "width": 8}, 14, 0),
    "resnet_cifar": ({"shortcut": "B"}, 9, 0),
    "wide_resnet": ({"widen_factor": 2}, 4, 3),
    "mobilenet_v1": ({}, 9, 0),
    "mobilenet_v2": ({}, 25, 0),
    "efficientnet": ({}, 25, 0),
    "unet": ({}, 10, 0),
    "fcn": ({"backbone": "vgg11_bn"}, 8, 0),
    "rcnn": ({}, 13, 0),
    "spp_detector": ({}, 10, 0),
    "fast_rcnn": ({}, 10, 0),
    "faster_rcnn": (HEADS, 12, 0),
    "mask_rcnn": (HEADS, 13, 0),
}
RUN = ("resnet_cifar", "wide_resnet", "unet")  # what else there is, is slow


def build(name):
    keywords, image = SMALL[name]
    return model.build({"name": name, **keywords, **ZOO[name][0]}, classes=7), image


def kinds(layer):
    """Count the layers of each kind in a network."""
    inner = (kinds(part) for part in layer.info.parts.values())
    return sum(inner, Counter([layer.info.kind]))


def drawn(shapes, seed=0):
    """Arrays as a network might have learned them; kernels such that outputs stay about as large."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        name, *spatial = path[-1].key, *like.shape[:-1]
        low, high = {"var": (0.3, 3), "scale": (0.5, 1.5)}.get(name, (-1, 1))
        width = np.prod(spatial) ** -0.5 if name == "kernel" else 1
        return np.float32(width * rng.uniform(low, high, like.shape))

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def both(net, params, state, x):
    """Outputs of a network, and of the folded one; the latter's program."""
    folded = fold_batch_norm(net)
    changed = folded.arrays(params, state)
    program = jax.jit(lambda p, s, x: folded.net.apply(p, s, x)).trace(*changed, x)
    (found, after), text = program.lower().compile()(*changed, x), str(program.jaxpr)
    assert jax.tree.structure(after) == jax.tree.structure(changed[1])
    expected = jax.jit(lambda p, s, x: net.apply(p, s, x)[0])(params, state, x)
    return jax.tree.leaves(expected), jax.tree.leaves(found), text


def assert_equal(expected, found):
    for e, f in zip(expected, found, strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=1e-5 * np.abs(e).max())


@pytest.mark.parametrize("name", [n for n in model.ARCHITECTURES if n in ZOO])
@pytest.mark.usefixtures("few_blocks")
def test_norms_of_every_architecture_are_gone(name):
    _, gone, left = ZOO[name]
    net, image = build(name)
    folded = fold_batch_norm(net)
    assert (kinds(net)["batch_norm"], len(folded.norms)) == (gone + left, gone)
    assert kinds(folded.net)["batch_norm"] == left
    _, params, state = model.init_shapes(net, (1, *image))
    arrays = jax.eval_shape(folded.arrays, params, state)
    assert jax.tree.map(jnp.shape, arrays) == jax.tree.map(
        jnp.shape, model.init_shapes(folded.net, (1, *image))[1:]
    )
    assert len(jax.tree.leaves(arrays[1])) == 2 * left


def test_architectures_of_the_table_are_those_with_batch_norm():
    for name in model.ARCHITECTURES.keys() - ZOO.keys():
        assert not kinds(model.build({"name": name, **SMALL[name][0]}, classes=7))["batch_norm"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n not in RUN))
        for n in (*RUN, "vgg", "resnet", "mobilenet_v1", "mobilenet_v2", "faster_rcnn")
    ],
)
@pytest.mark.usefixtures("few_blocks", "thin_dense")
def test_outputs_of_a_folded_architecture_are_equal(name):
    net, image = build(name)
    params, state = drawn(model.init_shapes(net, (1, *image))[1:])
    x = drawn({"x": given(name, image)})["x"]
    expected, found, text = both(net, params, state, x)
    assert_equal(expected, found)
    assert text.count("rsqrt") == ZOO[name][2]


# One after the other, each followed by a batch norm.
LINEAR = {
    "with a bias": model.conv(6, 3),
    "without": model.conv(6, 3, bias=False, padding="SAME"),
    "grouped": model.conv(6, 3, groups=3, stride=2),
    "depthwise": model.depthwise_conv(3, multiplier=2, bias=False),
    "transposed": model.conv_transpose(8, 2, stride=2, groups=2),
    "dilated": model.conv(4, [1, 3], dilation=2),
    "dense": model.dense(5),
}
OPTIONS = ({}, {"scale": False}, {"bias": False}, {"scale": False, "bias": False, "eps": 0.1})


def test_every_linear_layer_and_every_kind_of_norm():
    layers = [
        model.serial(linear=layer, norm=model.batch_norm(**OPTIONS[i % 4]), act=model.relu())
        for i, layer in enumerate(LINEAR.values())
    ]
    net = model.serial(*layers)
    params, state = drawn(model.init_shapes(net, (1, 15, 17, 6))[1:])
    before = jax.tree.map(np.array, (params, state))
    x = drawn({"x": jnp.zeros((3, 15, 17, 6))})["x"]
    expected, found, text = both(net, params, state, x)
    assert np.abs(expected[0]).max() > 0.1
    assert_equal(expected, found)
    assert "rsqrt" not in text
    assert len(fold_batch_norm(net).norms) == len(LINEAR)
    jax.tree.map(np.testing.assert_array_equal, (params, state), before)  # nothing was changed


def test_numbers_by_hand():
    """y = 3 (2 x + 1 - 5) / sqrt(0.19 + 0.06) + 7 = 12 x - 17, in NumPy as it was given."""
    net = model.serial(fc=model.dense(1), bn=model.batch_norm(eps=0.06))
    one = np.ones(1, np.float32)
    params = {
        "fc": {"kernel": 2 * one[None], "bias": one},
        "bn": {"scale": 3 * one, "bias": 7 * one},
    }
    folded = fold_batch_norm(net)
    params, state = folded.arrays(params, {"bn": {"mean": 5 * one, "var": np.float32(0.19) * one}})
    assert (folded.norms, state, params.keys()) == (("bn",), {}, {"fc"})
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    np.testing.assert_allclose(params["fc"]["kernel"], [[12]], rtol=1e-6)
    np.testing.assert_allclose(params["fc"]["bias"], [-17], rtol=1e-6)


def norms_of(net):
    return fold_batch_norm(net).norms


def test_norms_that_see_what_others_see_stay():
    conv, bn, relu = model.conv(4, 3, padding="SAME"), model.batch_norm(), model.relu()
    each = model.each(model.serial(conv=conv, bn=bn))
    for net, folded in [
        (model.serial(conv=conv, relu=relu, bn=bn), ()),
        (model.serial(bn=bn, conv=conv), ()),
        (model.serial(conv=conv, block=model.residual(model.serial(bn=bn, conv=conv))), ()),
        (model.serial(conv=conv, both=model.parallel(bn, relu)), ()),
        (model.serial(conv=model.parallel(conv), bn=bn), ()),
        (model.serial(conv=conv, drop=model.dropout(0.5), bn=bn), ()),
        (model.serial(block=model.serial(conv=conv, bn1=bn), bn2=bn), ("block/bn1", "bn2")),
        (model.serial(conv=conv, block=model.serial(bn=bn, relu=relu)), ("block/bn",)),
        (model.serial(a=model.serial(b=model.serial(conv=conv)), bn=bn), ("bn",)),
        (model.serial(maps=model.fork(a=relu), each=each), ("each/bn",)),
        (model.serial(**{model.INLINE: conv}, bn=bn), ()),  # no path leads to it
    ]:
        assert norms_of(net) == folded


def test_what_is_tapped_is_given_as_before():
    """A convolution whose output is given out keeps it; so does a part that ends with one."""
    net = model.serial(
        block=model.serial(conv1=model.conv(3, 1), bn1=model.batch_norm(), conv2=model.conv(2, 1)),
        bn2=model.batch_norm(),
        conv3=model.conv(2, 1),
        bn3=model.batch_norm(),
    )
    every = ("block/bn1", "bn2", "bn3")
    assert norms_of(net) == every
    for taps, folded in [
        (["block/conv1"], every[1:]),
        (["block"], ("block/bn1", "bn3")),
        (["block/conv2", "conv3"], every[:1]),
        (["block/bn1", "bn2", "bn3"], every),
    ]:
        assert norms_of(model.capture_intermediates(net, taps)) == folded
    tapped = model.serial(maps=model.backbone(net, ["block", "bn3"]))
    params, state = drawn(model.init_shapes(tapped, (1, 4, 4, 2))[1:])
    expected, found, text = both(tapped, params, state, np.ones((1, 4, 4, 2), np.float32))
    assert_equal(expected, found)
    assert text.count("rsqrt") == 1


def test_a_layer_that_cannot_be_looked_into_stays():
    net = model.serial(conv=model.conv(4, 3), bn=model.batch_norm())
    assert norms_of(model.residual(net._replace(info=model.LayerInfo("opaque")))) == ()
    assert norms_of(model.residual(net)) == ("branch/bn",)


def test_a_folded_network_does_not_train():
    net = model.serial(fc=model.dense(2), bn=model.batch_norm())
    folded = fold_batch_norm(net)
    arrays = folded.arrays(*drawn(model.init_shapes(net, (1, 3))[1:]))
    with pytest.raises(
        LayerValueError, match=r"^bn: batch_norm: folded into .* got train=True; tr"
    ):
        folded.net.apply(*arrays, jnp.ones((2, 3)), train=True)


def test_networks_of_several_seeds_and_half_precision():
    net = model.serial(fc=model.dense(2), bn=model.batch_norm())
    shapes = model.init_shapes(net, (1, 3))[1:]
    fold = fold_batch_norm(net).arrays
    apart = [drawn(shapes, seed) for seed in range(3)]
    stacked = jax.vmap(fold)(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart))
    for i, arrays in enumerate(apart):
        same = jax.tree.map(lambda leaf, i=i: leaf[i], stacked)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), fold(*arrays), same)
    params, state = apart[0]
    half, _ = fold(jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), params), state)
    whole, _ = fold(params, state)
    for name in ("kernel", "bias"):
        assert half["fc"][name].dtype == jnp.bfloat16
        np.testing.assert_allclose(
            half["fc"][name].astype(np.float32), whole["fc"][name], rtol=0.03
        )
