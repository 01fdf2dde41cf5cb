"""What figures are called, in a line for people."""

from collections.abc import Mapping
from typing import Any

from ..plugins.tables import METRICS
from .registry import TASKS

# The figures that are shares, by their key in a record, and as people call them.
PERCENT_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "mean_iou": "mean IoU",
    "foreground_iou": "foreground IoU",
    "pixel_accuracy": "pixel accuracy",
    "recall_at_1": "recall@1",
    "recall_at_5": "recall@5",
    "auc": "AUC",
    "eer": "EER",
    "pair_accuracy": "pairs told apart",
    "mean_average_precision": "mAP",
    "f1": "F1",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
}
# Those that are numbers of any size.
NUMBERS = {"r2": "R²", "mae": "MAE", "mse": "MSE"}
NAMES = PERCENT_METRICS | NUMBERS


def named_metrics(record: Mapping[str, Any]) -> list[str]:
    """Return the figures in a record, each with its name.

    Example:
        >>> named_metrics({"loss": 0.1, "mean_iou": 0.8123})
        ['mean IoU 81.23%']
        >>> named_metrics({"r2": 0.5, "mae": 12.345})
        ['R² 0.5', 'MAE 12.35']
    """
    ours = [f"{name} {written(key, record[key])}" for key, name in NAMES.items() if key in record]
    of_tasks = {m for spec in TASKS.values() for m in spec.metrics} - NAMES.keys() - {"loss"}
    own = [key for key in record if key in of_tasks or key.partition(".")[0] in METRICS]
    return [*ours, *(f"{key} {record[key]:.4g}" for key in own)]


def written(key: str, value: float) -> str:
    """Return a figure for people: a share in percent, another number with four digits."""
    return f"{value:.2%}" if key in PERCENT_METRICS else f"{value:.4g}"


def format_metrics(record: Mapping[str, Any]) -> str:
    """Return the figures of a record that people watch, in one line."""
    parts = [f"epoch {record['epoch']:.2f}"] if "epoch" in record else []
    parts += [f"loss {record['loss']:.4f}", *named_metrics(record)]
    if "learning_rate" in record:
        parts.append(f"lr {record['learning_rate']:.2e}")
    if "images_per_second" in record:
        parts.append(f"{record['images_per_second']:,.0f} images/s")
    if "count" in record:
        parts.append(f"({record['count']:,} images)")
    return "  ".join(parts)
