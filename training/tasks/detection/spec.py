"""What is known of a detection, and of an instance segmentation, before a config asks for one."""

from functools import partial
from typing import Any

from ....model.detection.structures import DetectorOutput, GroundTruth, RoIOutput, RPNOutput
from ..spec import TaskSpec, example_of
from .comparison import compare_detections
from .losses import LOSSES

_MOVES = "would move the image and not its boxes; write those that change colors alone"
_MIRRORS = '= "reflect" would show objects again where no box is; write "zero"'
_MIXES = "would lay objects of two images over each other, each in part; leave it out"


def _example() -> tuple[DetectorOutput, GroundTruth]:
    """Return outputs, and the truth, of two images, of three classes with the background."""
    f: Any = example_of
    i: Any = partial(example_of, dtype="int32")
    b: Any = partial(example_of, dtype="bool")
    rpn = RPNOutput(f((2, 6)), f((2, 6, 4)), i((2, 6)), f((2, 6, 4)))
    boxes, deltas, masks = f((2, 4, 4)), f((2, 4, 3, 4)), f((2, 2, 4, 4, 3))
    regions = RoIOutput(boxes, f((2, 4, 3)), deltas, i((2, 4)), boxes, masks, f((2, 2, 4, 4)))
    truth = GroundTruth(f((2, 1, 4)), i((2, 1)), b((2, 1)), f((2, 0, 0), "uint8"))
    return DetectorOutput(None, rpn, regions), truth


DETECTION = TaskSpec(
    name="detection",
    make=".detection.task:detection",
    labels="boxes",
    losses=LOSSES,
    example=_example(),
    metrics=("ap", "ap50", "ap75", "loss"),
    error="1 - AP",
    summary="AP {share:.2%} on {images}",
    outputs="detections",
    outputs_text="of each image D detections, the best first: boxes `(N, D, 4)`, scores and "
    "classes `(N, D)`; a row of class -1 is empty",
    compare=compare_detections,
    least_classes=1,
    inputs={
        "proposals": "regions that may hold an object, as x1, y1, x2, y2 in pixels of the image: "
        "the only ones that are looked at; rows of zeros are none"
    },
    unfit={
        "mixup": _MIXES,
        "cutmix": _MIXES,
        "padding_mode": _MIRRORS,
        "policy.operations": _MOVES,
    },
    writes_images=True,
    has_threshold=True,
    alone="what two networks find are different objects, which have no mean",
)
INSTANCE_SEGMENTATION = DETECTION._replace(
    name="instance_segmentation",
    make=".detection.task:instance_segmentation",
    labels="instances",
    metrics=("mask_ap", "mask_ap50", "mask_ap75", *DETECTION.metrics),
    error="1 - mask AP",
    summary="mask AP {share:.2%} on {images}",
    outputs_text=f"{DETECTION.outputs_text}; and masks `(N, D, m, m)` within the boxes",
)
