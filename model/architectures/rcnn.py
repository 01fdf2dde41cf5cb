"""Detectors whose proposals are given: R-CNN, SPP-Net, and Fast R-CNN, in the order they were made.

Girshick et al., Rich feature hierarchies, arXiv:1311.2524; He et al., Spatial Pyramid Pooling,
arXiv:1406.4729; Girshick, Fast R-CNN, arXiv:1504.08083.

They differ in how a region becomes what the head is given: `detection.pools`. Parameters are named
after the parts: ``backbone/...``, ``head/fc6``, ``predictor/logits``. Each takes a `DetectorInput`
with proposals.
"""

from functools import partial
from typing import Literal

from ..combinators import serial
from ..detection.detector import DetectorConfig, detector
from ..detection.heads import box_head, box_predictor
from ..detection.linear import SVMOptions, fitted_linear
from ..detection.options import (
    FastRCNNOptions,
    RCNNOptions,
    SPPOptions,
    as_options,
)
from ..detection.pools import align_regions, pool_pyramid, pool_regions, warp_regions
from ..layer import INLINE, Layer
from ..layers.arguments import check_choice, check_positive
from ..layers.dense import flatten
from ..layers.norm import NormName
from .rcnn_backbones import Backbone, BackboneName, trunk_on_crops, trunk_on_image


def rcnn(
    classes: int,
    *,
    backbone: BackboneName = "alexnet",
    norm: NormName = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    stages: list[int] | None = None,
    size: int = 227,
    context: int = 16,
    hidden: int = 4096,
    roi: RCNNOptions = RCNNOptions(),  # noqa: B008 -- immutable
    svm: SVMOptions | None = None,
) -> Layer:
    """Make R-CNN: each region is cut out of the image, and the network sees it by itself.

    57,434,025 parameters for 20 classes.

    Args:
        classes: K, without a background, which has a logit of its own.
        backbone: the classifier whose convolutions see each region; see `faster_rcnn`.
        norm: of a ResNet or "small".
        norm_eps: of a ResNet.
        width: channels of the first stage of a ResNet or "small".
        stages: the one whose map is taken, pooled where the classifier does so; its last if left
            out.
        size: pixels along each side of what is cut out, to which it is stretched.
        context: of these, along each edge, those that are around the region.
        hidden: features of the two dense layers.
        roi: regions and detections; in a config the table ``[model.roi]``.
        svm: in a config the table ``[model.svm]``, which may be empty: behind the training linear
            SVMs and ridge regressions are fitted that take the place of the last layer, as in the
            paper. With None that layer, a softmax, stays.

    Raises:
        ValueError: a stage that the backbone does not have, or a context as large as half the size.
    """
    check_positive("rcnn", size=size)
    if not 0 <= 2 * context < size:
        raise ValueError(
            f"rcnn: bad context: got {context}, need 0 or more, and less than half of size = {size}"
        )
    trunk = trunk_on_crops(Backbone("rcnn", backbone, norm, norm_eps, width, stages))
    config = DetectorConfig(
        as_options(RCNNOptions, roi), partial(warp_regions, size=size, context=context), crops=True
    )
    return _detector("rcnn", classes, trunk, hidden, config, svm)


def spp_detector(
    classes: int,
    *,
    backbone: BackboneName = "zf5",
    norm: NormName = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    stages: list[int] | None = None,
    levels: list[int] = [6, 3, 2, 1],  # noqa: B006 -- read only
    hidden: int = 4096,
    roi: SPPOptions = SPPOptions(),  # noqa: B008 -- immutable
    svm: SVMOptions | None = None,
) -> Layer:
    """Make SPP-Net as a detector: one map for all regions, and a pyramid of pools on each.

    73,370,857 parameters for 20 classes.

    Args:
        classes: K, as for `rcnn`.
        backbone: the classifier whose map is looked at; see `faster_rcnn`.
        norm, norm_eps, width: as for `rcnn`.
        stages: the one whose map is taken; that of a sixteenth of the size if left out.
        levels: bins of a region along each axis, level by level.
        hidden, roi, svm: as for `rcnn`.
    """
    check_positive("spp_detector", levels=levels)
    trunk, _ = trunk_on_image(Backbone("spp_detector", backbone, norm, norm_eps, width, stages))
    config = DetectorConfig(
        as_options(SPPOptions, roi), partial(pool_pyramid, levels=tuple(levels))
    )
    return _detector("spp_detector", classes, trunk, hidden, config, svm)


def fast_rcnn(
    classes: int,
    *,
    backbone: BackboneName = "vgg16",
    norm: NormName = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    stages: list[int] | None = None,
    pool: Literal["max", "align"] = "max",
    hidden: int = 4096,
    roi: FastRCNNOptions = FastRCNNOptions(),  # noqa: B008 -- immutable
) -> Layer:
    """Make Fast R-CNN: one map for all regions, a grid of bins on each, all trained at once.

    134,690,729 parameters for 20 classes.

    Args:
        classes: K, as for `rcnn`.
        backbone, norm, norm_eps, width, stages: as for `spp_detector`.
        pool: what is read of a bin: its largest value, as in the paper ("max"), or points between
            pixels ("align"); ``roi.sampling_ratio`` and ``roi.aligned`` are of the latter.
        hidden, roi: as for `rcnn`.
    """
    check_choice("fast_rcnn", "pool", pool, _POOLS)
    options = as_options(FastRCNNOptions, roi)
    trunk, _ = trunk_on_image(Backbone("fast_rcnn", backbone, norm, norm_eps, width, stages))
    return _detector(
        "fast_rcnn", classes, trunk, hidden, DetectorConfig(options, _POOLS[pool](options))
    )


_POOLS = {
    "max": lambda roi: partial(pool_regions, output_size=roi.output_size),
    "align": lambda roi: partial(align_regions, output_size=roi.output_size, roi=roi),
}


def _detector(
    name: str,
    classes: int,
    trunk: Layer,
    hidden: int,
    config: DetectorConfig,
    svm: SVMOptions | None = None,
) -> Layer:
    check_positive(name, hidden=hidden)
    head, predictor = box_head(hidden), box_predictor(classes)
    parts = {"backbone": trunk, "head": head, "predictor": predictor}
    if svm is not None:
        as_options(SVMOptions, svm)  # its numbers are those of the fits: here they are only checked
        parts["svm"] = fitted_linear(classes)
        parts["bbox_reg"] = serial(flatten=flatten(), **{INLINE: fitted_linear(4 * classes)})
    return detector(config, parts)
