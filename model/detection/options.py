"""The numbers of a detector; names and defaults are torchvision's where it has them.

Each class is a table of a config: ``[model.rpn]``, ``[model.roi]``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True)
class RPNOptions:
    """The numbers of a proposal network; names and defaults are torchvision's.

    Attributes:
        anchor_sizes: sides of the anchors of each map, fine to coarse, in pixels of the image.
        aspect_ratios: an anchor's height over its width.
        depth: how many 3x3 convolutions the head has.
        pre_nms_top_n_train, pre_nms_top_n_test: proposals of each map ahead of suppression.
        post_nms_top_n_train, post_nms_top_n_test: proposals of an image behind it.
        nms_thresh: IoU above which the lower of two proposals is suppressed.
        fg_iou_thresh: an anchor stands for an object from this IoU on,
        bg_iou_thresh: and for none below this one.
        min_positive_iou: that the best anchor of an object needs to stand for it in any case.
        batch_size_per_image: anchors sampled for the loss.
        positive_fraction: of them, those with an object, at most.
        min_size: of a proposal's sides, in pixels.
    """

    anchor_sizes: list[list[float]] = field(
        default_factory=lambda: [[32.0], [64.0], [128.0], [256.0], [512.0]]
    )
    aspect_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    depth: int = 1
    pre_nms_top_n_train: int = 2000
    pre_nms_top_n_test: int = 1000
    post_nms_top_n_train: int = 2000
    post_nms_top_n_test: int = 1000
    nms_thresh: float = 0.7
    fg_iou_thresh: float = 0.7
    bg_iou_thresh: float = 0.3
    min_positive_iou: float = 0.0
    batch_size_per_image: int = 256
    positive_fraction: float = 0.5
    min_size: float = 1e-3

    def __post_init__(self):
        if not self.aspect_ratios or min(self.aspect_ratios) <= 0:
            raise ValueError(
                f"rpn: bad aspect_ratios: got {self.aspect_ratios}, need positive numbers"
            )
        counts = {len(sizes) for sizes in self.anchor_sizes}
        if len(counts) != 1 or 0 in counts or min(map(min, self.anchor_sizes)) <= 0:
            raise ValueError(
                f"rpn: bad anchor_sizes: got {self.anchor_sizes}, need for each map as many "
                "positive numbers"
            )
        _check("rpn", self)

    @property
    def anchors_per_cell(self) -> int:
        """Return how many anchors a place of a map has; the same number on each."""
        return len(self.anchor_sizes[0]) * len(self.aspect_ratios)


@dataclass(frozen=True)
class RegionOptions:
    """The numbers of the second stage: the regions of a training step, and what is found.

    Attributes:
        fg_iou_thresh: a region stands for an object from this IoU on,
        bg_iou_thresh: and for the background below this one,
        min_background_iou: and from this one on, in images with objects; regions further away are
            not sampled.
        batch_size_per_image: regions sampled in training, S.
        positive_fraction: of them, those with an object, at most.
        score_thresh: below, a pair of region and class is no detection.
        nms_thresh: IoU above which the lower of two detections of a class is suppressed.
        detections_per_img: D.
        candidates: of all pairs of region and class, how many of the highest scores are looked at;
            torchvision has no such bound.
        min_size: of a detection's sides, in pixels.
    """

    fg_iou_thresh: float = 0.5
    bg_iou_thresh: float = 0.5
    min_background_iou: float = 0.0
    batch_size_per_image: int = 512
    positive_fraction: float = 0.25
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    detections_per_img: int = 100
    candidates: int = 1000
    min_size: float = 1e-2

    def __post_init__(self):
        _check("roi", self, zero=("sampling_ratio",))
        if self.min_background_iou > self.bg_iou_thresh:
            raise ValueError(
                f"roi: bad min_background_iou: got {self.min_background_iou}, need at most "
                f"bg_iou_thresh, {self.bg_iou_thresh}"
            )

    @property
    def positives(self) -> int:
        """Return how many sampled regions may have an object; they come first."""
        return int(self.batch_size_per_image * self.positive_fraction)


@dataclass(frozen=True)
class RoIOptions(RegionOptions):
    """The numbers of the second stage of a detector that reads regions of its maps by bins.

    Attributes:
        output_size: places along each side of what is read of a region for its box,
        mask_output_size: and for its mask.
        sampling_ratio: points read for each place, along each side; 0 for as many as the region's
            size asks for.
        aligned: whether pixels are read at their middles; torchvision's default, and published
            weights, have False.
    """

    output_size: int = 7
    mask_output_size: int = 14
    sampling_ratio: int = 2
    aligned: bool = True


@dataclass(frozen=True)
class FastRCNNOptions(RoIOptions):
    """Those of Fast R-CNN, arXiv:1504.08083, sections 2.3 and 3; and its code's suppression."""

    min_background_iou: float = 0.1
    batch_size_per_image: int = 64
    nms_thresh: float = 0.3


@dataclass(frozen=True)
class SPPOptions(RegionOptions):
    """Those of SPP-Net, arXiv:1406.4729, section 4.1."""

    min_background_iou: float = 0.1
    batch_size_per_image: int = 128
    nms_thresh: float = 0.3


@dataclass(frozen=True)
class RCNNOptions(RegionOptions):
    """Those of R-CNN, arXiv:1311.2524, section 2.3 and appendix B."""

    batch_size_per_image: int = 128
    nms_thresh: float = 0.3


Options = TypeVar("Options")


def as_options(kind: type[Options], table: Options | Mapping[str, Any]) -> Options:
    """Return a table of a config as what it stands for."""
    return kind(**table) if isinstance(table, Mapping) else table


def _check(name: str, options: RPNOptions | RegionOptions, zero: tuple[str, ...] = ()) -> None:
    """Raise unless counts are positive and thresholds and fractions are in [0, 1].

    Raises:
        ValueError: names the field.
    """
    for key, value in asdict(options).items():
        if key.endswith(("_iou", "_thresh", "_fraction")) and not 0 <= value <= 1:
            raise ValueError(f"{name}: bad {key}: got {value}, need a number in [0, 1]")
        least = 0 if key in zero else 1
        if type(value) is int and value < least:
            raise ValueError(f"{name}: bad {key}: got {value}, need an integer of {least} or more")
    if options.bg_iou_thresh > options.fg_iou_thresh:
        raise ValueError(
            f"{name}: bad bg_iou_thresh: got {options.bg_iou_thresh}, need at most fg_iou_thresh, "
            f"{options.fg_iou_thresh}"
        )
