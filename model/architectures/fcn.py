"""Fully convolutional networks: Long et al., arXiv:1411.4038."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from jax import Array

from ... import ops
from ..combinators import apply_part, init_part, serial
from ..intermediates import backbone as trunk_of
from ..layer import Layer, LayerInfo, Params, Shape, State
from ..layers.activation import relu
from ..layers.arguments import check_choice
from ..layers.conv import conv, conv_transpose
from ..layers.crop_or_pad import crop_or_pad, match_input_size
from ..layers.regularization import dropout
from .resnet import ResNetName, resnet
from .vgg import VGGName, vgg

BackboneName = Literal[VGGName, ResNetName]
# Maps at an eighth, a sixteenth and a thirty-second of the size: the paper's pool3 to pool5.
_TAPS = {"vgg": ("stage3", "stage4", "stage5"), "resnet": ("stage2", "stage3", "stage4")}


def fcn(
    classes: int,
    *,
    backbone: BackboneName,
    stride: Literal[32, 16, 8],
    hidden: int,
) -> Layer:
    """Turn a classifier into a segmenter: it scores a coarse map, which is then made larger.

    FCN-32s enlarges the scores of the coarsest map at once; FCN-16s doubles them, adds scores of
    the map of twice its resolution, and enlarges those; FCN-8s does so twice.

    Args:
        classes: K, the number of logits of each pixel.
        backbone: the classifier, by its name and depth; "_bn" is a VGG with batch norm.
        stride: 32, 16 or 8: the finer, the more detail.
        hidden: channels of the two layers ahead of the score, a 7x7 convolution in place of VGG's
            first dense layer and a 1x1 one in place of its second: 4096 in the paper; 0 for none.

    Note:
        Transposed convolutions start as bilinear interpolation (`ops.bilinear`) and learn; in the
        paper the last one stays so. The scores of the skips start at zero, as there. Where the
        paper pads the image by 100 pixels and crops the result to its size, the convolutions here
        are padded, and a map that is a little too large is cut, one too small continued by its
        last pixels, at its lower right: an image may have any size of 32 pixels or more. To start
        from the weights of a trained classifier, put them into ``params["backbone"]``; in a config
        ``init_from.target = "backbone"`` does.
    """
    check_choice("fcn", "stride", stride, [32, 16, 8])
    plain = backbone.removesuffix("_bn")
    kind = plain.rstrip("0123456789")
    check_choice("fcn", "kind of backbone", kind, _TAPS)
    if hidden < 0:
        raise ValueError(f"fcn: bad hidden: got {hidden}, need 0 or more; write hidden=0 for none")
    depth: Any = int(plain.removeprefix(kind))
    # A classifier's own classes are of no concern: its head is left out.
    whole = (
        resnet(1, depth=depth)
        if kind == "resnet"
        else vgg(1, depth=depth, batch_norm=plain != backbone)
    )
    paths = _TAPS[kind][{8: 0, 16: 1, 32: 2}[stride] :]
    trunk = trunk_of(whole, paths)
    head = _head(_head_parts(classes, paths, stride, hidden), paths=paths)
    return match_input_size(serial(backbone=trunk, head=head))


def _head_parts(classes: int, paths: tuple[str, ...], stride: int, hidden: int) -> dict[str, Layer]:
    *skips, top = paths
    up = {"kernel_init": ops.bilinear, "padding": "SAME", "bias": False}
    parts = {f"score_{top}": _score(classes, hidden)}
    for path in reversed(skips):
        parts[f"twice_{path}"] = conv_transpose(classes, 4, stride=2, **up)
        parts[f"score_{path}"] = conv(classes, 1, kernel_init=ops.zeros)
    parts["enlarge"] = conv_transpose(classes, 2 * stride, stride=stride, **up)
    return parts


def _head(parts: Mapping[str, Layer], paths: tuple[str, ...]) -> Layer:
    """Make logits at full resolution from maps by path: coarse to fine."""
    *skips, top = paths

    def init(key: Array, in_shape: Mapping[str, Shape]) -> tuple[Shape, Params, State]:
        params, state = {}, {}

        def shape_of(name: str, shape: Shape) -> Shape:
            return init_part(name, parts[name], key, shape, params, state)

        shape = shape_of(f"score_{top}", in_shape[top])
        for path in reversed(skips):
            shape_of(f"twice_{path}", shape)
            shape = shape_of(f"score_{path}", in_shape[path])
        return shape_of("enlarge", shape), params, state

    def apply(params, state, x, *, train=False, key=None):
        new_state = {}

        def value(name: str, x: Array) -> Array:
            return apply_part(name, parts[name], params, state, new_state, x, train, key)

        y = value(f"score_{top}", x[top])
        for path in reversed(skips):
            twice = crop_or_pad(value(f"twice_{path}", y), x[path].shape[1:-1])
            y = twice + value(f"score_{path}", x[path])
        return value("enlarge", y), new_state

    info = LayerInfo("fcn_head", None, parts, "custom", partial(_head, paths=paths))
    return Layer(init, apply, info)  # type: ignore[arg-type] -- takes several maps


def _score(classes: int, hidden: int) -> Layer:
    score = conv(classes, 1, kernel_init="lecun_normal")
    if not hidden:
        return serial(score=score)
    return serial(
        conv1=conv(hidden, 7, padding="SAME"),
        act1=relu(),
        dropout1=dropout(0.5),
        conv2=conv(hidden, 1),
        act2=relu(),
        dropout2=dropout(0.5),
        score=score,
    )
