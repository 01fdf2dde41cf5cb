"""What is timed of object detection, for both libraries alike: numpy alone."""

from typing import NamedTuple

import numpy as np


class Suppression(NamedTuple):
    """NMS of boxes in clusters of about 20, as a proposal network gives them."""

    boxes: int
    threshold: float
    classes: int = 1  # 1: no classes


SUPPRESSIONS = {
    "NMS, 100 boxes": Suppression(100, 0.7),
    "NMS, 500 boxes": Suppression(500, 0.7),
    "NMS, 1000 boxes": Suppression(1000, 0.7),
    "NMS, 2000 boxes": Suppression(2000, 0.7),
    "NMS, 1000 boxes, threshold 0.3": Suppression(1000, 0.3),
    "NMS, 1000 boxes of 20 classes": Suppression(1000, 0.5, 20),
}


def scene(of: Suppression) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and classes, the same in every process."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 800, (of.boxes // 20 + 1, 2))
    center = places[rng.integers(0, len(places), of.boxes)] + rng.normal(0, 10, (of.boxes, 2))
    sides = rng.uniform(40, 80, (of.boxes, 2))
    boxes = np.concatenate([center - sides / 2, center + sides / 2], axis=1).astype(np.float32)
    scores = rng.uniform(size=of.boxes).astype(np.float32)
    return boxes, scores, rng.integers(0, of.classes, of.boxes).astype(np.int32)
