"""What is known of an embedding before a config asks for one."""

from ..spec import TaskSpec, example_of
from .losses import LOSSES

_MIXED = (
    "would make images of two classes, and pairs and triplets are of images with one class each; "
    "leave it out"
)

EMBEDDING = TaskSpec(
    name="embedding",
    make=".embedding.task:embedding",
    labels="class",
    losses=LOSSES,
    example=(example_of((4, 2)), example_of((4,), "int32")),
    metrics=("recall_at_1", "recall_at_5", "auc", "loss"),
    error="1 - recall@1",
    summary="recall@1 {share:.2%} of {images}",
    outputs="embeddings",
    outputs_text="vectors `(N, D)`: images that are alike lie close together",
    unfit={"mixup": _MIXED, "cutmix": _MIXED},
    outputs_per_class=False,
    alone="embeddings of several networks have no common space",
)
