"""Detectors with regions: Faster R-CNN and Mask R-CNN, on one map or on a feature pyramid.

Ren et al., Faster R-CNN, arXiv:1506.01497; He et al., Mask R-CNN, arXiv:1703.06870; Lin et al.,
Feature Pyramid Networks, arXiv:1612.03144.

Parameters are named after the parts: ``backbone/...``, ``fpn/lateral1``, ``rpn/conv1``,
``head/fc6``, ``predictor/logits``, ``mask_head/conv1``, ``mask_predictor/up``.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from jax import Array

from ... import ops
from ..combinators import serial
from ..detection.detector import Numbers, detector
from ..detection.fpn import fpn as feature_pyramid
from ..detection.heads import box_head, box_predictor, mask_head, mask_predictor, rpn_head
from ..detection.options import RoIOptions, RPNOptions
from ..intermediates import backbone as trunk_of
from ..layer import Layer
from ..layers.activation import relu
from ..layers.arguments import check_choice, check_positive
from ..layers.conv import conv
from ..layers.norm import NORMS, NormName
from .mobilenet import mobilenet_v2
from .resnet import basic_block, projection, resnet
from .vgg import DEPTHS as VGG_DEPTHS
from .vgg import vgg

BackboneName: TypeAlias = Literal[
    "small",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "mobilenet_v2",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
]


def faster_rcnn(
    classes: int,
    *,
    backbone: BackboneName,
    norm: NormName = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    stages: list[int] | None = None,
    fpn: int = 256,
    hidden: int = 1024,
    rpn: RPNOptions = RPNOptions(),  # noqa: B008 -- immutable
    roi: RoIOptions = RoIOptions(),  # noqa: B008 -- immutable
) -> Layer:
    """Make Faster R-CNN: proposals from the network's own maps, then classes and boxes of each.

    Parameters with ResNet-50, a pyramid of 256 channels and 90 classes: 41,808,406, of which
    53,120 are scales and biases of batch norms, which torchvision does not count.

    Args:
        classes: K, without a background, which has a logit of its own.
        backbone: the classifier whose maps are looked at; "small" is a 3x3 convolution and up to
            four residual blocks, each of half the resolution, for small images and from scratch.
        norm: of a ResNet or "small"; "group" where a batch has few images.
        norm_eps: of a ResNet; 0 for the detectors that torchvision published in 2019.
        width: channels of the first stage of a ResNet or "small".
        stages: whose maps are taken, as they are named in parameters; by default all four behind
            the first halvings, or without a pyramid the one of a sixteenth of the size.
        fpn: channels of the feature pyramid; 0 for none: then there is one map.
        hidden: features of the two dense layers on a region.
        rpn: anchors and proposals; in a config the table ``[model.rpn]``.
        roi: regions and detections; in a config the table ``[model.roi]``.

    Raises:
        ValueError: stages that the backbone does not have, several of them without a pyramid, or
            not as many lists of anchor sizes as maps; the pyramid has one map more than stages.
    """
    maps = _Maps("faster_rcnn", backbone, norm, norm_eps, width, stages, fpn)
    options = _table(RPNOptions, rpn), _table(RoIOptions, roi)
    return _rcnn(classes, maps, hidden, None, *options)


def mask_rcnn(
    classes: int,
    *,
    backbone: BackboneName,
    norm: NormName = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    stages: list[int] | None = None,
    fpn: int = 256,
    hidden: int = 1024,
    mask_features: list[int] = [256, 256, 256, 256],  # noqa: B006 -- read only
    rpn: RPNOptions = RPNOptions(),  # noqa: B008 -- immutable
    roi: RoIOptions = RoIOptions(),  # noqa: B008 -- immutable
) -> Layer:
    """Make Mask R-CNN: `faster_rcnn`, and of each detection the pixels that belong to it.

    Parameters with ResNet-50, a pyramid of 256 channels and 90 classes: 44,454,513.

    Args:
        classes: K, as for `faster_rcnn`.
        backbone, norm, norm_eps, width, stages, fpn, hidden, rpn, roi: as for `faster_rcnn`.
        mask_features: channels of the 3x3 convolutions ahead of the masks, which are twice
            ``roi.mask_output_size`` pixels along each side.
    """
    check_positive("mask_rcnn", mask_features=mask_features)
    maps = _Maps("mask_rcnn", backbone, norm, norm_eps, width, stages, fpn)
    return _rcnn(
        classes, maps, hidden, mask_features, _table(RPNOptions, rpn), _table(RoIOptions, roi)
    )


Options = TypeVar("Options", RPNOptions, RoIOptions)


def _table(kind: type[Options], table: Options | Mapping[str, Any]) -> Options:
    """Return a table of a config as what it stands for."""
    return kind(**table) if isinstance(table, Mapping) else table


class _Maps(NamedTuple):
    """Which maps of which backbone a detector looks at."""

    function: str
    backbone: BackboneName
    norm: NormName
    norm_eps: float
    width: int
    stages: list[int] | None
    fpn: int


def _rcnn(
    classes: int,
    maps: _Maps,
    hidden: int,
    mask_features: list[int] | None,
    rpn: RPNOptions,
    roi: RoIOptions,
) -> Layer:
    check_choice(maps.function, "norm", maps.norm, NORMS)
    check_positive(maps.function, width=maps.width, hidden=hidden)
    if maps.fpn < 0:
        raise ValueError(
            f"{maps.function}: bad fpn: got {maps.fpn}, need channels, or 0 for no pyramid"
        )
    trunk, paths = _trunk(maps)
    count = len(paths) + 1 if maps.fpn else 1
    if len(rpn.anchor_sizes) != count:
        raise ValueError(
            f"{maps.function}: rpn.anchor_sizes: got {len(rpn.anchor_sizes)} list(s) for {count} "
            "map(s), need one each; a pyramid has one map more than stages"
        )
    parts = {"backbone": trunk}
    if maps.fpn:
        parts["fpn"] = feature_pyramid(paths, maps.fpn)
    parts["rpn"] = rpn_head(rpn.anchors_per_cell, depth=rpn.depth)
    parts["head"] = box_head(hidden)
    parts["predictor"] = box_predictor(classes)
    if mask_features:
        parts["mask_head"] = mask_head(mask_features)
        parts["mask_predictor"] = mask_predictor(classes, mask_features[-1])
    numbers = Numbers(
        roi,
        pool=partial(_pool, output_size=roi.output_size, roi=roi),
        rpn=rpn,
        mask_pool=partial(_pool, output_size=roi.mask_output_size, roi=roi)
        if mask_features
        else None,
    )
    return detector(numbers, parts)


def _trunk(maps: _Maps) -> tuple[Layer, list[str]]:
    """Return the layer that gives the maps by path, and the paths, fine to coarse."""
    name = maps.backbone
    kind = name.removesuffix("_bn").rstrip("0123456789")
    if kind == "vgg":
        depth: Any = int(name.removesuffix("_bn").removeprefix("vgg"))
        net, convs = vgg(1, depth=depth, batch_norm=name.endswith("_bn")), VGG_DEPTHS[depth]
        # Ahead of the stage's pool: the second stage has half the resolution of the image.
        known = {i: f"stage{i}/act{convs[i - 1]}" for i in range(2, 6)}
        sixteenth = 5
    elif kind == "resnet":
        depth = int(name.removeprefix("resnet"))
        net = resnet(1, depth=depth, norm=maps.norm, norm_eps=maps.norm_eps, width=maps.width)
        known, sixteenth = {i: f"stage{i}" for i in range(1, 5)}, 3
    elif kind == "mobilenet_v":
        net = mobilenet_v2(1)
        # The last map of each resolution.
        known, sixteenth = {i: f"stage{i}" for i in (2, 3, 5, 7)}, 5
    else:
        check_choice(maps.function, "backbone", name, get_args(BackboneName))
        net = _small(maps.width, maps.norm)
        known, sixteenth = {i: f"stage{i}" for i in range(1, 5)}, 3
    stages = maps.stages
    if stages is None:
        stages = list(known) if maps.fpn else [sixteenth]
    if (
        not stages
        or set(stages) - set(known)
        or sorted(set(stages)) != stages
        or len(stages) > 1 > maps.fpn
    ):
        raise ValueError(
            f"{maps.function}: bad stages: got {stages}, need some of {list(known)} of {name}, in "
            "order, and without a pyramid (fpn = 0) one alone"
        )
    paths = [known[i] for i in stages]
    return trunk_of(net, paths), paths


def _small(width: int, norm: NormName) -> Layer:
    """Make a 3x3 convolution and four basic residual blocks, each of half the resolution."""
    name, make_norm = NORMS[norm]
    blocks = {}
    for i in range(1, 5):
        features = width * 2 ** (i - 1)
        shortcut = projection(features, 2, NORMS[norm])
        blocks[f"stage{i}"] = basic_block(features, 2, shortcut, norm=NORMS[norm])
    return serial(
        conv1=conv(width, 3, stride=2, padding=1, bias=False),
        **{f"{name}1": make_norm(width)},
        relu=relu(),
        **blocks,
    )


def _pool(
    maps: Mapping[str, Array],
    boxes: Array,
    image_size: tuple[int, int],
    output_size: int,
    roi: RoIOptions,
) -> Array:
    """Read regions by RoIAlign, each from the map of its size; none from the subsampled one."""
    read = list(maps.values())[:-1] if len(maps) > 1 else list(maps.values())
    options: Any = dict(sampling_ratio=roi.sampling_ratio, aligned=roi.aligned)
    scales = [2.0 ** round(math.log2(level.shape[1] / image_size[0])) for level in read]
    if len(read) == 1:
        return ops.roi_align(read[0], boxes, output_size, spatial_scale=scales[0], **options)
    finest, coarsest = (round(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    levels = ops.roi_levels(boxes, k_min=finest, k_max=coarsest)
    return ops.multilevel_roi_align(
        read, boxes, levels, output_size, spatial_scales=scales, **options
    )
