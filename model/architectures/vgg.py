"""VGG: Simonyan & Zisserman, Very Deep Convolutional Networks, arXiv:1409.1556."""

from functools import partial
from typing import Literal, TypeAlias

from ... import ops
from ..combinators import serial
from ..layer import Layer
from ..layers.activation import relu
from ..layers.arguments import check_choice
from ..layers.conv import conv
from ..layers.dense import dense, flatten
from ..layers.norm import batch_norm
from ..layers.pool import adaptive_avg_pool, max_pool
from ..layers.regularization import dropout

# By depth, and with batch norm, for networks that take one as their backbone.
VGGName: TypeAlias = Literal[
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
]
_FEATURES = (64, 128, 256, 512, 512)
# depth: 3x3 convolutions in each stage; configurations A, B, D and E of the paper's table 1
DEPTHS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def vgg(classes: int, *, depth: Literal[11, 13, 16, 19], batch_norm: bool) -> Layer:
    """Make VGG for images of about 224x224: nothing but 3x3 convolutions and 2x2 pools.

    Parameters for 1000 classes: 132,863,336 (11), 133,047,848 (13), 138,357,544 (16) and
    143,667,240 (19); with batch norm 132,868,840, 133,053,736, 138,365,992 and 143,678,248.

    Args:
        classes: K, the number of outputs (logits).
        depth: layers with kernels.
        batch_norm: whether each convolution is followed by one, and so learns from scratch; the
            paper, older than batch norm, starts deeper networks from a trained one of depth 11.

    Note:
        As torchvision's: its 7x7 mean before the dense layers lets images of other sizes in, and
        changes nothing at 224x224. Torchvision keeps the biases of convolutions that batch norm
        follows; so does this. The rows of ``fc1/kernel`` are in the order (i, j, c), PyTorch's
        columns in (c, i, j). Dense layers start from N(0, 0.01), as in the paper.
    """
    check_choice("vgg", "depth", depth, DEPTHS)
    stages = zip(_FEATURES, DEPTHS[depth], strict=True)
    hidden = partial(dense, kernel_init=partial(ops.normal, std=0.01))
    return serial(
        **{f"stage{i}": _stage(*stage, batch_norm) for i, stage in enumerate(stages, 1)},
        avgpool=adaptive_avg_pool(7),
        flatten=flatten(),
        fc1=hidden(4096),
        act1=relu(),
        dropout1=dropout(0.5),
        fc2=hidden(4096),
        act2=relu(),
        dropout2=dropout(0.5),
        fc3=hidden(classes),
    )


def _stage(features: int, count: int, norm: bool) -> Layer:
    layers = {}
    for n in range(1, count + 1):
        layers[f"conv{n}"] = conv(features, 3, padding=1)
        if norm:
            layers[f"bn{n}"] = batch_norm()
        layers[f"act{n}"] = relu()
    return serial(**layers, pool=max_pool(2))
