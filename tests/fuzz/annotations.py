"""Damaged annotation files: what is taken is in order, and what is missing is said."""

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from convax.training import data
from convax.training.data.tree import leaves

from ..training.data.detection import box_files
from . import sources
from .damage import damage
from .files import MISSING, Bench, Kind, everything, nothing
from .texts import spoil
from .verdict import Verdict

SIZE = (32, 32)
IGNORED_OBJECTS = box_files.OBJECTS | {"c": [(0, (2, 2, 9, 12), True), (1, (8, 8, 16, 16), False)]}


def kinds() -> dict[str, Kind]:
    """A small data set of every format: the same three images, with the same objects."""
    coco = {"train.json": _json(IGNORED_OBJECTS), "val.json": _json({"b": IGNORED_OBJECTS["b"]})}
    names = {"annotations": "train.json", "validation_annotations": "val.json"}
    return {
        "coco": _kind("photos", coco, "boxes", source="coco", **names),
        "coco, masks": _kind("photos", coco, "instances", source="coco", **names),
        "voc": _kind("VOC/JPEGImages", _voc(), "boxes", source="voc"),
        "yolo": _kind("images", _yolo(box_files.yolo_lines), "boxes", source="yolo"),
        "yolo, masks": _kind("images", _yolo(_polygon_lines), "instances", source="yolo"),
        "instances": _kind(
            "images",
            _masks(),
            "instances",
            everything,
            **{"source": "masks", "images": "images", "masks": "masks", "classes": ["thing"]},
            mask_kind="instances",
        ),
    }


def try_annotations(seed: int, indices: Iterable[int]) -> list[Verdict]:
    """The cases of these numbers."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), kinds())
        verdicts = []
        for index in indices:
            rng = random.Random(f"{seed}/{index}")
            verdicts.append(bench.try_kind(rng.choice(list(bench.kinds)), rng, index))
        return verdicts


def _kind(
    folder: str,
    files: dict[str, bytes],
    labels: str,
    checked: Callable[[str], bool] = nothing,
    **options: Any,
) -> Kind:
    rng = np.random.default_rng(0)
    photographs = {
        f"{folder}/{stem}.png": sources.picture(rng.integers(0, 256, (*size, 3), np.uint8))
        for stem, size in box_files.SIZES.items()
    }

    def load(root: Path) -> tuple[list[Any], tuple[str, ...]]:
        how = {"path": str(root), "size": SIZE, "channels": 3, "letterbox": True, "seed": 0}
        dataset = data.load(**how, labels=labels, **options)
        return [
            dataset.classes,
            *(_in_order(part, len(dataset.classes)) for part in dataset[:3]),
        ], dataset.notes

    return Kind(
        photographs | files,
        load,
        checked,
        damaged=files.__contains__,
        damage=_damage,
        silent=lambda right, loaded, how: (
            how in (*MISSING, "a line twice") and right[1] == loaded[1]
        ),
    )


def _damage(file: Path, rng: random.Random) -> str:
    """Damage the bytes of a file, or what its text says."""
    if file.suffix == ".png" or rng.random() < 0.3:
        return damage(file, rng)
    content, how = spoil(file.read_bytes(), rng)
    file.write_bytes(content)
    return how


def _in_order(split: data.Split, K: int) -> tuple[Any, ...]:
    """What a split of K classes holds, all of which makes sense."""
    boxes, classes, ignored, masks, _ = split.labels
    there = classes >= 0
    assert np.isfinite(boxes).all() and not boxes[~there].any() and not ignored[~there].any()
    assert (boxes >= 0).all() and (boxes <= SIZE[0]).all()
    assert ((boxes[..., 2:] > boxes[..., :2]) == there[..., None]).all()
    assert (masks.max(axis=(1, 2), initial=0) <= there.sum(axis=1)).all()
    assert [len(note.areas) for note in split.notes] == there.sum(axis=1).tolist()
    assert classes.min(initial=-1) >= -1 and classes.max(initial=-1) < K
    assert all(0 <= area < np.inf for note in split.notes for area in note.areas)
    assert len(split.images) == len(split.notes) == len(boxes)
    digest = hashlib.sha256(split.images)
    for _, leaf in leaves(split.labels):
        digest.update(np.ascontiguousarray(leaf))
    return split.images.shape, masks.shape, digest.hexdigest(), split.notes


def _json(objects: dict[str, list[Any]]) -> bytes:
    sizes = {stem: box_files.SIZES[stem] for stem in objects}
    return json.dumps(box_files.coco_content(objects, sizes)).encode()


def _voc() -> dict[str, bytes]:
    files = {
        f"VOC/Annotations/{stem}.xml": box_files.xml_of(stem, IGNORED_OBJECTS).encode()
        for stem in box_files.SIZES
    }
    return files | {"VOC/ImageSets/Main/train.txt": b"a\nc\n", "VOC/ImageSets/Main/val.txt": b"b\n"}


def _yolo(lines: Callable[..., str]) -> dict[str, bytes]:
    files = {
        f"labels/{stem}.txt": lines(stem, IGNORED_OBJECTS).encode() for stem in box_files.SIZES
    }
    return files | {"data.yaml": b"train: images\nnc: 2\nnames:\n  0: cat\n  1: dog\n"}


def _polygon_lines(stem: str, objects: dict[str, list[Any]]) -> str:
    return box_files.yolo_lines(stem, objects, polygons=True)


def _masks() -> dict[str, bytes]:
    files = {}
    for stem, size in box_files.SIZES.items():
        numbers = np.zeros(size, np.uint16)
        for i, (_, (x1, y1, x2, y2), _) in enumerate(IGNORED_OBJECTS[stem]):
            numbers[y1:y2, x1:x2] = 300 * (i + 1)
        files[f"masks/{stem}.png"] = sources.picture(numbers)
    return files
