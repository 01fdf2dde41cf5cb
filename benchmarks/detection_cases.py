"""The cases of object detection that are timed, the same for both libraries: numpy alone."""

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


class Region(NamedTuple):
    """RoIAlign of 7x7 bins with two samples along each axis; a map of stride 16."""

    x: tuple[int, int, int, int]  # N, H, W, C
    regions: int  # of each image
    backward: bool = False  # with the gradient in x


MAPS = {
    "16 of 16x16x64, 64 regions": ((16, 16, 16, 64), 64),
    "4 of 16x16x128, 64 regions": ((4, 16, 16, 128), 64),
    "4 of 64x64x64, 64 regions": ((4, 64, 64, 64), 64),
    "1 of 50x50x256, 512 regions": ((1, 50, 50, 256), 512),
}
REGIONS = {
    f"RoIAlign{', with backward' if backward else ''}, {name}": Region(*of, backward)
    for name, of in MAPS.items()
    for backward in (False, True)
}
BINS, SCALE = 7, 1 / 16


def map_and_boxes(of: Region) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch of maps, boxes anywhere in their images, and a gradient (N, R, P, Q, C)."""
    rng = np.random.default_rng(0)
    N, H, W, C = of.x
    corners = np.sort(rng.uniform(0, 1, (N, of.regions, 2, 2)), axis=2).reshape(N, -1, 4)
    boxes = corners * (W, H, W, H) / SCALE
    x, g = rng.standard_normal(of.x), rng.standard_normal((N, of.regions, BINS, BINS, C))
    return x.astype(np.float32), boxes.astype(np.float32), g.astype(np.float32)


def scene(of: Suppression) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and classes, the same in every process."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 800, (of.boxes // 20 + 1, 2))
    center = places[rng.integers(0, len(places), of.boxes)] + rng.normal(0, 10, (of.boxes, 2))
    sides = rng.uniform(40, 80, (of.boxes, 2))
    boxes = np.concatenate([center - sides / 2, center + sides / 2], axis=1).astype(np.float32)
    scores = rng.uniform(size=of.boxes).astype(np.float32)
    return boxes, scores, rng.integers(0, of.classes, of.boxes).astype(np.int32)


TRAINING = {"a training step of fasterrcnn-scenes": "fasterrcnn-scenes"}
DIGITS, OBJECTS = 10, 8


def batch(images: int = 16, side: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, H, W, 1) of bright rectangles in noise, their boxes (N, M, 4) and classes."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12, (images, side, side, 1)).astype(np.uint8)
    sizes = rng.integers(14, 45, (images, OBJECTS, 2))
    low = (rng.random((images, OBJECTS, 2)) * (side - sizes)).astype(int)
    boxes = np.concatenate([low, low + sizes], axis=-1)
    for image, rows in zip(x, boxes, strict=True):
        for x1, y1, x2, y2 in rows:
            image[y1:y2, x1:x2] = rng.integers(100, 256)
    return x, boxes.astype(np.float32), rng.integers(0, DIGITS, boxes.shape[:2]).astype(np.int32)
