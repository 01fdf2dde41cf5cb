"""U-Net and FCN: sizes, parameters by hand, what they compute at first; the Siamese trunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model, ops
from convax.model.layers.crop_or_pad import crop_or_pad

KEY = jax.random.key(0)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def parameters_of_unet(features, channels, classes):
    """Of the paper's network, by its layers: 3x3 convolutions with a bias, and 2x2 ones upwards."""
    total, before = 0, channels
    for width in features:
        total += 9 * before * width + width + 9 * width * width + width
        before = width
    for below, width in zip(features[:0:-1], features[-2::-1], strict=True):
        total += 4 * below * width + width  # up
        total += 9 * 2 * width * width + width + 9 * width * width + width
    return total + features[0] * classes + classes


def test_unet_has_the_parameters_of_the_paper():
    features = [64, 128, 256, 512, 1024]
    net = model.unet(2, features=features, batch_norm=False, upsampling="transposed")
    out_shape, params, _ = model.init_shapes(net, (1, 64, 64, 1))
    assert out_shape == (1, 64, 64, 2)
    assert count(params) == parameters_of_unet(features, 1, 2) == 31_030_658
    up = params["levels"]["join"]["below"]["up"]
    assert up["kernel"].shape == (2, 2, 128, 64)


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("size", [(16, 16), (13, 22), (1, 1)], ids=str)
def test_a_unet_takes_images_of_any_size(size, upsampling):
    net = model.unet(3, features=[4, 6, 8], batch_norm=True, upsampling=upsampling)
    out_shape, params, state = model.init_shapes(net, (1, *size, 2))
    x = jax.ShapeDtypeStruct((2, *size, 2), jnp.float32)
    y, after = jax.eval_shape(net.apply, params, state, x)
    assert out_shape == (1, *size, 3) and y.shape == (2, *size, 3)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert model.summarize(net, (*size, 2)).parameters == count(params)


def test_unet_intermediates_can_be_captured():
    net = model.unet(3, features=[4, 6, 8], batch_norm=True, upsampling="transposed")
    tapped = model.capture_intermediates(net, ["levels/join/below/level"])
    (_, shapes), params, state = model.init_shapes(tapped, (1, 13, 13, 1))
    assert shapes == {"levels/join/below/level": (1, 7, 7, 6)}
    x = jax.ShapeDtypeStruct((1, 13, 13, 1), jnp.float32)
    (y, found), _ = jax.eval_shape(tapped.apply, params, state, x)
    assert y.shape == (1, 13, 13, 3) and found["levels/join/below/level"].shape == (1, 7, 7, 6)


def test_crop_or_pad_cuts_and_continues():
    x = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(crop_or_pad(x, [3, 2])[0, :, :, 0], [[1, 2], [4, 5], [4, 5]])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["vgg11", "vgg11_bn", "resnet18"])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_an_fcn_takes_images_of_many_sizes(backbone, stride):
    net = model.fcn(5, backbone=backbone, stride=stride, hidden=0)
    for size in [(32, 32), (45, 70), (100, 64)]:
        out_shape, params, state = model.init_shapes(net, (1, *size, 3))
        x = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        assert out_shape == jax.eval_shape(net.apply, params, state, x)[0].shape == (1, *size, 5)
    scores = [name for name in params["head"] if name.startswith("score")]
    deepest = 4 if backbone == "resnet18" else 5
    assert len(scores) == {32: 1, 16: 2, 8: 3}[stride]
    assert scores == sorted(f"score_stage{deepest - i}" for i in range(len(scores)))
    norms = [name for name in params["backbone"]["stage1"] if name.startswith("bn")]
    assert bool(norms) == (backbone == "vgg11_bn")


@pytest.mark.slow
def test_an_fcn_starts_as_an_interpolation_of_its_coarsest_scores():
    """Skips score zero, transposed convolutions interpolate: twice, twice, and eight times."""
    net = model.fcn(2, backbone="resnet18", stride=8, hidden=0)
    params, state = jax.jit(lambda key: net.init(key, (1, 96, 64, 3))[1:])(KEY)
    x = jax.random.normal(KEY, (1, 96, 64, 3))
    trunk = model.backbone(model.resnet(1, depth=18), ["stage4"])
    own = (params["backbone"], state["backbone"])
    coarse = jax.jit(lambda *args: trunk.apply(*args)[0]["stage4"])(*own, x)
    assert coarse.shape == (1, 3, 2, 512)
    score = params["head"]["score_stage4"]["score"]
    y = ops.conv(coarse, score["kernel"], score["bias"])
    for scale in (2, 2, 8):
        y = ops.conv_transpose(y, ops.bilinear(None, (2 * scale,) * 2 + (2, 2)), stride=scale)
    found = jax.jit(lambda *args: net.apply(*args)[0])(params, state, x)
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4)


def test_fcn_has_the_hidden_layers_of_the_paper():
    net = model.fcn(21, backbone="vgg16", stride=32, hidden=4096)
    _, params, _ = model.init_shapes(net, (1, 224, 224, 3))
    top = params["head"]["score_stage5"]
    assert top["conv1"]["kernel"].shape == (7, 7, 512, 4096)
    assert top["conv2"]["kernel"].shape == (1, 1, 4096, 4096)
    # As VGG-16 with 21 classes, and 64x64 taps from and to each class.
    assert count(params) == 138_357_544 - 979 * 4097 + 64 * 64 * 21 * 21


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model.unet(2, features=[4], batch_norm=True, upsampling="transposed"),
            r"unet: too few levels: got features=\[4\], need two",
        ),
        (
            lambda: model.unet(2, features=[4, 0], batch_norm=True, upsampling="transposed"),
            r"unet: bad features: got \[4, 0\]",
        ),
        (
            lambda: model.unet(2, features=[4, 4], batch_norm=True, upsampling="x"),
            "unet: unknown upsampling: got 'x'",
        ),
        (lambda: model.fcn(2, backbone="vgg16", stride=4, hidden=0), "fcn: unknown stride: got 4"),
        (
            lambda: model.fcn(2, backbone="lenet5", stride=8, hidden=0),
            "fcn: unknown kind of backbone",
        ),
        (lambda: model.fcn(2, backbone="vgg12", stride=8, hidden=0), "vgg: unknown depth: got 12"),
        (lambda: model.fcn(2, backbone="vgg11", stride=8, hidden=-1), "fcn: bad hidden: got -1"),
        (lambda: model.siamese(2, features=0, normalize=True), "siamese: bad features: got 0"),
    ],
)
def test_segmenters_refuse_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("normalize", [True, False])
def test_siamese_embeddings_have_length_one_if_normalized(normalize):
    net = model.siamese(10, features=7, normalize=normalize)
    out_shape, params, state = net.init(KEY, (1, 28, 28, 1))
    assert out_shape == (1, 7)
    x = net.apply(params, state, jax.random.normal(KEY, (3, 28, 28, 1)))[0]
    lengths = np.linalg.norm(x, axis=-1)
    assert np.allclose(lengths, 1, rtol=1e-5) == normalize


def test_l2_normalize_of_zeros_is_zeros():
    layer = model.l2_normalize()
    y, grad = jax.value_and_grad(lambda x: layer.apply({}, {}, x)[0].sum())(jnp.zeros((1, 3)))
    assert y == 0 and np.isfinite(grad).all()
