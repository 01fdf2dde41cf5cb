"""SPP-Net: He et al., Spatial Pyramid Pooling in Deep Convolutional Networks, arXiv:1406.4729."""

from functools import partial

from ... import ops
from ..combinators import serial
from ..layer import Layer
from ..layers.activation import relu
from ..layers.arguments import check_positive
from ..layers.conv import conv
from ..layers.dense import dense
from ..layers.norm import local_response_norm
from ..layers.pool import max_pool, spatial_pyramid_pool
from ..layers.regularization import dropout


def spp_net(classes: int, *, levels: list[int] | None = None) -> Layer:
    """Make a classifier of images of any size: convolutions, a pyramid of pools, dense layers.

    The pyramid gives as many numbers whatever the size of the image, so the same parameters take
    them all: 77,037,672 for 1000 classes and the paper's four levels, 50 bins in all.

    Args:
        classes: K, the number of outputs (logits).
        levels: bins along each axis, level by level; 6, 3, 2 and 1 if left out.

    Note:
        The bins are those of `ops.spatial_pyramid_pool`, which never miss an element. The paper
        pads its trunk so that 224x224 gives 13x13 and does not say where; see `zf5`.
    """
    levels = [6, 3, 2, 1] if levels is None else levels
    check_positive("spp_net", levels=levels)
    hidden = partial(dense, kernel_init=partial(ops.normal, std=0.01))
    return serial(
        trunk=zf5(),
        pyramid=spatial_pyramid_pool(levels),
        fc6=hidden(4096),
        act6=relu(),
        dropout6=dropout(0.5),
        fc7=hidden(4096),
        act7=relu(),
        dropout7=dropout(0.5),
        fc8=hidden(classes),
    )


def zf5() -> Layer:
    """Make the convolutions of Zeiler & Fergus, ZF-5 in table 1: 224x224x3 to 13x13x256.

    Behind SPP-Net, and behind the detectors that share its convolutions between regions. Kernels
    start by He's rule.

    References:
        Zeiler & Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901.
    """
    return serial(
        conv1=conv(96, 7, stride=2, padding=1),  #   110x110x96
        act1=relu(),
        norm1=local_response_norm(),
        pool1=max_pool(3, stride=2, padding=1),  #   55x55x96
        conv2=conv(256, 5, stride=2),  #             26x26x256
        act2=relu(),
        norm2=local_response_norm(),
        pool2=max_pool(3, stride=2, padding=1),  #   13x13x256
        conv3=conv(384, 3, padding=1),
        act3=relu(),
        conv4=conv(384, 3, padding=1),
        act4=relu(),
        conv5=conv(256, 3, padding=1),
        act5=relu(),
    )
