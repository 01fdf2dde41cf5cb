"""MobileNets: Howard et al., arXiv:1704.04861; Sandler et al., MobileNetV2, arXiv:1801.04381."""

from ..combinators import residual_block, serial
from ..layer import Layer
from ..layers.activation import relu, relu6
from ..layers.conv import conv, depthwise_conv
from ..layers.dense import dense
from ..layers.norm import batch_norm
from ..layers.pool import global_avg_pool
from ..layers.regularization import dropout

# Table 1 of the first paper, behind the stem: features, stride.
_V1 = [
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *([(512, 1)] * 5),
    *((1024, 2), (1024, 1)),
]
# Table 2 of the second: expansion t, features c, repeats n, stride of the first s.
V2 = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def mobilenet_v1(classes: int, *, width: float = 1.0) -> Layer:
    """Make MobileNet: depthwise convolutions, each followed by a 1x1 convolution.

    4,231,976 parameters for 1000 classes.

    Args:
        classes: K, the number of outputs (logits).
        width: the multiplier of all channels; 0.25, 0.5, 0.75 and 1 in the paper.

    Note:
        The paper's last block has stride 2 in its table and 7x7 in and out; it is 1 here, as
        implementations have it. Channels are ``round(width * features)``, 8 at least.
    """
    _check_width("mobilenet_v1", width)
    scaled = [(max(8, round(width * features)), stride) for features, stride in [(32, 2), *_V1]]
    (stem, stride), *blocks = scaled
    return serial(
        stem=_conv_bn(stem, 3, stride, relu()),
        **{f"block{n}": _separable(*block) for n, block in enumerate(blocks, 1)},
        avgpool=global_avg_pool(),
        fc=dense(classes),
    )


def mobilenet_v2(classes: int, *, width: float = 1.0) -> Layer:
    """Make MobileNetV2: residual blocks, narrow at their ends and wide, but depthwise, between.

    3,504,872 parameters for 1000 classes.

    Args:
        classes: K, the number of outputs (logits).
        width: the multiplier of all channels, which are rounded to multiples of 8.

    Note:
        As torchvision's, with its dropout of 0.2 before the dense layer. The last 1280 channels
        grow with a `width` above 1 and do not shrink below. Kernels start by He's rule.
    """
    _check_width("mobilenet_v2", width)
    stages, Ci = {}, multiple_of_8(32 * width)
    stem = _conv_bn(Ci, 3, 2, relu6())
    for index, (expansion, features, count, stride) in enumerate(V2, 1):
        blocks, Co = {}, multiple_of_8(features * width)
        for n in range(1, count + 1):
            blocks[f"block{n}"] = _inverted(Ci, expansion, Co, stride if n == 1 else 1)
            Ci = Co
        stages[f"stage{index}"] = serial(**blocks)
    return serial(
        stem=stem,
        **stages,
        last=_conv_bn(multiple_of_8(1280 * max(1.0, width)), 1, 1, relu6()),
        avgpool=global_avg_pool(),
        dropout=dropout(0.2),
        fc=dense(classes),
    )


def _conv_bn(features: int, window: int, stride: int, act: Layer) -> Layer:
    kernel = conv(features, window, stride=stride, padding=window // 2, bias=False)
    return serial(conv=kernel, bn=batch_norm(), act=act)


def _separable(features: int, stride: int) -> Layer:
    return serial(
        depthwise=depthwise_conv(3, stride=stride, padding=1, bias=False),
        bn1=batch_norm(),
        act1=relu(),
        pointwise=conv(features, 1, bias=False),
        bn2=batch_norm(),
        act2=relu(),
    )


def _inverted(Ci: int, expansion: int, Co: int, stride: int) -> Layer:
    """Expand, convolve each channel by itself, project; nothing follows the last norm."""
    wider = {"expand": conv(expansion * Ci, 1, bias=False), "bn1": batch_norm(), "act1": relu6()}
    layers = {
        **(wider if expansion > 1 else {}),
        "depthwise": depthwise_conv(3, stride=stride, padding=1, bias=False),
        "bn2": batch_norm(),
        "act2": relu6(),
        "project": conv(Co, 1, bias=False),
        "bn3": batch_norm(),
    }
    return residual_block(**layers) if stride == 1 and Ci == Co else serial(**layers)


def multiple_of_8(features: float) -> int:
    """Return the nearest multiple of 8, 8 at least, and never less than nine tenths."""
    nearest = max(8, int(features + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * features else nearest


def _check_width(function: str, width: float) -> None:
    if not 0 < width <= 64:
        raise ValueError(
            f"{function}: bad width: got {width}, need 0 < width <= 64, the multiplier of all "
            "channels; write width=1.0"
        )
