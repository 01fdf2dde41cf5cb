"""EfficientNets: Tan & Le, arXiv:1905.11946; and Lite, without what phones are slow at."""

import math
from typing import Literal, NamedTuple

from ..combinators import gated, residual_block, serial
from ..layer import Layer
from ..layers.activation import relu6, sigmoid, silu
from ..layers.arguments import Padding, check_choice
from ..layers.conv import conv, depthwise_conv
from ..layers.dense import dense
from ..layers.norm import batch_norm
from ..layers.pool import global_avg_pool
from ..layers.regularization import dropout, stochastic_depth
from .mobilenet import multiple_of_8

# Table 1 of the paper: expansion, window, stride of the first, features, repeats.
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]
# size: multipliers of features and of repeats, the rate of dropout
_SIZES = {
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "lite0": (1.0, 1.0, 0.2),
}

EfficientNetSize = Literal["b0", "b1", "b2", "b3", "b4", "lite0"]


class _Style(NamedTuple):
    """What all blocks of a network have in common."""

    act: Layer
    squeeze: bool
    same: bool
    norm: Layer


def efficientnet(
    classes: int,
    *,
    size: EfficientNetSize = "b0",
    stochastic_depth: float = 0.2,
    padding: Literal["symmetric", "SAME"] | None = None,
    norm_eps: float | None = None,
) -> Layer:
    """Make EfficientNet: inverted residual blocks whose channels are weighed by what is in them.

    Parameters for 1000 classes: 5,288,548 (b0), 7,794,184 (b1), 9,109,994 (b2), 12,233,232 (b3),
    19,341,616 (b4) and 4,652,008 (lite0). The paper's images have sides of 224, 240, 260, 300 and
    380 pixels, those of lite0 224.

    Args:
        classes: K, the number of outputs (logits).
        size: how wide, and how deep; "lite0" has ReLU6 for SiLU, and no squeeze-and-excitation.
        stochastic_depth: its rate behind the last block, growing from zero in equal steps.
        padding: "symmetric", as torchvision's weights need it, or TensorFlow's "SAME", which has
            the odd pixel of a stride of 2 on the right and below. By default the former, and the
            latter of lite0.
        norm_eps: added to the variance. By default 1e-5, as torchvision's weights need it, and
            1e-3, TensorFlow's, where `padding` is "SAME".

    Note:
        b0 to b4 are torchvision's by default; with "SAME" they are the paper's own. Its swish is
        `ops.silu`. Kernels start by He's rule. Training draws, and needs a key. Lite:
        https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    check_choice("efficientnet", "size", size, _SIZES)
    lite = size.startswith("lite")
    padding = padding or ("SAME" if lite else "symmetric")
    check_choice("efficientnet", "padding", padding, ["symmetric", "SAME"])
    same = padding == "SAME"
    eps = norm_eps if norm_eps is not None else (1e-3 if same else 1e-5)
    style = _Style(relu6() if lite else silu(), not lite, same, batch_norm(eps=eps))
    width, _, rate = _SIZES[size]
    counts, Ci, place = repeats(size), multiple_of_8(32 * width), 0
    stages, stem = {}, _conv_bn(Ci, 3, 2, style)
    for index, (expansion, window, stride, features, _) in enumerate(STAGES):
        blocks, Co = {}, multiple_of_8(features * width)
        for n in range(counts[index]):
            drop = stochastic_depth * place / sum(counts)
            step = 1 if n else stride
            blocks[f"block{n + 1}"] = _mbconv(Ci, expansion, window, step, Co, drop, style)
            Ci, place = Co, place + 1
        stages[f"stage{index + 1}"] = serial(**blocks)
    return serial(
        stem=stem,
        **stages,
        last=_conv_bn(4 * Ci, 1, 1, style),
        avgpool=global_avg_pool(),
        dropout=dropout(rate),
        fc=dense(classes),
    )


def repeats(size: EfficientNetSize) -> list[int]:
    """Return the number of blocks of each stage."""
    return [math.ceil(_SIZES[size][1] * count) for *_, count in STAGES]


def _conv_bn(features: int, window: int, stride: int, style: _Style) -> Layer:
    kernel = conv(features, window, stride=stride, padding=_around(window, style), bias=False)
    return serial(conv=kernel, bn=style.norm, act=style.act)


def _mbconv(
    Ci: int, expansion: int, window: int, stride: int, Co: int, drop: float, style: _Style
) -> Layer:
    """Expand, convolve each channel by itself, weigh the channels, project."""
    C = expansion * Ci
    wider = {"expand": conv(C, 1, bias=False), "bn1": style.norm, "act1": style.act}
    layers = {
        **(wider if expansion > 1 else {}),
        "depthwise": depthwise_conv(
            window, stride=stride, padding=_around(window, style), bias=False
        ),
        "bn2": style.norm,
        "act2": style.act,
        **({"se": _squeeze_and_excitation(C, Ci // 4, style.act)} if style.squeeze else {}),
        "project": conv(Co, 1, bias=False),
        "bn3": style.norm,
    }
    if stride > 1 or Ci != Co:
        return serial(**layers)
    return residual_block(**layers, **({"drop": stochastic_depth(drop)} if drop else {}))


def _squeeze_and_excitation(features: int, squeezed: int, act: Layer) -> Layer:
    """Weigh each channel by a perceptron of the means of all: Hu et al., arXiv:1709.01507."""
    return gated(
        squeeze=global_avg_pool(keepdims=True),
        reduce=conv(squeezed, 1),
        act=act,
        expand=conv(features, 1),
        sigmoid=sigmoid(),
    )


def _around(window: int, style: _Style) -> Padding:
    return "SAME" if style.same else window // 2
