"""AlexNet, VGG, ResNet, MobileNetV2, ConvNeXt: PyTorch's weights give PyTorch's logits and gradients.

Narrow ones are compared number for number, and all depths at full width name for name.
"""

import importlib
import sys

import jax
import numpy as np
import pytest

from convax.model import ARCHITECTURES, identity, init_shapes
from convax.training.torch_names import names_of
from convax.training.torch_weights import bridge_to_torch
from tests.training.torch_parity import assert_same_network

BY = 16  # how much narrower; a network's own `classes` are divided too


@pytest.fixture
def nets(torch):
    return importlib.import_module("tests.training.torch_nets")


@pytest.fixture
def narrow(monkeypatch):
    """Divide the channels of an architecture's convolutions and dense layers."""

    def apply(name):
        module = sys.modules[ARCHITECTURES[name].__module__]
        for layer in ("conv", "dense"):
            real = getattr(module, layer)
            monkeypatch.setattr(
                module,
                layer,
                lambda features, *a, real=real, **k: real(features // BY, *a, **k),
            )

    return apply


def compare(torch, theirs, spec, classes, image_shape, tmp_path, *, train=False):
    keywords = {key: value for key, value in spec.items() if key != "name"}
    net = ARCHITECTURES[spec["name"]](classes, **keywords)
    names = names_of(spec, net)
    assert_same_network(torch, theirs, net, image_shape, tmp_path, names=names, train=train)


def test_alexnet(torch, nets, narrow, tmp_path):
    narrow("alexnet")
    theirs = nets.alexnet(10, width=BY)
    compare(torch, theirs, {"name": "alexnet"}, 10 * BY, (127, 95, 3), tmp_path)


@pytest.fixture
def without_dropout(torch, monkeypatch):
    """Training without random numbers, on both sides."""
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)

    def apply(name):
        module = sys.modules[ARCHITECTURES[name].__module__]
        monkeypatch.setattr(module, "dropout", lambda rate: identity())

    return apply


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "bn"])
def test_vgg(batch_norm, torch, nets, narrow, without_dropout, tmp_path):
    narrow("vgg")
    without_dropout("vgg")
    spec = {"name": "vgg", "depth": 11, "batch_norm": batch_norm}
    theirs = nets.vgg(10, 11, batch_norm, width=BY)
    compare(torch, theirs, spec, 10 * BY, (64, 32, 3), tmp_path, train=batch_norm)


SLOWLY = pytest.param(True, marks=pytest.mark.slow, id="training")


@pytest.mark.parametrize("train", [False, SLOWLY])
@pytest.mark.parametrize("depth", [18, 50])
def test_resnet(depth, train, torch, nets, narrow, tmp_path):
    narrow("resnet")
    spec = {"name": "resnet", "depth": depth, "zero_init_residual": False}
    theirs = nets.ResNet(10, depth, width=BY)
    compare(torch, theirs, spec, 10 * BY, (64, 64, 3), tmp_path, train=train)


@pytest.mark.parametrize("train", [False, SLOWLY])
def test_mobilenet_v2(train, torch, nets, without_dropout, tmp_path):
    without_dropout("mobilenet_v2")
    spec = {"name": "mobilenet_v2", "width": 0.25}
    compare(torch, nets.mobilenet_v2(10, 0.25), spec, 10, (64, 64, 3), tmp_path, train=train)


def test_convnext(torch, nets, monkeypatch, tmp_path):
    sizes = {"tiny": ((8, 16, 24, 32), (2, 1, 2, 1))}
    monkeypatch.setattr(sys.modules[ARCHITECTURES["convnext"].__module__], "_SIZES", sizes)
    compare(
        torch, nets.convnext(10, *sizes["tiny"]), {"name": "convnext"}, 10, (64, 64, 3), tmp_path
    )


CONVNEXT = {
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
}
FULL = {
    "alexnet": ({"name": "alexnet"}, lambda nets: nets.alexnet(1000)),
    "mobilenet_v2": ({"name": "mobilenet_v2"}, lambda nets: nets.mobilenet_v2(1000)),
}
for depth in (11, 13, 16, 19):
    for bn in (False, True):
        FULL[f"vgg{depth}{'_bn' * bn}"] = (
            {"name": "vgg", "depth": depth, "batch_norm": bn},
            lambda nets, depth=depth, bn=bn: nets.vgg(1000, depth, bn),
        )
for depth in (18, 34, 50, 101):
    FULL[f"resnet{depth}"] = (
        {"name": "resnet", "depth": depth},
        lambda nets, depth=depth: nets.ResNet(1000, depth),
    )
for size, shape in CONVNEXT.items():
    FULL[f"convnext_{size}"] = (
        {"name": "convnext", "size": size},
        lambda nets, shape=shape: nets.convnext(1000, *shape),
    )


@pytest.mark.parametrize("name", FULL)
def test_every_array_has_its_tensor(name, torch, nets):
    """Names and sizes, without a single number."""
    spec, make = FULL[name]
    with torch.device("meta"):
        theirs = {n: tuple(t.shape) for n, t in make(nets).state_dict().items()}
    net = ARCHITECTURES[spec["name"]](1000, **{k: v for k, v in spec.items() if k != "name"})
    bridge = bridge_to_torch(net, (1, 224, 224, 3), names_of(spec, net))
    assert set(bridge.called.values()) == {n for n in theirs if "num_batches" not in n}
    for path, tensor in bridge.called.items():
        ours = sorted(n for n in bridge.shapes[path] if n > 1)
        assert ours == sorted(n for n in theirs[tensor] if n > 1), (path, tensor)
    _, params, _ = init_shapes(net, (1, 224, 224, 3))
    sizes = [np.prod(theirs[n]) for n in theirs if "running" not in n and "num_b" not in n]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(sizes)
