"""The forms that convolutions take on CPU (`ops/conv/cpu/dispatch.py`), each at the shape of a real layer."""

from typing import NamedTuple, get_args

from convax import ops
from convax.ops.common.implementation import Implementation
from convax.ops.conv.cpu.dispatch import rule_name
from convax.ops.conv.cpu.rule import Kind
from convax.ops.conv.geometry import resolve_conv

from .convolution import Options, conv_entry, grad_entries, options
from .entry import Entry

BATCH = 32
KINDS: tuple[Kind, ...] = get_args(Kind)


class Layer(NamedTuple):
    """A convolution of a known network, with an input small enough for float64."""

    name: str
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: Options

    def rule(self, kind: Kind, implementation: Implementation = "cpu") -> str:
        """The name of the form that it takes on CPU."""
        geometry = resolve_conv("layer", self.x, self.kernel, *self.options)
        with ops.implementation(implementation):
            return rule_name(kind, geometry, self.x[-1], self.kernel[-1], batch=BATCH)

    def entry(self, kind: Kind) -> Entry:
        """The convolution or one of its two gradients, with the oracles."""
        arguments = ("", self.x, self.kernel, self.options)
        if kind == "conv":
            return conv_entry(*arguments)
        return grad_entries(*arguments)[kind == "kernel_grad"]


def layer(name: str, image: int, Ci: int, window: int, Co: int, **how) -> Layer:
    """A square window on a square image; how: stride, padding, groups."""
    o = options(2, **how)
    return Layer(name, (BATCH, image, image, Ci), (window, window, Ci // o.groups, Co), o)


def depthwise(name: str, image: int, C: int, window: int, stride: int = 1) -> Layer:
    """One filter for each channel."""
    return layer(name, image, C, window, C, stride=stride, padding=window // 2, groups=C)


# Every rule of the three tables has a layer here: a test holds that. A transposed convolution is the
# input gradient of the convolution from its output to its input.
LAYERS = [
    layer("LeNet-5, 5x5, 1 -> 6 at 32x32", 32, 1, 5, 6),
    layer("LeNet-5, 5x5, 6 -> 16 at 14x14", 14, 6, 5, 16),
    layer("AlexNet, 5x5, 96 -> 256 at 27x27, 2 groups", 27, 96, 5, 256, padding=2, groups=2),
    layer("VGG, 3x3, 64 -> 64 at 32x32", 32, 64, 3, 64, padding=1),
    layer("VGG, 3x3, 256 -> 256 at 8x8", 8, 256, 3, 256, padding=1),
    layer("ResNet, 7x7 stride 2, 3 -> 64 at 64x64", 64, 3, 7, 64, stride=2, padding=3),
    layer("ResNet, 3x3 stride 2, 64 -> 128 at 32x32", 32, 64, 3, 128, stride=2, padding=1),
    layer("ResNet, 1x1, 64 -> 256 at 28x28", 28, 64, 1, 256),
    layer("ResNet, 3x3, 512 -> 512 at 2x2", 2, 512, 3, 512, padding=1),
    depthwise("MobileNet, 3x3 depthwise, 128 at 28x28", 28, 128, 3),
    depthwise("MobileNet, 3x3 depthwise stride 2, 128 at 28x28", 28, 128, 3, stride=2),
    depthwise("ConvNeXt, 7x7 depthwise, 64 at 16x16", 16, 64, 7),
    layer("U-Net, 2x2 stride 2 transposed, 64 -> 32 at 16x16", 32, 32, 2, 64, stride=2),
    layer("DCGAN, 4x4 stride 2 transposed, 64 -> 32 at 16x16", 32, 32, 4, 64, stride=2, padding=1),
]
