"""Saliency, Grad-CAM and the heat map: against weights, hand arithmetic and NumPy."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax import explain, model
from convax.inference.predictor import Trained
from convax.training.tasks.registry import TASKS

KEY = jax.random.key(1)


def linear(H, W, C, K, rng):
    """A linear network with its weights as images ``(H, W, C, K)``."""
    net = model.serial(flat=model.flatten(), fc=model.dense(K))
    _, params, state = net.init(KEY, (1, H, W, C))
    weights = rng.normal(size=(H * W * C, K)).astype(np.float32)
    params["fc"]["kernel"] = jnp.asarray(weights)
    return net, params, state, weights.reshape(H, W, C, K)


def small():
    return model.serial(
        conv1=model.conv(4, 3, padding=1),
        bn1=model.batch_norm(),
        act1=model.relu(),
        pool1=model.max_pool(2),
        conv2=model.conv(5, 3, padding=1),
        act2=model.relu(),
        pool2=model.avg_pool(2),
        flatten=model.flatten(),
        fc=model.dense(3),
    )


@pytest.fixture(scope="module")
def trained():
    net = small()
    _, params, state = net.init(KEY, (1, 8, 6, 2))
    x = jax.random.normal(jax.random.key(2), (3, 8, 6, 2))
    return net, params, state, x


def test_saliency_of_a_linear_network_is_its_weights(rng):
    net, params, state, weights = linear(4, 3, 2, 3, rng)
    x = jnp.asarray(rng.normal(size=(5, 4, 3, 2)), jnp.float32)
    classes = np.array([2, 0, 1, 1, 2])
    gradient = explain.input_gradient(net, params, state, x, classes)
    expected = np.moveaxis(weights[..., classes], -1, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    found = jax.jit(partial(explain.saliency, net))(params, state, x, classes)
    np.testing.assert_allclose(found, np.abs(expected).max(axis=-1), rtol=1e-6)


@pytest.mark.slow
def test_saliency_against_finite_differences(trained):
    net, params, state, x = trained
    found = np.asarray(explain.input_gradient(net, params, state, x, 1))

    apply = jax.jit(net.apply)

    def logits(n, at, step):
        return float(apply(params, state, x[n : n + 1].at[(0, *at)].add(step))[0][0, 1])

    for n, at in [(0, (0, 0, 0)), (1, (3, 4, 1)), (2, (7, 5, 0))]:
        numeric = (logits(n, at, 1e-3) - logits(n, at, -1e-3)) / 2e-3
        np.testing.assert_allclose(found[n][at], numeric, rtol=0.02, atol=2e-4)


@pytest.mark.parametrize("spatial", [(2,), (1, 2)], ids=["1-D", "2-D"])
def test_grad_cam_by_hand(spatial):
    """Conv 1x1 to two maps, then a dense layer on the 1x2 image: everything fits on paper."""
    net = model.serial(conv=model.conv(2, 1, bias=False), flat=model.flatten(), fc=model.dense(2))
    params = {
        "conv": {"kernel": jnp.array([1.0, -1.0]).reshape(*[1] * len(spatial), 1, 2)},
        # rows: (pixel 0, map 0), (pixel 0, map 1), (pixel 1, map 0), (pixel 1, map 1)
        "fc": {
            "kernel": jnp.array([[1.0, 0.0], [2.0, 0.0], [5.0, 1.0], [-4.0, 1.0]]),
            "bias": jnp.zeros(2),
        },
    }
    x = jnp.array([3.0, -2.0]).reshape(1, *spatial, 1)  # maps: A_0 = (3, -2), A_1 = (-3, 2)
    # class 0: alpha = ((1 + 5) / 2, (2 - 4) / 2) = (3, -1); 3 A_0 - A_1 = (12, -8) -> ReLU
    # class 1: alpha = (1 / 2, 1 / 2); A_0 / 2 + A_1 / 2 = (0, 0)
    for k, expected in [(0, [12.0, 0.0]), (1, [0.0, 0.0])]:
        heat = explain.grad_cam(net, params, {}, x, k, layer="conv")
        np.testing.assert_allclose(heat.ravel(), expected, atol=1e-6)


def test_grad_cam_behind_a_global_mean_is_the_class_activation_map(trained):
    """Zhou et al., arXiv:1512.04150: alpha is then the dense layer's weight by 1 / HW."""
    conv = {"conv": model.conv(4, 3, padding=1), "act": model.relu()}
    net = model.serial(**conv, pool=model.global_avg_pool(), fc=model.dense(3))
    _, params, state = net.init(KEY, (1, 8, 6, 2))
    x = trained[-1]
    A = np.asarray(model.backbone(net, ["act"]).apply(params, state, x)[0]["act"])
    expected = np.maximum(A @ np.asarray(params["fc"]["kernel"])[:, 2] / 48, 0)
    heat = explain.grad_cam(net, params, state, x, 2)
    np.testing.assert_allclose(heat, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_grad_cam_of_any_layer_each_image_by_itself_jitted(trained):
    net, params, state, x = trained
    classes = jnp.array([0, 2, 1])
    heat = jax.jit(partial(explain.grad_cam, net, layer="conv2", resize=False))
    several = heat(params, state, x, classes)
    assert several.shape == (3, 4, 3)
    for n in range(3):
        one = explain.grad_cam(
            net, params, state, x[n : n + 1], classes[n], layer="conv2", resize=False
        )
        np.testing.assert_allclose(several[n], one[0], rtol=1e-5, atol=1e-6)
    resized = explain.grad_cam(net, params, state, x, classes, layer="conv2")
    expected = jax.image.resize(several, (3, 8, 6), "linear")
    np.testing.assert_allclose(resized, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "shape", "expected"),
    [
        (model.resnet_cifar(10, depth=8), (1, 32, 32, 3), "stage3"),
        (model.wide_resnet(10, depth=10, widen_factor=1), (1, 32, 32, 3), "relu"),
        (model.dilated(10, features=4, dilations=[1, 2]), (1, 8, 8, 1), "stack"),
        (model.vgg(10, depth=11, batch_norm=False), (1, 64, 64, 3), "stage5/act2"),
        (model.mobilenet_v2(10), (1, 64, 64, 3), "last"),
        (small(), (1, 8, 6, 2), "act2"),
        (model.serial(a=model.residual(model.relu()), p=model.max_pool(2)), (1, 8, 8, 1), "a"),
    ],
    ids=["resnet", "wide", "dilated", "vgg", "mobilenet", "small", "residual"],
)
def test_the_last_map(net, shape, expected):
    assert explain.last_map_layer(net, shape) == expected


def test_what_cannot_be_explained_is_said(trained):
    net, params, state, x = trained
    of = partial(explain.saliency, net, params, state, x)
    for k in (3, -1, np.array([0, 1, 7])):
        with pytest.raises(ValueError, match=r"scores: class: got .*, need 0 to 2"):
            of(k)
    with pytest.raises(ValueError, match=r"scores: class: got shape \(2,\), need \(\) or \(3,\)"):
        of(np.array([0, 1]))
    with pytest.raises(TypeError, match="scores: class: got float32, need an integer"):
        of(jnp.float32(1))
    with pytest.raises(ValueError, match=r"scores: target\(outputs\): got shape \(\), need \(3,\)"):
        of(lambda y: y.sum())
    cam = partial(explain.grad_cam, net, params, state, x, 0)
    with pytest.raises(ValueError, match=r"no layer at 'conv3'.* near it: conv2"):
        cam(layer="conv3")
    with pytest.raises(ValueError, match=r"layer 'fc' has no map: got output \(3, 3\), need 4"):
        cam(layer="fc")
    flat = model.mlp(3, hidden=[4], activation="relu")
    with pytest.raises(ValueError, match=r"no layer of this network has a map.* use saliency"):
        explain.last_map_layer(flat, (1, 8, 6, 2))


def test_a_target_may_be_any_function(trained):
    net, params, state, x = trained
    of = partial(explain.input_gradient, net, params, state, x)
    difference = of(lambda y: y[:, 0] - 2 * y[:, 1])
    np.testing.assert_allclose(difference, of(0) - 2 * of(1), rtol=1e-4, atol=1e-5)


def test_the_heat_map_of_a_predictor(whole, trained):
    """An MLP has no maps: its saliency; a network with maps: Grad-CAM, padding cut off."""
    predictor = convax.load(whole.path)
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 1)).astype(np.uint8)
    heat = explain.heatmap(predictor, image, 1)
    x = np.pad(image, ((1, 1), (1, 1), (0, 0)))[None] / np.float32(255)
    assert predictor.trained is not None and predictor.preprocessing is not None
    spec = predictor.preprocessing
    x = (x - np.float32(spec.mean[0])) / np.float32(spec.std[0])
    seen = explain.saliency(*predictor.trained, x, 1)
    seen = np.asarray(seen)[0, 1:-1, 1:-1]
    np.testing.assert_allclose(heat, seen / seen.max(), rtol=1e-4, atol=1e-6)

    net, params, state, _ = trained
    spec = spec._replace(size=(8, 6), mean=(0.5, 0.5), std=(0.2, 0.3))
    other = convax.Predictor(
        predictor.function,
        params,
        state,
        predictor.classes,
        (6, 6, 2),
        predictor.task,
        trained=Trained(net, params, state),
        preprocessing=spec,
    )
    image = np.random.default_rng(1).random((6, 6, 2)).astype(np.float32)
    heats = [explain.heatmap(other, image, k) for k in range(3)]
    assert (
        sys.modules["convax.explain.heatmap"]._COMPILED[other]._cache_size() == 1
    )  # of all classes
    x = np.pad((image - spec.mean) / spec.std, ((1, 1), (0, 0), (0, 0)))
    x[[0, -1]] = -np.array(spec.mean) / spec.std
    for k, heat in enumerate(heats):
        seen = explain.grad_cam(net, params, state, jnp.asarray(x[None], jnp.float32), k)
        seen = np.asarray(seen)[0, 1:-1]
        np.testing.assert_allclose(heat, seen / (seen.max() or 1), rtol=1e-3, atol=1e-4)
    for bad, k, message in [
        (image, 3, "class: got 3, need 0 to 2"),
        (image[1:], 0, r"wrong image shape: got \(5, 6, 2\), need \(6, 6, 2\)"),
    ]:
        with pytest.raises(ValueError, match="heatmap: " + message):
            explain.heatmap(other, bad, k)
    other.trained = None
    with pytest.raises(
        ValueError, match=r"heatmap: predictor\.trained: got None, need one network"
    ):
        explain.heatmap(other, image, 0)
    other.task = other.task._replace(spec=TASKS["embedding"])
    with pytest.raises(ValueError, match="got a network of embedding, need classification"):
        explain.heatmap(other, image, 0)
