"""What is known of several classes an image before a config asks for them."""

from ..spec import TaskSpec, example_of
from .losses import LOSSES

_MIXED = "would make images of two, with shares of their classes; leave it out"

MULTILABEL = TaskSpec(
    name="multilabel",
    make=".multilabel.task:multilabel",
    labels="classes",
    losses=LOSSES,
    example=(example_of((4, 3)), example_of((4, 3), "uint8")),
    metrics=("mean_average_precision", "f1", "loss"),
    error="1 - mAP",
    summary="mAP {share:.2%} on {images}",
    outputs="probabilities",
    outputs_text="probabilities `(N, K)`, of each label by itself",
    least_classes=1,
    unfit={"mixup": _MIXED, "cutmix": _MIXED},
    has_heatmap=True,
)
