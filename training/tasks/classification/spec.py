"""What is known of a classification before a config asks for one."""

from ..spec import TaskSpec, example_of
from .losses import LOSSES

CLASSIFICATION = TaskSpec(
    name="classification",
    make=".classification.task:classification",
    labels="class",
    losses=LOSSES,
    example=(example_of((4, 3)), example_of((4,), "int32")),
    metrics=("accuracy", "balanced_accuracy", "macro_f1", "loss"),
    error="error rate",
    summary="{share:.2%} of {images} right",
    outputs="probabilities",
    outputs_text="probabilities `(N, K)`, one for each label",
    ranks=True,
    has_heatmap=True,
)
