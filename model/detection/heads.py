"""The heads of detectors: on maps, proposals; on regions, classes, boxes and masks."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeAlias

from jax import Array

from ... import ops
from ..combinators import each, fork, serial
from ..layer import INLINE, Layer, Params, Shape, State
from ..layers.activation import relu
from ..layers.arguments import check_positive
from ..layers.conv import conv, conv_transpose
from ..layers.dense import dense, flatten
from ..layers.norm import NORMS, NormName

HeadNorm: TypeAlias = Literal["none", NormName]

_SMALL = partial(ops.normal, std=0.01)
_SMALLER = partial(ops.normal, std=0.001)


def rpn_head(anchors: int, *, depth: int = 1) -> Layer:
    """Make the head of the region proposal network: Ren et al., arXiv:1506.01497, section 3.1.

    Args:
        anchors: at each place of a map, A.
        depth: how many 3x3 convolutions with ReLU there are, of as many channels as the maps.

    Returns:
        A layer from a dict of maps to ``{"logits": ..., "deltas": ...}``, each a dict of maps of
        as many places, with A and 4A channels: those of an anchor stand together.
    """
    check_positive("rpn_head", anchors=anchors, depth=depth)
    parts = {}
    for i in range(1, depth + 1):
        parts[f"conv{i}"] = each(_as_wide_conv())
        parts[f"relu{i}"] = each(relu())
    outputs = fork(
        logits=each(conv(anchors, 1, kernel_init=_SMALL)),
        deltas=each(conv(4 * anchors, 1, kernel_init=_SMALL)),
    )
    return serial(**parts, **{INLINE: outputs})


def box_head(hidden: int = 1024, features: Sequence[int] = (), norm: HeadNorm = "none") -> Layer:
    """Make two dense layers with ReLU, of `hidden` features, on flattened regions.

    Args:
        hidden: of each dense layer.
        features: of 3x3 convolutions ahead of them; with some there is one dense layer.
        norm: behind each convolution.
    """
    check_positive("box_head", hidden=hidden)
    if features:
        check_positive("box_head", features=list(features))
    parts = {**_convs(features, norm), "flatten": flatten()}
    for n in (6,) if features else (6, 7):
        parts |= {f"fc{n}": dense(hidden), f"relu{n}": relu()}
    return serial(**parts)


def box_predictor(classes: int) -> Layer:
    """Make the last layers of the regions: ``{"logits": (N, K + 1), "deltas": (N, 4 (K + 1))}``.

    Kernels start with deviations 0.01 and 0.001, as in Fast R-CNN, arXiv:1504.08083, section 4.3.
    """
    return fork(
        logits=dense(classes + 1, kernel_init=_SMALL),
        deltas=dense(4 * (classes + 1), kernel_init=_SMALLER),
    )


def mask_head(features: Sequence[int] = (256,) * 4, norm: HeadNorm = "none") -> Layer:
    """Make 3x3 convolutions with ReLU, a norm between if named: Mask R-CNN, arXiv:1703.06870."""
    check_positive("mask_head", features=list(features))
    return serial(**_convs(features, norm))


def _convs(features: Sequence[int], norm: str) -> dict[str, Layer]:
    """Make 3x3 convolutions with ReLU; with a norm between they have no bias."""
    parts: dict[str, Layer] = {}
    for i, width in enumerate(features, 1):
        parts[f"conv{i}"] = conv(width, 3, padding=1, bias=norm == "none")
        if norm != "none":
            parts[f"{NORMS[norm].name}{i}"] = NORMS[norm].layer(width)
        parts[f"relu{i}"] = relu()
    return parts


def mask_predictor(classes: int, features: int = 256) -> Layer:
    """Make maps twice as large, and of each pixel a logit for each class and the background."""
    return serial(
        up=conv_transpose(features, 2, stride=2),
        relu=relu(),
        logits=conv(classes + 1, 1),
    )


def _as_wide_conv() -> Layer:
    """Make a 3x3 convolution of as many channels as its input has."""

    def init(key: Array, in_shape: Shape) -> tuple[Shape, Params, State]:
        return of_width(in_shape[-1]).init(key, in_shape)

    of_width = partial(conv, window=3, padding=1, kernel_init=_SMALL)
    return of_width(1)._replace(init=init)
