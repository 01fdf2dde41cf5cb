"""Detectors with regions: Faster R-CNN and Mask R-CNN, on one map or on a feature pyramid.

Ren et al., Faster R-CNN, arXiv:1506.01497; He et al., Mask R-CNN, arXiv:1703.06870; Lin et al.,
Feature Pyramid Networks, arXiv:1612.03144.

Parameters are named after the parts: ``backbone/...``, ``fpn/lateral1``, ``rpn/conv1``,
``head/fc6``, ``predictor/logits``, ``mask_head/conv1``, ``mask_predictor/up``.
"""

from functools import partial
from typing import NamedTuple

from ..detection.detector import DetectorConfig, detector
from ..detection.fpn import fpn as feature_pyramid
from ..detection.heads import (
    HeadNorm,
    box_head,
    box_predictor,
    mask_head,
    mask_predictor,
    rpn_head,
)
from ..detection.options import RoIOptions, RPNOptions, as_options
from ..detection.pools import align_regions
from ..layer import Layer
from ..layers.arguments import check_choice, check_positive
from ..layers.norm import NORMS, NormName
from .rcnn_backbones import Backbone, BackboneName, trunk_on_image


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
    head_features: list[int] = [],  # noqa: B006 -- read only
    head_norm: HeadNorm = "none",
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
        head_features: channels of 3x3 convolutions ahead of them; then there is one dense layer.
        head_norm: behind each convolution of the pyramid and on regions. With "batch", four times
            256 `head_features` and ``rpn.depth = 2`` it is torchvision's
            ``fasterrcnn_resnet50_fpn_v2``. Batch statistics on regions count
            those that are padding.
        rpn: anchors and proposals; in a config the table ``[model.rpn]``.
        roi: regions and detections; in a config the table ``[model.roi]``.

    Raises:
        ValueError: stages that the backbone does not have, several of them without a pyramid, or
            not as many lists of anchor sizes as maps; the pyramid has one map more than stages.
    """
    trunk = Backbone("faster_rcnn", backbone, norm, norm_eps, width, stages)
    options = as_options(RPNOptions, rpn), as_options(RoIOptions, roi)
    head = _Heads(hidden, head_features, head_norm)
    return _rcnn(classes, trunk, fpn, head, None, *options)


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
    head_features: list[int] = [],  # noqa: B006 -- read only
    head_norm: HeadNorm = "none",
    mask_features: list[int] = [256, 256, 256, 256],  # noqa: B006 -- read only
    rpn: RPNOptions = RPNOptions(),  # noqa: B008 -- immutable
    roi: RoIOptions = RoIOptions(),  # noqa: B008 -- immutable
) -> Layer:
    """Make Mask R-CNN: `faster_rcnn`, and of each detection the pixels that belong to it.

    Parameters with ResNet-50, a pyramid of 256 channels and 90 classes: 44,454,513.

    Args:
        classes: K, as for `faster_rcnn`.
        backbone, norm, norm_eps, width, stages, fpn, hidden, head_features, head_norm, rpn, roi: as
            for `faster_rcnn`.
        mask_features: channels of the 3x3 convolutions ahead of the masks, which are twice
            ``roi.mask_output_size`` pixels along each side.
    """
    check_positive("mask_rcnn", mask_features=mask_features)
    trunk = Backbone("mask_rcnn", backbone, norm, norm_eps, width, stages)
    options = as_options(RPNOptions, rpn), as_options(RoIOptions, roi)
    head = _Heads(hidden, head_features, head_norm)
    return _rcnn(classes, trunk, fpn, head, mask_features, *options)


class _Heads(NamedTuple):
    """Hold the options of what follows the maps; see `faster_rcnn`."""

    hidden: int
    features: list[int]
    norm: HeadNorm


def _rcnn(
    classes: int,
    backbone: Backbone,
    fpn: int,
    head: _Heads,
    mask_features: list[int] | None,
    rpn: RPNOptions,
    roi: RoIOptions,
) -> Layer:
    name = backbone.function
    check_positive(name, hidden=head.hidden)
    if head.features:
        check_positive(name, head_features=head.features)
    check_choice(name, "head_norm", head.norm, ["none", *NORMS])
    if fpn < 0:
        raise ValueError(f"{name}: bad fpn: got {fpn}, need channels, or 0 for no pyramid")
    trunk, paths = trunk_on_image(backbone, pyramid=fpn > 0)
    count = len(paths) + 1 if fpn else 1
    if len(rpn.anchor_sizes) != count:
        raise ValueError(
            f"{name}: rpn.anchor_sizes: got {len(rpn.anchor_sizes)} list(s) for {count} "
            "map(s), need one each; a pyramid has one map more than stages"
        )
    parts = {"backbone": trunk}
    if fpn:
        parts["fpn"] = feature_pyramid(paths, fpn, norm=head.norm)
    parts["rpn"] = rpn_head(rpn.anchors_per_cell, depth=rpn.depth)
    parts["head"] = box_head(*head)
    parts["predictor"] = box_predictor(classes)
    if mask_features:
        parts["mask_head"] = mask_head(mask_features, head.norm)
        parts["mask_predictor"] = mask_predictor(classes, mask_features[-1])
    config = DetectorConfig(
        roi,
        pool=partial(align_regions, output_size=roi.output_size, roi=roi),
        rpn=rpn,
        mask_pool=partial(align_regions, output_size=roi.mask_output_size, roi=roi)
        if mask_features
        else None,
    )
    return detector(config, parts)
