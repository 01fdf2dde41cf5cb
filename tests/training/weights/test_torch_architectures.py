"""Every named architecture: PyTorch's weights give PyTorch's logits and gradients.

Narrow and shallow ones, with every kind of block, are compared number for number; all depths at
full width name for name.
"""

import importlib
import re
import sys
from functools import partial
from itertools import groupby

import jax
import numpy as np
import pytest

from convax.model import ARCHITECTURES, identity, init_shapes
from convax.model.torch.names import names_of
from convax.training.weights.torch_state_dict import torch_mapping
from tests.training.weights.torch_parity import assert_same_network

BY = 16  # how much narrower; a network's own `classes` are divided too


@pytest.fixture
def nets(torch):
    return importlib.import_module("tests.training.weights.torch_nets")


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


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "bn"])
def test_vgg(batch_norm, torch, nets, narrow, without_dropout, tmp_path):
    narrow("vgg")
    without_dropout("vgg")
    spec = {"name": "vgg", "depth": 11, "batch_norm": batch_norm}
    theirs = nets.vgg(10, 11, batch_norm, width=BY)
    compare(torch, theirs, spec, 10 * BY, (64, 32, 3), tmp_path, train=batch_norm)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_resnet(depth, torch, nets, narrow, monkeypatch, tmp_path):
    narrow("resnet")
    repeats = {18: (2, 2, 1, 1), 50: (3, 1, 1, 1)}[depth]
    shallow = {depth: (4 if depth >= 50 else 1, repeats)}
    monkeypatch.setattr(sys.modules[ARCHITECTURES["resnet"].__module__], "_DEPTHS", shallow)
    spec = {"name": "resnet", "depth": depth, "zero_init_residual": False}
    theirs = nets.ResNet(10, depth, BY, repeats)
    compare(torch, theirs, spec, 10 * BY, (64, 64, 3), tmp_path, train=True)


@pytest.mark.slow
def test_mobilenet_v2(torch, nets, without_dropout, monkeypatch, tmp_path):
    without_dropout("mobilenet_v2")
    shallow = [(t, c, min(n, 3 if c == 32 else 1), s) for t, c, n, s in nets.MOBILENET_V2]
    monkeypatch.setattr(sys.modules[ARCHITECTURES["mobilenet_v2"].__module__], "V2", shallow)
    monkeypatch.setattr("convax.model.torch.names.MOBILENET_V2", shallow)
    spec = {"name": "mobilenet_v2", "width": 0.25}
    theirs = nets.mobilenet_v2(10, 0.25, table=shallow)
    compare(torch, theirs, spec, 10, (64, 64, 3), tmp_path, train=True)


@pytest.mark.slow
@pytest.mark.usefixtures("few_blocks")
def test_efficientnet(torch, without_dropout, tmp_path):
    """Torchvision's own, with one block a stage, of which it drops none."""
    theirs = pytest.importorskip("torchvision").models.efficientnet
    without_dropout("efficientnet")
    stages, before = [], 32
    for expansion, window, stride, features, count in sys.modules[
        ARCHITECTURES["efficientnet"].__module__
    ].STAGES:
        stages.append(theirs.MBConvConfig(expansion, window, stride, before, features, count))
        before = features
    module = theirs.EfficientNet(stages, 0.2, 0.0, num_classes=10)
    spec = {"name": "efficientnet", "size": "b0", "stochastic_depth": 0.0}
    compare(torch, module, spec, 10, (32, 32, 3), tmp_path)


@pytest.mark.slow
def test_convnext(torch, nets, monkeypatch, tmp_path):
    sizes = {"tiny": ((8, 16, 24, 32), (1, 1, 2, 1))}
    monkeypatch.setattr(sys.modules[ARCHITECTURES["convnext"].__module__], "_SIZES", sizes)
    compare(
        torch, nets.convnext(10, *sizes["tiny"]), {"name": "convnext"}, 10, (64, 64, 3), tmp_path
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64, 3), (75, 90, 3)], ids=["square", "odd"])
def test_spp_net(size, torch, nets, narrow, tmp_path):
    narrow("spp_net")  # levels 3, 2 and 1: the order of features behind a pyramid
    theirs = nets.SppNet(10, (3, 2, 1), width=BY)
    spec = {"name": "spp_net", "levels": [3, 2, 1]}
    compare(torch, theirs, spec, 10 * BY, size, tmp_path)


@pytest.mark.parametrize(
    "train", [False, pytest.param(True, marks=pytest.mark.slow, id="training")]
)
def test_wide_resnet(train, torch, nets, tmp_path):
    spec = {
        "name": "wide_resnet",
        "depth": 16,
        "widen_factor": 1,
    }  # whose first stage has no shortcut
    compare(torch, nets.WideResNet(10, 16, 1), spec, 10, (16, 16, 3), tmp_path, train=train)


@pytest.mark.slow
def test_mobilenet_v1(torch, nets, monkeypatch, tmp_path):
    module = sys.modules[ARCHITECTURES["mobilenet_v1"].__module__]
    monkeypatch.setattr(module, "_V1", module._V1[:8])  # the trunk, with three of six alike
    spec = {"name": "mobilenet_v1", "width": 0.25}
    theirs = nets.MobileNetV1(10, 0.25, [*nets.MOBILENET_V1[:3], (3, 512, 2)])
    compare(torch, theirs, spec, 10, (64, 64, 3), tmp_path, train=True)


@pytest.mark.parametrize(("norm", "upsampling"), [(True, "transposed"), (False, "bilinear")])
def test_unet(norm, upsampling, torch, nets, tmp_path):
    spec = {"name": "unet", "features": [4, 6, 8], "batch_norm": norm, "upsampling": upsampling}
    theirs = nets.UNet(3, [4, 6, 8], norm, upsampling == "bilinear")
    compare(torch, theirs, spec, 3, (16, 24, 3), tmp_path)


@pytest.mark.slow
def test_fcn(torch, nets, monkeypatch, tmp_path):
    module = sys.modules["convax.model.architectures.vgg"]  # the trunk's convolutions alone
    real = module.conv
    monkeypatch.setattr(module, "conv", lambda features, *a, **k: real(features // BY, *a, **k))
    spec = {"name": "fcn", "backbone": "vgg11", "stride": 8, "hidden": 5}
    theirs = nets.FCN8s(3, nets.VggTrunk(11, width=BY), (16, 32, 32), 5)
    compare(torch, theirs, spec, 3, (32, 64, 3), tmp_path)


@pytest.mark.parametrize(("backbone", "stride"), [("vgg16", 8), ("vgg11_bn", 16), ("resnet18", 32)])
def test_fcn_names_every_array(backbone, stride):
    spec = {"name": "fcn", "backbone": backbone, "stride": stride, "hidden": 0}
    net = ARCHITECTURES["fcn"](3, backbone=backbone, stride=stride, hidden=0)
    called = set(torch_mapping(net, (1, 64, 64, 3), names_of(spec, net)).called.values())
    last = {8: "upscore8", 16: "upscore16", 32: "upscore"}[stride]
    assert {f"{last}.weight", "score_fr.weight"} <= called
    first = "backbone.conv1.weight" if backbone == "resnet18" else "backbone.features.0.weight"
    assert first in called and len([n for n in called if n.startswith("score_pool")]) == {
        8: 4, 16: 2, 32: 0}[stride]  # fmt: skip


CONVNEXT = {
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
}
FULL = {
    "alexnet": ({"name": "alexnet"}, lambda nets: nets.alexnet(1000)),
    "spp_net": ({"name": "spp_net"}, lambda nets: nets.SppNet(1000, (6, 3, 2, 1))),
    "wide_resnet": ({"name": "wide_resnet"}, lambda nets: nets.WideResNet(1000, 28, 10)),
    "mobilenet_v1": ({"name": "mobilenet_v1"}, lambda nets: nets.MobileNetV1(1000)),
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


def torchvision_net(name):
    return lambda _: getattr(pytest.importorskip("torchvision").models, name)()


RESNEXT = {"name": "resnet", "depth": 50, "groups": 32, "width_per_group": 4}
FULL["resnet152"] = ({"name": "resnet", "depth": 152}, torchvision_net("resnet152"))
FULL["resnext50"] = (RESNEXT, torchvision_net("resnext50_32x4d"))
FULL["wide_resnet50_2"] = (
    {"name": "resnet", "depth": 50, "width_per_group": 128},
    torchvision_net("wide_resnet50_2"),
)
for size in ("b0", "b4"):
    FULL[f"efficientnet_{size}"] = (
        {"name": "efficientnet", "size": size},
        torchvision_net(f"efficientnet_{size}"),
    )
for size, shape in CONVNEXT.items():
    FULL[f"convnext_{size}"] = (
        {"name": "convnext", "size": size},
        lambda nets, shape=shape: nets.convnext(1000, *shape),
    )


ONE_OF_EACH = [
    "alexnet",
    "spp_net",
    "wide_resnet",
    "mobilenet_v2",
    "vgg16_bn",
    "resnet50",
    "convnext_tiny",
    "efficientnet_b0",
]


def numbers(path):
    return [int(n) for n in re.findall(r"\d+", path)]


@pytest.mark.parametrize(
    "name",
    [n if n in ONE_OF_EACH else pytest.param(n, marks=pytest.mark.slow) for n in FULL],
)
def test_every_array_has_its_tensor(name, torch, nets):
    """Names and sizes, without a single number."""
    spec, make = FULL[name]
    with torch.device("meta"):
        theirs = {n: tuple(t.shape) for n, t in make(nets).state_dict().items()}
    net = ARCHITECTURES[spec["name"]](1000, **{k: v for k, v in spec.items() if k != "name"})
    bridge = torch_mapping(net, (1, 224, 224, 3), names_of(spec, net))
    assert set(bridge.called.values()) == {n for n in theirs if "num_batches" not in n}
    for path, tensor in bridge.called.items():
        ours = sorted(n for n in bridge.shapes[path] if n > 1)
        assert ours == sorted(n for n in theirs[tensor] if n > 1), (path, tensor)
    places, kind = {n: place for place, n in enumerate(theirs)}, partial(re.sub, r"\d+", "#")
    for _, alike in groupby(sorted(bridge.called, key=kind), kind):  # as stage#/block#/conv#
        order = [places[bridge.called[path]] for path in sorted(alike, key=numbers)]
        assert order == sorted(order)
    _, params, _ = init_shapes(net, (1, 224, 224, 3))
    sizes = [np.prod(theirs[n]) for n in theirs if "running" not in n and "num_b" not in n]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(sizes)
