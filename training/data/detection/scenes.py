"""Made-up scenes: several small images of one channel, MNIST's digits say, on a dark canvas.

Scene i of a split is a pure function of a seed, the split and i. Where things overlap, the brighter
pixel is seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..dataset import SPLITS, Dataset, ImageNote, Split
from ..dataset import split as set_aside
from ..errors import DataError
from ..idx import load_idx
from ..image import resize_image
from ..npz import load_npz
from .ground_truth import ground_truth
from .objects import MOST_MASKED, tight_box
from .rle import encode_mask

INK = 64  # a pixel from this value on belongs to its object
TRIES = 20  # places that are tried for an object, before it is left out
SHARE = 0.1  # of the images, for a split that has none of its own


class Scenes(NamedTuple):
    """What scenes are made.

    Attributes:
        size: ``(H, W)``.
        objects: at most so many in a scene; at least one is tried.
        scale: the least and the greatest factor of an object's size, uniform.
        overlap: the largest share of the smaller of two boxes that may lie within the other.
        noise: the largest value that is added to a pixel.
        masks: whether labels have masks.
        seed: chooses the scenes; that of a run does not.
    """

    size: Sequence[int]
    objects: int = 8
    scale: Sequence[float] = (0.5, 1.6)
    overlap: float = 0.25
    noise: int = 12
    masks: bool = False
    seed: int = 0


def load_scenes(
    path: str | Path, scenes: Scenes, *, train: int, validation: int, test: int
) -> Dataset:
    """Make scenes of the images in a folder of IDX files, or in an .npz file.

    Those of each split are made of other images: of the test images, and of a part of the others
    set aside for validation.

    Args:
        path: the folder or file.
        scenes: what they are.
        train, validation, test: how many of each.

    Returns:
        images ``(N, H, W, 1)`` with `GroundTruth`; the boxes are tight around pixels of `INK` and
        more.

    Raises:
        DataError: the images cannot be read, have several channels, or are larger than the canvas;
            or the scenes have more objects than masks can tell apart.
    """
    source = _with_all_splits(read_source(path))
    if source.train.images.shape[-1] != 1:
        raise DataError(f"{path}: images of several channels, where scenes need one; take others")
    largest = [round(side * scenes.scale[1]) for side in source.train.images.shape[1:3]]
    if largest[0] > scenes.size[0] or largest[1] > scenes.size[1]:
        raise DataError(
            f"{path}: images become {largest[0]}x{largest[1]} where scenes are {scenes.size[0]}x"
            f"{scenes.size[1]}; write a larger data.size, or a smaller data.scale"
        )
    if scenes.masks and scenes.objects > MOST_MASKED:
        raise DataError(
            f"data.objects: got {scenes.objects}, need {MOST_MASKED} at most with "
            "masks; write fewer"
        )
    counts = (train, validation, test)
    made, held, tested = (
        _split(part, scenes, stream, count)
        for stream, (part, count) in enumerate(zip(source[:3], counts, strict=True))
    )
    return Dataset(made, held, tested, source.classes)


def read_source(path: str | Path) -> Dataset:
    """Read the images that scenes are made of."""
    return (load_npz if Path(path).is_file() else load_idx)(path)


def _with_all_splits(source: Dataset) -> Dataset:
    """Set aside a part of the training images for each split that has none."""
    parts = {name: 0.0 if getattr(source, name).count else SHARE for name in SPLITS[1:]}
    return set_aside(source, validation=parts["validation"], test=parts["test"], seed=0)


def _split(source: Split, scenes: Scenes, stream: int, count: int) -> Split:
    H, W = scenes.size
    images = np.empty((count, H, W, 1), np.uint8)
    boxes = np.zeros((count, scenes.objects, 4), np.float32)
    classes = np.full((count, scenes.objects), -1, np.int32)
    ids = np.zeros((count, *((H, W) if scenes.masks else (0, 0))), np.uint8)
    notes = []
    for i in range(count):
        canvas, inks, labels = draw_scene(source, scenes, stream, i)
        images[i, ..., 0] = canvas
        areas = [int(ink.sum()) for ink in inks]
        for row, ink in enumerate(inks):
            boxes[i, row], classes[i, row] = tight_box(ink), labels[row]
        if scenes.masks:
            for row in sorted(range(len(inks)), key=lambda row: -areas[row]):
                ids[i][inks[row]] = row + 1
        notes.append(
            ImageNote(
                file=f"{SPLITS[stream]}-{i}",
                id=i,
                size=(H, W),
                scale=(1.0, 1.0),
                areas=tuple(map(float, areas)),
                masks=tuple(map(encode_mask, inks)) if scenes.masks else (),
            )
        )
    labels = ground_truth(boxes, classes, np.zeros((count, scenes.objects), bool), ids)
    return Split(images, labels, tuple(notes))


def draw_scene(
    source: Split, scenes: Scenes, stream: int, i: int
) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """Draw one scene.

    Args:
        source: the images ``(N, h, w, 1)`` and their classes.
        scenes: what is drawn.
        stream: the number of the split.
        i: that of the scene, below 2**32.

    Returns:
        the canvas ``(H, W)`` uint8; the pixels of each object ``(H, W)`` bool; and their classes.
    """
    H, W = scenes.size
    draws = _Draws(scenes.seed, (stream << 32) + i)
    canvas = np.zeros((H, W), np.uint8)
    inks: list[np.ndarray] = []
    labels: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    for _ in range(1 + draws.below(scenes.objects)):
        chosen = draws.below(source.count)
        low, high = scenes.scale
        factor = low + (high - low) * draws.unit()
        sides = [max(round(side * factor), 1) for side in source.images.shape[1:3]]
        small = resize_image(source.images[chosen][..., 0], sides)
        if not (small >= INK).any():
            continue
        tight = tight_box(small >= INK)
        for _ in range(TRIES):
            top, left = draws.below(H - sides[0] + 1), draws.below(W - sides[1] + 1)
            box = (tight[0] + left, tight[1] + top, tight[2] + left, tight[3] + top)
            if all(_share_within(box, other) <= scenes.overlap for other in boxes):
                place = (slice(top, top + sides[0]), slice(left, left + sides[1]))
                canvas[place] = np.maximum(canvas[place], small)
                ink = np.zeros((H, W), bool)
                ink[place] = small >= INK
                inks.append(ink)
                boxes.append(box)
                labels.append(int(source.labels[chosen]))
                break
    noise = draws.bytes_below(scenes.noise + 1, H * W).reshape(H, W)
    return np.minimum(canvas.astype(np.int32) + noise, 255).astype(np.uint8), inks, labels


def _share_within(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how much of the smaller of two boxes is in both."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / smaller


class _Draws:
    """Numbers of the Philox generator, of its raw output: which NumPy promises never to change."""

    def __init__(self, seed: int, stream: int):
        self._bits = np.random.Philox(key=np.array([seed, stream], np.uint64))

    def unit(self) -> float:
        """Draw from [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def below(self, count: int) -> int:
        """Draw a whole number below `count`."""
        return int(self._bits.random_raw()) % count

    def bytes_below(self, count: int, size: int) -> np.ndarray:
        """Draw `size` whole numbers below `count`, at most 256, from two bytes each."""
        raw = self._bits.random_raw(-(-size // 4)).astype("<u8").view("<u2")[:size]
        return (raw.astype(np.int64) * count) >> 16
