"""What is known of a segmentation before a config asks for one."""

from ..spec import TaskSpec, example_of
from .losses import LOSSES

SEGMENTATION = TaskSpec(
    name="segmentation",
    make=".segmentation.task:segmentation",
    labels="mask",
    losses=LOSSES,
    example=(
        example_of((2, 4, 4, 3)),
        example_of((2, 4, 4), "uint8"),
        example_of((2, 4, 4), "bool"),
    ),
    metrics=("mean_iou", "pixel_accuracy", "loss"),
    error="1 - mean IoU",
    summary="mean IoU {share:.2%} on {images}",
    outputs="probabilities",
    outputs_text="probabilities `(N, H, W, K)`, one for each label at each pixel",
    unfit={
        "mixup": "would make pixels of two classes, and a mask has one for each; "
        "write augment.cutmix, or leave it out"
    },
    per_pixel=True,
    writes_images=True,
)
