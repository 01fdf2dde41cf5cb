"""What is known of a regression before a config asks for one."""

from ..spec import TaskSpec, example_of
from .losses import LOSSES

_MIXED = "would make images of two, whose values are no mean of theirs; leave it out"

REGRESSION = TaskSpec(
    name="regression",
    make=".regression.task:regression",
    labels="values",
    losses=LOSSES,
    example=(example_of((4, 2)), example_of((4, 2))),
    metrics=("r2", "loss"),
    error="1 - R²",
    summary="R² {share:.4f} on {images}",
    outputs="values",
    outputs_text="values `(N, V)`, one for each label, in its unit",
    least_classes=1,
    unfit={"mixup": _MIXED, "cutmix": _MIXED},
    standardizes=True,
)
