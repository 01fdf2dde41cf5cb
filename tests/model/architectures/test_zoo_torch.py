"""Blocks of the architectures against PyTorch, written out with its functions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convax import model

KEY = jax.random.key(0)


class Torch:
    """PyTorch's functions on our parameters, of the layer that stands at a path."""

    def __init__(self, torch, params, state):
        self.torch, self.params, self.state = torch, params, state

    def leaf(self, tree, path, name):
        for key in path.split("/"):
            tree = tree[key]
        return self.torch.tensor(np.asarray(tree[name]))

    def conv(self, x, path, *, bias=False, **options):
        kernel = self.leaf(self.params, path, "kernel").permute(3, 2, 0, 1)
        b = self.leaf(self.params, path, "bias") if bias else None
        return self.torch.nn.functional.conv2d(x, kernel, b, **options)

    def norm(self, x, path):
        of = [self.leaf(self.state, path, name) for name in ("mean", "var")]
        of += [self.leaf(self.params, path, name) for name in ("scale", "bias")]
        return self.torch.nn.functional.batch_norm(x, *of)

    def dense(self, x, path):
        kernel = self.leaf(self.params, path, "kernel")
        return x @ kernel + self.leaf(self.params, path, "bias")

    def layer_norm(self, x, path):  # over the last axis
        of = [self.leaf(self.params, path, name) for name in ("scale", "bias")]
        return self.torch.nn.functional.layer_norm(x, x.shape[-1:], *of, eps=1e-6)


def resnet_cifar(f, x):
    x = f.norm(f.conv(x, "conv1", padding=1), "bn1").relu()
    for at, stride in (("stage1/block1", 1), ("stage2/block1", 2), ("stage3/block1", 2)):
        y = f.norm(f.conv(x, f"{at}/conv1", padding=1, stride=stride), f"{at}/bn1").relu()
        y = f.norm(f.conv(y, f"{at}/conv2", padding=1), f"{at}/bn2")
        if stride == 2:
            x = f.norm(f.conv(x, f"{at}/shortcut/conv", stride=2), f"{at}/shortcut/bn")
        x = (x + y).relu()
    return f.dense(x.mean((2, 3)), "fc")


def wide_resnet(f, x):
    x = f.conv(x, "conv1", padding=1)
    for at, stride in (("stage1/block1", 1), ("stage2/block1", 2), ("stage3/block1", 2)):
        a = f.norm(x, f"{at}/bn1").relu()
        y = f.norm(f.conv(a, f"{at}/conv1", padding=1, stride=stride), f"{at}/bn2").relu()
        y = f.conv(y, f"{at}/conv2", padding=1)
        x = y + f.conv(a, f"{at}/shortcut", stride=stride)
    return f.dense(f.norm(x, "bn").relu().mean((2, 3)), "fc")


def bottleneck(f, x, groups=1):
    """The first of a ResNet-50 or ResNeXt-50, behind its stem."""
    x = f.norm(f.conv(x, "conv1", stride=2, padding=3), "bn1").relu()
    x = f.torch.nn.functional.max_pool2d(x, 3, 2, 1)
    at = "stage1/block1"
    y = f.norm(f.conv(x, f"{at}/conv1"), f"{at}/bn1").relu()
    y = f.norm(f.conv(y, f"{at}/conv2", padding=1, groups=groups), f"{at}/bn2").relu()
    y = f.norm(f.conv(y, f"{at}/conv3"), f"{at}/bn3")
    x = f.norm(f.conv(x, f"{at}/shortcut/conv"), f"{at}/shortcut/bn")
    return (x + y).relu().permute(0, 2, 3, 1)


def inverted(f, x):
    """The first three blocks of MobileNetV2: without expansion, with a stride, with a shortcut."""
    relu6 = f.torch.nn.functional.relu6
    x = relu6(f.norm(f.conv(x, "stem/conv", stride=2, padding=1), "stem/bn"))
    for at, stride in (("stage1/block1", 1), ("stage2/block1", 2), ("stage2/block2", 1)):
        y = x
        if at != "stage1/block1":
            y = relu6(f.norm(f.conv(y, f"{at}/expand"), f"{at}/bn1"))
        y = f.conv(y, f"{at}/depthwise", padding=1, stride=stride, groups=y.shape[1])
        y = relu6(f.norm(y, f"{at}/bn2"))
        y = f.norm(f.conv(y, f"{at}/project"), f"{at}/bn3")
        x = x + y if at == "stage2/block2" else y
    return x.permute(0, 2, 3, 1)


def mbconv(f, x):
    """The first three blocks of EfficientNet-B0: as those of MobileNetV2, with weights of channels."""
    silu = f.torch.nn.functional.silu
    x = silu(f.norm(f.conv(x, "stem/conv", stride=2, padding=1), "stem/bn"))
    for at, stride in (("stage1/block1", 1), ("stage2/block1", 2), ("stage2/block2", 1)):
        y = x
        if at != "stage1/block1":
            y = silu(f.norm(f.conv(y, f"{at}/expand"), f"{at}/bn1"))
        y = f.conv(y, f"{at}/depthwise", padding=1, stride=stride, groups=y.shape[1])
        y = silu(f.norm(y, f"{at}/bn2"))
        weight = silu(f.conv(y.mean((2, 3), keepdim=True), f"{at}/se/reduce", bias=True))
        y = y * f.conv(weight, f"{at}/se/expand", bias=True).sigmoid()
        y = f.norm(f.conv(y, f"{at}/project"), f"{at}/bn3")
        x = x + y if at == "stage2/block2" else y
    return x.permute(0, 2, 3, 1)


def convnext(f, x):
    """The stem and the first block."""
    x = f.conv(x, "stem/conv", bias=True, stride=4)
    x = f.layer_norm(x.permute(0, 2, 3, 1), "stem/norm")
    at = "stage1/block1"
    y = f.conv(x.permute(0, 3, 1, 2), f"{at}/depthwise", bias=True, padding=3, groups=x.shape[-1])
    y = f.dense(f.layer_norm(y.permute(0, 2, 3, 1), f"{at}/norm"), f"{at}/dense1")
    y = f.dense(f.torch.nn.functional.gelu(y), f"{at}/dense2")
    return x + y * f.leaf(f.params, f"{at}/scale", "scale")


CASES = {
    "resnet_cifar": (model.resnet_cifar(5, depth=8, shortcut="B"), None, resnet_cifar),
    "wide_resnet": (model.wide_resnet(5, depth=10, widen_factor=2), None, wide_resnet),
    "resnet50": (model.resnet(5, depth=50), "stage1/block1", bottleneck),
    "resnext50": (
        model.resnet(5, depth=50, groups=32, width_per_group=4),
        "stage1/block1",
        partial(bottleneck, groups=32),
    ),
    "mobilenet_v2": (model.mobilenet_v2(5), "stage2/block2", inverted),
    "efficientnet": (model.efficientnet(5), "stage2/block2", mbconv),
    "convnext": (model.convnext(5), "stage1/block1", convnext),
}


@pytest.mark.parametrize("net, upto, theirs", CASES.values(), ids=CASES)
def test_architectures_equal_pytorch(net, upto, theirs, torch):
    layer = net if upto is None else model.backbone(net, [upto])
    image = (2, 16, 16, 3)
    _, params, state = model.init_shapes(layer, image)
    rng = np.random.default_rng(0)
    draw = lambda a: rng.uniform(0.1, 1.0, a.shape).astype(np.float32)  # noqa: E731
    signed = lambda a: (draw(a) * rng.choice([-1, 1], a.shape) / 4).astype(np.float32)  # noqa: E731
    params, state = jax.tree.map(signed, params), jax.tree.map(draw, state)
    x = rng.standard_normal(image).astype(np.float32)
    y, _ = jax.jit(layer.apply)(params, state, jnp.asarray(x))
    y = y if upto is None else y[upto]
    expected = theirs(Torch(torch, params, state), torch.tensor(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-4 * float(abs(expected).max()))
