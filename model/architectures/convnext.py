"""ConvNeXt: Liu et al., A ConvNet for the 2020s, arXiv:2201.03545."""

from functools import partial
from typing import Literal

from ... import ops
from ..combinators import residual_block, serial
from ..layer import Layer
from ..layers.activation import gelu
from ..layers.arguments import check_choice
from ..layers.conv import conv, depthwise_conv
from ..layers.dense import dense
from ..layers.norm import layer_norm
from ..layers.pool import global_avg_pool
from ..layers.regularization import layer_scale, stochastic_depth

# size: features and blocks of each stage
_SIZES = {
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
}


def convnext(
    classes: int,
    *,
    size: Literal["tiny", "small", "base"] = "tiny",
    stochastic_depth: float = 0.1,
    layer_scale: float = 1e-6,
) -> Layer:
    """Make ConvNeXt for images of about 224x224.

    Its blocks: a 7x7 depthwise convolution, then a perceptron with one hidden layer at each pixel.

    Parameters for 1000 classes: 28,589,128 (tiny), 50,223,688 (small) and 88,591,464 (base).

    Args:
        classes: K, the number of outputs (logits).
        size: how wide, and how deep.
        stochastic_depth: its rate in the last block, growing from zero in the first in equal steps;
            0.1, 0.4 and 0.5 in the paper, by size.
        layer_scale: what the scales are at first.

    Note:
        As torchvision's and the authors' own. Kernels start from a truncated normal distribution
        with deviation 0.02, cut at two deviations (theirs cuts nothing: see
        `ops.truncated_normal`). Training draws, and needs a key.
    """
    check_choice("convnext", "size", size, _SIZES)
    features, counts = _SIZES[size]
    steps = sum(counts) - 1
    rates = iter([stochastic_depth * n / steps for n in range(steps + 1)])
    draw = partial(ops.truncated_normal, std=0.02)

    def stage(index: int) -> Layer:
        C, parts = features[index], {}
        if index:
            smaller = conv(C, 2, stride=2, kernel_init=draw)
            parts["downsample"] = serial(norm=_norm(), conv=smaller)
        for n in range(1, counts[index] + 1):
            parts[f"block{n}"] = _block(C, next(rates), layer_scale, draw)
        return serial(**parts)

    return serial(
        stem=serial(conv=conv(features[0], 4, stride=4, kernel_init=draw), norm=_norm()),
        **{f"stage{index + 1}": stage(index) for index in range(4)},
        avgpool=global_avg_pool(),
        norm=_norm(),
        fc=dense(classes, kernel_init=draw),
    )


def _block(C: int, rate: float, scale: float, draw) -> Layer:
    return residual_block(
        depthwise=depthwise_conv(7, padding=3, kernel_init=draw),
        norm=_norm(),
        dense1=dense(4 * C, kernel_init=draw),
        act=gelu(),
        dense2=dense(C, kernel_init=draw),
        scale=layer_scale(initial=scale),
        drop=stochastic_depth(rate),
    )


def _norm() -> Layer:
    return layer_norm(eps=1e-6)
