"""The networks that the libraries are timed on: what each is, whoever builds it.

`nets_convax`, `nets_flax`, `nets_equinox` and `nets_torch` each build them in the manner of their
library. All have float32 weights, and the same number of them in each library, which `contest`
insists on.
"""

from typing import Literal, NamedTuple

import numpy as np


class Net(NamedTuple):
    title: str
    image: tuple[int, int, int]  # H, W, C
    classes: int
    batch: int
    optimizer: Literal["momentum", "adam"] = "momentum"
    per_pixel: bool = False  # a label for each pixel instead of one for the image


NETS = {
    "lenet5": Net("LeNet-5", (32, 32, 1), 10, 128, "adam"),
    "vgg_gn": Net("VGG-like, group norm", (32, 32, 3), 10, 64),
    "vgg_bn": Net("VGG-like, batch norm", (32, 32, 3), 10, 64),
    "resnet20": Net("ResNet-20", (32, 32, 3), 10, 64),
    "resnet18": Net("ResNet-18", (64, 64, 3), 200, 32),
    "mobilenet_v2": Net("MobileNetV2", (64, 64, 3), 200, 32),
    "alexnet": Net("AlexNet, two towers", (128, 128, 3), 200, 32),
    "unet": Net("U-Net", (64, 64, 3), 4, 16, per_pixel=True),
    "convnext": Net("ConvNeXt-like", (64, 64, 3), 200, 32),
}

LEARNING_RATE = {"momentum": 1e-3, "adam": 1e-3}  # momentum: 0.9
NORM_GROUPS = 8  # of group norm

VGG = [32, 32, "pool", 64, 64, "pool", 128, 128]  # features of 3x3 convolutions; then a global mean

# Basic blocks by stage: features, how many, stride of the first. Where the shape changes the
# shortcut is a 1x1 convolution with batch norm (option B of the paper), in ResNet-20 too.
RESNET20 = [(16, 3, 1), (32, 3, 2), (64, 3, 2)]
RESNET18 = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)]

# Sandler et al., arXiv:1801.04381, table 2: expansion t, features c, repeats n, first stride s.
MOBILENET_V2 = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]

UNET = [16, 32, 64, 128]  # features level by level; two 3x3 convolutions at each, down and up
CONVNEXT = [(64, 2), (128, 2), (256, 2)]  # features, blocks; no layer scale, no stochastic depth


def arrays(net: Net, *lead: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(*lead, H, W, C)`` and labels ``(*lead,)`` or ``(*lead, H, W)``, the same for all.

    Without `lead`, one batch.
    """
    lead = lead or (net.batch,)
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((*lead, *net.image), dtype=np.float32)
    places = net.image[:2] if net.per_pixel else ()
    return images, rng.integers(0, net.classes, (*lead, *places), dtype=np.int32)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # per channel, of pixels in [0, 1]


def sized(net: str, side: int, batch: int) -> Net:
    """A network on square images of another size."""
    return NETS[net]._replace(batch=batch, image=(side, side, NETS[net].image[-1]))


def pictures(net: Net, seed: int = 0) -> np.ndarray:
    """A batch of images as bytes, ``(batch, H, W, C)``."""
    return np.random.default_rng(seed).integers(0, 256, (net.batch, *net.image), np.uint8)
