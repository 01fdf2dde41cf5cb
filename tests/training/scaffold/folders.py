"""Small folders of data, one for each layout that is recognized, in color and of one seed."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.training.data.detection.box_files import write_coco, write_voc, write_yolo


def save(file, size=(12, 12), *, gray=False):
    """Write an image of noise, another one for each name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(file.name).encode()))
    shape = size if gray else (*size, 3)
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(file)


def write_classes(root, *, counts=(8, 8), names=("cat", "dog"), **look):
    for name, count in zip(names, counts, strict=True):
        for i in range(count):
            save(root / name / f"{i}.png", **look)
    return root


def write_split_classes(root):
    for part in ("train", "val", "test"):
        write_classes(root / part, counts=(4, 4))
    return root


def write_masks(root, numbers=(0, 1), count=8, folders=("images", "masks")):
    """Masks of columns of these numbers; a callable gives those of each image."""
    for i in range(count):
        its = numbers(i) if callable(numbers) else numbers
        save(root / folders[0] / f"{i}.png", (24, 24))
        mask = np.resize(np.array(its, np.uint8), (24, 24))
        (root / folders[1]).mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / folders[1] / f"{i}.png")
    return root


SKY, ROAD, VOID = (128, 128, 128), (128, 64, 128), (0, 0, 0)


def painted(i, colors=(SKY, ROAD, VOID), size=(32, 40)):
    """Bands of these colors, wider in one image than in the next; ``(H, W, 3)`` uint8."""
    bands = np.sort(np.arange(size[0]) * len(colors) // size[0])
    rows = np.roll(np.array(colors, np.uint8)[bands], i, axis=0)
    return np.ascontiguousarray(np.broadcast_to(rows[:, None], (*size, 3)))


def write_painted(root, paint=painted, *, count=6, mode="RGB", ending=".png", texts=()):
    """Images with masks of colors, and text files by their names."""
    for i in range(count):
        mask = paint(i)
        save(root / "images" / f"{i}.png", mask.shape[:2])
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).convert(mode).save(root / "masks" / f"{i}{ending}")
    for name, text in dict(texts).items():
        (root / name).write_text(text)
    return root


def write_table(root, **columns):
    """A CSV file with these columns behind those of the lines' numbers, the images and a text."""
    count = len(next(iter(columns.values())))
    for i in range(count):
        save(root / "photos" / f"{i}.png")
    with (root / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "photo", "taken by", *columns])
        for i, cells in enumerate(zip(*columns.values(), strict=True)):
            rows.writerow([i, f"photos/{i}.png", "me", *cells])
    return root


AGES = [20.5 + i for i in range(8)]
SEA, BOAT = [1, 0] * 4, [1, 1, 0, 0] * 2


class Written(NamedTuple):
    """A layout: what writes it, what it is taken for, and what makes its network tiny."""

    write: Callable[[Path], object]
    task: str
    source: str
    tiny: tuple[str, ...]


MLP = ('model={name="mlp",hidden=[4],activation="relu"}',)
PIXELS = ('model={layers=[{type="conv",features=2,window=1}]}',)
PAINTED = ('model={layers=[{type="conv",features=3,window=1}]}',)
# A detector, tiny as well.
SMALLER = (
    *("model.width=8", "model.hidden=8", "model.fpn=0", "model.stages=[2]"),
    *("model.rpn.anchor_sizes=[[8.0]]", "model.rpn.aspect_ratios=[1.0]"),
)
LAYOUTS = {
    "class folders": Written(write_classes, "classification", "folder", MLP),
    "class folders in splits": Written(write_split_classes, "classification", "folder", MLP),
    "masks": Written(write_masks, "segmentation", "masks", PIXELS),
    "masks of colors": Written(write_painted, "segmentation", "masks", PAINTED),
    "values": Written(lambda root: write_table(root, age=AGES), "regression", "csv", MLP),
    "several classes": Written(
        lambda root: write_table(root, sea=SEA, boat=BOAT), "multilabel", "csv", MLP
    ),
    "COCO": Written(write_coco, "detection", "coco", SMALLER),
    "Pascal VOC": Written(write_voc, "detection", "voc", SMALLER),
    "YOLO": Written(write_yolo, "detection", "yolo", SMALLER),
}
