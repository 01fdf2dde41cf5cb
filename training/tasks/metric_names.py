"""What figures are called, in a line for people."""

from collections.abc import Mapping
from typing import Any

# The figures that are shares, by their key in a record, and as people call them.
PERCENT_METRICS = {
    "accuracy": "accuracy",
    "mean_iou": "mean IoU",
    "foreground_iou": "foreground IoU",
    "pixel_accuracy": "pixel accuracy",
    "recall_at_1": "recall@1",
    "recall_at_5": "recall@5",
    "auc": "AUC",
    "eer": "EER",
    "pair_accuracy": "pairs told apart",
}


def format_percentages(record: Mapping[str, Any]) -> list[str]:
    """Return the shares in a record, each with its name.

    Example:
        >>> format_percentages({"loss": 0.1, "mean_iou": 0.8123})
        ['mean IoU 81.23%']
    """
    return [f"{name} {record[key]:.2%}" for key, name in PERCENT_METRICS.items() if key in record]


def format_metrics(record: Mapping[str, Any]) -> str:
    """Return the figures of a record that people watch, in one line."""
    parts = [f"epoch {record['epoch']:.2f}"] if "epoch" in record else []
    parts += [f"loss {record['loss']:.4f}", *format_percentages(record)]
    if "learning_rate" in record:
        parts.append(f"lr {record['learning_rate']:.2e}")
    if "images_per_second" in record:
        parts.append(f"{record['images_per_second']:,.0f} images/s")
    if "count" in record:
        parts.append(f"({record['count']:,} images)")
    return "  ".join(parts)
