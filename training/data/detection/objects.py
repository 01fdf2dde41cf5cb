"""From images with their objects, whatever file says where they are, to the labels of detectors.

Every reader of boxes gives `Annotated` images in pixels of the upright image; here, and here alone,
they are checked, brought to the canvas and counted.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..archive import ARCHIVES, Place, is_archive, read_archive, source_of
from ..dataset import SPLITS, Dataset, ImageNote, Split
from ..errors import DataError
from ..image import EXTENSIONS, decode_with_size, quiet_pillow, resize_nearest
from ..labels import named
from ..notes import Notes, numbered
from ..placement import Placement, place
from ..tree import rows
from .rle import encode_mask, polygons_mask

MOST_MASKED = 254  # objects of an image with masks: a pixel's object is a byte
HAIR = 1.0  # pixels by which a box may reach out of its image: some count from 1
_Size = tuple[int, int]


class Object(NamedTuple):
    """One object of an image, as its data set has it.

    Attributes:
        name: what errors call it, with the file.
        box: ``(x1, y1, x2, y2)`` in pixels of the upright image.
        k: its class.
        ignored: neither hit nor miss.
        area: in square pixels; that of the box where it is None.
        mask: ``(h, w)`` bool; None where there are no masks.
    """

    name: str
    box: tuple[float, float, float, float]
    k: int
    ignored: bool = False
    area: float | None = None
    mask: np.ndarray | None = None


class Annotated(NamedTuple):
    """An image file, and ``objects((h, w))`` of the upright image in it."""

    image: Place
    id: int | str
    objects: Callable[[_Size], list[Object]]


class Rules(NamedTuple):
    """How images and their objects become arrays.

    Attributes:
        size: ``(H, W)`` of the canvas.
        channels: 1 for gray, 3 for color.
        letterbox: whether images keep their aspect.
        masks: whether labels have masks.
        objects: for how many an image has room; as many as some image has, where it is None.
        crowded: what becomes of an image with more: an "error", or the "largest" are kept.
        clip: whether a box that reaches out of its image is clipped; it is an error otherwise.
        smallest: the least side of an object, in pixels of the image; a smaller one is left out.
    """

    size: Sequence[int]
    channels: int = 3
    letterbox: bool = False
    masks: bool = False
    objects: int | None = None
    crowded: Literal["error", "largest"] = "error"
    clip: bool = False
    smallest: float = 1.0


class _Read(NamedTuple):
    """What an image became."""

    boxes: np.ndarray  # (n, 4) on the canvas
    objects: list[Object]
    note: ImageNote
    left_out: int  # objects that are too small
    crowd: int  # and those that there is no room for


def read_annotated(
    parts: Mapping[str, Sequence[Annotated]],
    classes: Sequence[str],
    rules: Rules,
    notes: Notes,
    category_ids: Sequence[int] = (),
) -> Dataset:
    """Decode images, on several threads, and make arrays of their objects.

    Args:
        parts: the images of each split; "train" has some.
        classes: the name of each class.
        rules: how.
        notes: where it is said what is left out.
        category_ids: of each class, as the data set has them.

    Returns:
        images ``(N, H, W, C)`` with `GroundTruth` as labels, and an `ImageNote` each.

    Raises:
        DataError: an image cannot be read; a box is no box, or out of its image; an image has more
            objects than there is room for; or a class has objects in other splits alone.
    """
    annotated = [one for name in SPLITS for one in parts.get(name, ())]
    H, W = int(rules.size[0]), int(rules.size[1])
    images = np.zeros((len(annotated), H, W, rules.channels), np.uint8)
    ids = np.zeros((len(annotated), *((H, W) if rules.masks else (0, 0))), np.uint8)

    def read(i: int) -> _Read:
        images[i], found = _read(annotated[i], rules, tuple(category_ids), ids[i])
        return found

    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read, range(len(annotated))))  # the first bad one in order is raised
    labels = _stacked(found, ids, rules)
    _say_left_out(found, rules, notes)
    splits: list[Split] = []
    start = 0
    for name in SPLITS:
        these = slice(start, start + len(parts.get(name, ())))
        start = these.stop
        own = tuple(one.note for one in found[these])
        splits.append(Split(images[these], rows(labels, these), own))
    _check_classes(splits, classes)
    train, validation, test = splits
    return Dataset(train, validation, test, tuple(classes), notes.lines())


def _read(
    annotated: Annotated, rules: Rules, category_ids: tuple[int, ...], ids: np.ndarray
) -> tuple[np.ndarray, _Read]:
    """Return an image, and its objects; paint their masks into `ids`, ``(H, W)``."""
    image, size = decode_with_size(
        source_of(annotated.image),
        size=rules.size,
        channels=rules.channels,
        name=str(annotated.image),
        letterbox=rules.letterbox,
    )
    objects = annotated.objects(size)
    kept = [o for o in (_within(o, size, rules) for o in objects) if o is not None]
    left_out = len(objects) - len(kept)
    room = rules.objects if rules.objects is not None else len(kept)
    if len(kept) > room:
        if rules.crowded == "error":
            raise DataError(
                f"{annotated.image}: {len(kept)} objects where data.objects = {room}; write "
                f'data.objects = {len(kept)}, or data.crowded = "largest" to keep the largest'
            )
        largest = sorted(range(len(kept)), key=lambda i: -_area(kept[i]))[:room]
        kept = [kept[i] for i in sorted(largest)]
    if rules.masks and len(kept) > MOST_MASKED:
        raise DataError(
            f"{annotated.image}: {len(kept)} objects with masks, need {MOST_MASKED} at most: a "
            "pixel says in a byte whose it is; keep the largest (data.objects, data.crowded), or "
            "take some away"
        )
    placement = place(size, rules.size, letterbox=rules.letterbox)
    if rules.masks:
        _paint(kept, placement, ids)
    boxes = placement.to_canvas(np.array([o.box for o in kept], np.float64).reshape(-1, 4))
    note = ImageNote(
        file=annotated.image.name,
        id=annotated.id,
        size=size,
        scale=placement.scale,
        areas=tuple(_area(o) for o in kept),
        masks=tuple(encode_mask(_mask(o)) for o in kept) if rules.masks else (),
        category_ids=category_ids,
    )
    crowd = len(objects) - left_out - len(kept)
    plain = [o._replace(mask=None) for o in kept]
    return image, _Read(boxes, plain, note, left_out, crowd)


def _within(o: Object, size: _Size, rules: Rules) -> Object | None:
    """Return an object with its box clipped to its image; None of one that is too small.

    Raises:
        DataError: it is no box, or reaches out of the image.
    """
    h, w = size
    box = np.array(o.box, np.float64)
    shown = " ".join(f"{v:g}" for v in box)
    if not np.isfinite(box).all():
        raise DataError(f"{o.name}: box {shown}: not finite; correct it")
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        side = "x2 < x1" if x2 < x1 else "y2 < y1"
        raise DataError(
            f"{o.name}: box {shown}: {side}; is it x, y, width, height where two corners are "
            "needed, or are the corners swapped? correct it"
        )
    clipped = np.clip(box, 0, [w, h, w, h])
    if np.abs(box - clipped).max() > HAIR and not rules.clip:
        raise DataError(
            f"{o.name}: box {shown} (x1 y1 x2 y2) reaches out of its image of {h}x{w} by more "
            "than a pixel; correct it, or write data.clip = true"
        )
    sides = clipped[2:] - clipped[:2]
    if min(sides) < rules.smallest or (o.mask is not None and not o.mask.any()):
        return None
    if rules.masks and o.mask is None:
        raise DataError(
            f"{o.name}: an object without a mask, where each needs one; add it, or learn boxes "
            "alone"
        )
    a, b, c, d = map(float, clipped)
    return o._replace(box=(a, b, c, d))


def _area(o: Object) -> float:
    x1, y1, x2, y2 = o.box
    return float((x2 - x1) * (y2 - y1)) if o.area is None else float(o.area)


def _mask(o: Object) -> np.ndarray:
    assert o.mask is not None  # see `_within`
    return o.mask


def _paint(objects: Sequence[Object], placement: Placement, ids: np.ndarray) -> None:
    """Write the row of each object, from 1, where its mask is; the smaller one lies on top."""
    order = sorted(range(len(objects)), key=lambda i: (not objects[i].ignored, -_area(objects[i])))
    inside = ids[: placement.placed[0], : placement.placed[1]]
    for i in order:
        inside[resize_nearest(_mask(objects[i]), placement.placed)] = i + 1


def tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box around the pixels of a mask ``(h, w)`` that has some.

    Example:
        >>> tight_box(np.eye(3, dtype=bool)[:2])
        (0.0, 0.0, 2.0, 2.0)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def folder_or_archive(root: Path, endings: tuple[str, ...], notes: Notes) -> Place:
    """Return a folder, or the root of an archive of images and of files with these endings.

    Raises:
        DataError: it is neither.
    """
    if root.is_dir():
        return root
    if is_archive(root):
        return read_archive(root, (*EXTENSIONS, *endings), notes)
    what = "a file" if root.exists() else "no such folder"
    raise DataError(
        f"{root}: {what}; data.path should be a folder, or an archive ({', '.join(ARCHIVES)}), of "
        "images and annotations"
    )


def check_annotated_size(where: str, said: _Size, image: Place, size: _Size) -> None:
    """Raise unless annotations are of an image of the size that it has, turned upright."""
    if said == size:
        return
    turned = "; is it annotated lying on its side?" if said == size[::-1] else ""
    raise DataError(
        f"{where}: says that {image.name} is {said[0]}x{said[1]}, but {image} is {size[0]}x"
        f"{size[1]} (height x width, upright){turned}; annotate the image as it is"
    )


def polygons_of(
    polygons: Sequence[Sequence[float]], size: _Size, called: str, rules: Rules
) -> np.ndarray:
    """Return the mask of polygons ``[x, y, x, y, ...]``; raise unless they are within the image."""
    h, w = size
    clipped = []
    for points in polygons:
        if len(points) < 6 or len(points) % 2:
            raise DataError(
                f"{called}: a polygon of {len(points)} numbers, need x and y of three points or "
                "more; correct it"
            )
        pairs = np.array(points, np.float64).reshape(-1, 2)
        inside = np.clip(pairs, 0, [w, h])
        if np.abs(pairs - inside).max() > HAIR and not rules.clip:
            raise DataError(
                f"{called}: a polygon reaches out of its image of {h}x{w} by more than a pixel; "
                "correct it, or write data.clip = true"
            )
        clipped.append(inside.ravel().tolist())
    return polygons_mask(clipped, size)


def ground_truth(boxes: np.ndarray, classes: np.ndarray, ignored: np.ndarray, ids: np.ndarray):
    """Return `model.detection.structures.GroundTruth`, which imports JAX: once it is needed."""
    from ....model.detection.structures import GroundTruth

    truth: Any = GroundTruth
    return truth(boxes, classes, ignored, ids)


def _stacked(found: Sequence[_Read], ids: np.ndarray, rules: Rules) -> Any:
    """Return the labels of all images."""
    most = max((len(one.objects) for one in found), default=0)
    M = rules.objects if rules.objects is not None else max(most, 1)
    boxes = np.zeros((len(found), M, 4), np.float32)
    classes = np.full((len(found), M), -1, np.int32)
    ignored = np.zeros((len(found), M), bool)
    for i, one in enumerate(found):
        n = len(one.objects)
        boxes[i, :n] = one.boxes
        classes[i, :n] = [o.k for o in one.objects]
        ignored[i, :n] = [o.ignored for o in one.objects]
    return ground_truth(boxes, classes, ignored, ids)


def _say_left_out(found: Sequence[_Read], rules: Rules, notes: Notes) -> None:
    small, crowd = sum(one.left_out for one in found), sum(one.crowd for one in found)
    ignored = sum(o.ignored for one in found for o in one.objects)
    empty = sum(not one.objects for one in found)
    if small:
        why = f"a side below data.smallest = {rules.smallest:g}, or no pixel"
        notes.add(numbered(f"{small:,} object(s) left out: {why}", small))
    if crowd:
        why = "the smallest where an image has more than data.objects"
        notes.add(numbered(f"{crowd:,} object(s) left out: {why}", crowd))
    if ignored:
        notes.add(numbered(f"{ignored:,} object(s) ignored: crowds, or difficult", ignored))
    if empty:
        notes.add(numbered(f"{empty:,} image(s) without objects", empty))


def _check_classes(splits: Sequence[Split], classes: Sequence[str]) -> None:
    """Raise where a class has objects in a split, but none to train on."""
    train, *others = (
        np.bincount(s.labels.classes[s.labels.classes >= 0], minlength=len(classes)) for s in splits
    )
    for name, counts in zip(SPLITS[1:], others, strict=True):
        absent = np.flatnonzero((counts > 0) & (train == 0))
        if len(absent):
            raise DataError(
                f"data: {name} has objects of {named(classes, absent)}, train has none; put some "
                "into both, or take them away"
            )
