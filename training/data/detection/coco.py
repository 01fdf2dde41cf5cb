"""COCO: one JSON file for each split, with images, annotations and categories."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ...common.text import is_utf8, plain_line, text_of_name
from ..archive import Place
from ..dataset import SPLITS, Dataset
from ..errors import DataError
from ..folder import SPLIT_FOLDERS
from ..listing import files_below, images_below, listed
from ..notes import Notes, numbered
from .ground_truth import read_annotated
from .objects import (
    Annotated,
    Object,
    Rules,
    check_annotated_size,
    check_class_name,
    folder_or_archive,
    polygons_of,
)
from .rle import decode_runs

_LISTS = ("annotations", "categories")  # beside that of images
_DOUBT = "its bbox looks like two corners, where COCO has x, y, width and height"


class CocoFiles(NamedTuple):
    """The annotation files of each split, relative to the data's folder."""

    train: str
    validation: str | None = None
    test: str | None = None


class _Contents(NamedTuple):
    """What the annotation files say."""

    parts: dict[str, list[Annotated]]
    classes: tuple[str, ...]
    ids: tuple[int, ...]  # of the categories, which the classes are in the order of


def load_coco(root: str | Path, files: CocoFiles, rules: Rules) -> Dataset:
    """Read images and what COCO's annotation files say of them.

    Categories are the classes, in the order of their ids. A crowd is ignored. An image without
    annotations teaches what is none; one without an entry in the file is no example. An image is
    found by its ``file_name``, in any folder below.

    Args:
        root: a folder, or an archive.
        files: the annotation files in it.
        rules: how images and objects become arrays.

    Returns:
        images with `GroundTruth`; a split without a file of its own is empty.

    Raises:
        DataError: a file is not such JSON, or contradicts itself; an image is not there; or see
            `read_annotated`.
    """
    notes = Notes(expected=(".json",))
    found = _contents(Path(root), files, rules, notes)
    return read_annotated(root, found.parts, found.classes, rules, notes, found.ids)


def coco_classes(root: str | Path, files: CocoFiles) -> tuple[str, ...]:
    """Return the classes of `load_coco`, without decoding any image."""
    return _contents(Path(root), files, Rules(()), Notes()).classes


def find_coco_files(root: Path) -> CocoFiles | None:
    """Find annotation files in a folder and below; None if there are none.

    Which split each is of is said by a word in its path: ``instances_val2017.json``,
    ``valid/_annotations.coco.json``. One file alone is for training.

    Raises:
        DataError: two are of one split, or none is for training.
    """
    found: dict[str, list[str]] = {}
    for where, file in files_below(root, (".json",)):
        content = file.read_bytes()
        if not all(f'"{key}"'.encode() in content for key in ("images", *_LISTS)):
            continue
        path = str(PurePosixPath(where, file.name))
        words = (SPLIT_FOLDERS.get(word) for word in re.findall("[a-z]+", path.lower()))
        found.setdefault(next(filter(None, words), "train"), []).append(path)
    if not found:
        return None
    for split, (first, *others) in found.items():
        if others:
            raise DataError(
                f"{root}: two annotation files of the {split} images, {first} and {others[0]}; "
                "take one away, or write the other split into its name"
            )
    if "train" not in found and len(found) > 1:
        files = ", ".join(path for paths in found.values() for path in paths)
        raise DataError(f"{root}: no annotation file of images to train on beside {files}; add it")
    (train,) = found.pop("train", None) or found.popitem()[1]
    return CocoFiles(train, *(found.get(split, [None])[0] for split in SPLITS[1:]))


def _contents(root: Path, files: CocoFiles, rules: Rules, notes: Notes) -> _Contents:
    top = folder_or_archive(root, (".json",), notes)
    images = _Images(top, notes)
    raw = {
        split: _read_json(_file(top, name, f"data.{key}"))
        for split, name, key in zip(
            SPLITS,
            files,
            ("annotations", "validation_annotations", "test_annotations"),
            strict=True,
        )
        if name is not None
    }
    categories = _categories(*raw["train"])
    for where, content in raw.values():
        unknown = {k: v for k, v in _categories(where, content).items() if categories.get(k) != v}
        if unknown:
            k, name = next(iter(unknown.items()))
            raise DataError(
                f"{where}: category {k} is {name!r} here and {categories.get(k)!r} in "
                f"{raw['train'][0]}; use one list of categories"
            )
    ids = tuple(sorted(categories))
    classes = {category: k for k, category in enumerate(ids)}
    parts = {
        split: list(_annotated(where, content, images, classes, rules))
        for split, (where, content) in raw.items()
    }
    _note_shared(parts, notes)
    unused = images.count - len({one.image for part in parts.values() for one in part})
    notes.pass_over("image(s) that no annotation file lists", max(unused, 0))
    return _Contents(parts, tuple(categories[k] for k in ids), ids)


def _note_shared(parts: Mapping[str, Sequence[Annotated]], notes: Notes) -> None:
    """Note the images that are in several splits."""
    for one, other in combinations(parts, 2):
        shared = len({a.image for a in parts[one]} & {a.image for a in parts[other]})
        if shared:
            are = "is" if shared == 1 else "are"
            notes.add(numbered(f"{shared:,} image(s) {are} in {one} and in {other}", shared))


def _file(top: Place, name: str, key: str) -> Place:
    """Return a file in the folder; in an archive, also one in the only folder there."""
    tops = [top]
    inside = listed(top, Notes())
    if not isinstance(top, Path) and not inside.images and len(inside.folders) == 1:
        tops += inside.folders
    for place in tops:
        for part in PurePosixPath(name.replace("\\", "/")).parts:
            place = place / part
        if place.is_file():
            return place
    raise DataError(f"{key}: no file {plain_line(name, 200)} in {top}; correct it")


def _read_json(file: Place) -> tuple[str, dict[str, Any]]:
    """Return what errors call an annotation file, and its content."""
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = plain_line(str(error), 200)
        raise DataError(f"{file}: not JSON: {reason}; write it anew") from None
    missing = [
        key
        for key in ("images", *_LISTS)
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if missing:
        raise DataError(
            f"{file}: no list of {missing[0]!r}; need a COCO file of instances, with images, "
            "annotations and categories"
        )
    return str(file), content


def _categories(where: str, content: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each category."""
    found: dict[int, str] = {}
    for i, entry in enumerate(content["categories"]):
        called = f"{where}: categories[{i}]"
        k, name = _whole(entry, "id", called), text_of_name(_text(entry, "name", called)).strip()
        check_class_name(name, called)
        if k in found or name in found.values():
            raise DataError(f"{called}: id {k}, name {name!r}: there twice; correct it")
        found[k] = name
    if not found:
        raise DataError(f"{where}: no categories; add them")
    return found


def _annotated(
    where: str,
    content: Mapping[str, Any],
    images: "_Images",
    classes: Mapping[int, int],
    rules: Rules,
) -> Iterator[Annotated]:
    """Yield the images of a file with their objects, sorted by id."""
    entries: dict[int, tuple[Place, tuple[int, int]]] = {}
    key_of: dict[Place, int] = {}
    for i, entry in enumerate(content["images"]):
        called = f"{where}: images[{i}]"
        key = _whole(entry, "id", called)
        if key in entries:
            raise DataError(f"{called}: two images have id {key}; give one another")
        size = (_whole(entry, "height", called), _whole(entry, "width", called))
        image = images.find(_text(entry, "file_name", called), called)
        if image in key_of:
            raise DataError(
                f"{called}: {image.name} is image {key_of[image]}, too; list it once, with all of "
                "its annotations"
            )
        key_of[image] = key
        entries[key] = image, size
    if not entries:
        raise DataError(f"{where}: no images; add some")
    its: dict[int, list[dict[str, Any]]] = {key: [] for key in entries}
    known: set[int] = set()
    shares = bool(content["annotations"])
    for i, entry in enumerate(content["annotations"]):
        key = _whole(entry, "id", f"{where}: annotations[{i}]")
        called = f"{where}: annotation {key}"
        if key in known:
            raise DataError(f"{called}: two annotations have this id; give one another")
        known.add(key)
        image, k = _whole(entry, "image_id", called), _whole(entry, "category_id", called)
        if image not in its:
            raise DataError(f"{called}: no image has id {image}; correct its image_id")
        if k not in classes:
            raise DataError(f"{called}: no category has id {k}; correct its category_id")
        box = _numbers(entry.get("bbox"), called, "bbox", 4)
        shares = shares and max(map(abs, box)) <= 1
        its[image].append(entry)
    if shares:
        raise DataError(
            f"{where}: all boxes lie within [0, 1], which looks like shares of the image; need "
            "pixels: x, y, width, height"
        )
    for key in sorted(entries):
        place, size = entries[key]
        objects = _Objects(where, place, size, its[key], classes, rules)
        found = frozenset(classes[entry["category_id"]] for entry in its[key])
        yield Annotated(place, key, objects, found)


class _Objects:
    """The objects of an image, once its size is known: that the file says must be its own."""

    def __init__(
        self,
        where: str,
        image: Place,
        size: tuple[int, int],
        entries: Sequence[dict[str, Any]],
        classes: Mapping[int, int],
        rules: Rules,
    ):
        self._where, self._image, self._size = where, image, size
        self._entries, self._classes, self._rules = entries, classes, rules

    def __call__(self, size: tuple[int, int]) -> list[Object]:
        check_annotated_size(self._where, self._size, self._image, size)
        return [self._object(entry, size) for entry in self._entries]

    def _object(self, entry: dict[str, Any], size: tuple[int, int]) -> Object:
        called = f"{self._where}: annotation {entry['id']}"
        x, y, width, height = _numbers(entry["bbox"], called, "bbox", 4)
        if width < 0 or height < 0:
            raise DataError(
                f"{called}: bbox: got {x:g}, {y:g}, {width:g}, {height:g}, need x, y, width and "
                "height, of which the last two are not negative; correct it"
            )
        corners = x < width <= size[1] and y < height <= size[0]
        area = entry.get("area")
        if area is not None and not (_is_number(area) and area >= 0):
            raise DataError(f"{called}: area: got {plain_line(repr(area), 80)}, need a number")
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise DataError(f"{called}: iscrowd: got {plain_line(repr(crowd), 80)}, need 0 or 1")
        mask, shape = None, entry.get("segmentation")
        if self._rules.masks and shape:
            mask = _mask(shape, size, f"{called}: segmentation", self._rules)
        return Object(
            called,
            (x, y, x + width, y + height),
            self._classes[entry["category_id"]],
            ignored=bool(crowd),
            area=area,
            mask=mask,
            doubt=_DOUBT if corners else "",
        )


def _mask(segmentation: Any, size: tuple[int, int], called: str, rules: Rules) -> np.ndarray:
    """Return the mask of polygons, or of runs of pixels."""
    if isinstance(segmentation, dict):
        counts, said = segmentation.get("counts"), segmentation.get("size")
        if said != list(size) or not isinstance(counts, (str, list)):
            raise DataError(
                f"{called}: need counts, and size [{size[0]}, {size[1]}], that of its image: got "
                f"size {plain_line(repr(said), 80)}"
            )
        return decode_runs(counts, size, called)
    if not isinstance(segmentation, list):
        raise DataError(f"{called}: need polygons, or runs of pixels")
    polygons = [_numbers(polygon, called, "a polygon", None) for polygon in segmentation]
    return polygons_of(polygons, size, called, rules)


class _Images:
    """The image files below a folder, by the ends of their paths."""

    def __init__(self, top: Place, notes: Notes):
        self._top = top
        self._by_name: dict[str, list[tuple[str, Place]]] = {}
        self.count = 0
        for where, image in images_below(top, notes):
            path = text_of_name(str(PurePosixPath(where, image.name)))
            self._by_name.setdefault(PurePosixPath(path).name, []).append((path, image))
            self.count += 1

    def find(self, name: str, called: str) -> Place:
        """Return the one image whose path ends in a file's name, or is it."""
        wanted = text_of_name(str(PurePosixPath(name.replace("\\", "/"))))
        listed = self._by_name.get(PurePosixPath(wanted).name, [])
        found = [image for path, image in listed if path == wanted] or [
            image for path, image in listed if path.endswith(f"/{wanted}")
        ]
        if not found:
            raise DataError(
                f"{called}: no image {plain_line(name, 200)!r} in {self._top}; add it, or correct "
                "its file_name"
            )
        if len(found) > 1:
            raise DataError(
                f"{called}: two images end in {plain_line(name, 200)!r}: {found[0]} and {found[1]};"
                " write their folder into file_name"
            )
        return found[0]


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and abs(value) < 1e9 and math.isfinite(value)


def _numbers(value: Any, called: str, what: str, count: int | None) -> list[float]:
    """Return a list of finite numbers, of a length if one is given."""
    right = isinstance(value, list) and all(map(_is_number, value))
    if not right or (count is not None and len(value) != count):
        need = "numbers" if count is None else f"{count} numbers"
        raise DataError(
            f"{called}: {what}: got {plain_line(repr(value), 80)}, need a list of {need}"
        )
    return [float(v) for v in value]


def _whole(entry: Any, key: str, called: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise DataError(f"{called}: {key}: got {plain_line(repr(value), 80)}, need a whole number")
    return value


def _text(entry: Any, key: str, called: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not is_utf8(value):
        raise DataError(f"{called}: {key}: got {plain_line(repr(value), 80)}, need a text")
    return value
