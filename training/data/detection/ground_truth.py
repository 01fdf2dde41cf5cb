"""From images with their objects, whatever file says where they are, to the labels of detectors.

Every reader of boxes gives `Annotated` images; here, and here alone, they are decoded, brought to
the canvas and counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..archive import Place
from ..dataset import SPLITS, Dataset, ImageNote, Split
from ..each_file import check_classes_kept, parts_kept, rows_kept
from ..errors import DataError
from ..labels import named
from ..notes import Notes, numbered
from ..placement import place
from ..tree import rows
from .decoding import Decoding
from .objects import (
    HAIR,
    MOST_MASKED,
    Annotated,
    Object,
    Rules,
    Size,
    area_of,
    reach,
    tight_box,
    within,
)
from .painted import Painted, Painting, as_paintings, paint
from .rle import encode_mask


class _Read(NamedTuple):
    """What an image became."""

    boxes: np.ndarray  # (n, 4) on the canvas
    objects: list[Object]
    note: ImageNote
    painting: Painting
    counts: Counter[str]  # see `SAID`


# What is said of how many, in this order.
SAID = {
    "small": "object(s) left out: a side below data.smallest = {smallest:g}, or no pixel",
    "clipped": "object(s) clipped: the box reached out of its image by more than a pixel",
    "crowded": "object(s) left out: the smallest where an image has more than data.objects",
    "repeated": "object(s) repeated: the class and the box of another in the image",
    "apart": "object(s) whose box and mask disagree: less than half of them is in both",
    "ignored": "object(s) ignored: crowds, or difficult",
    "empty": "image(s) without objects",
}


def read_annotated(
    root: str | Path,
    parts: Mapping[str, Sequence[Annotated]],
    classes: Sequence[str],
    rules: Rules,
    notes: Notes,
    category_ids: Sequence[int] = (),
) -> Dataset:
    """Decode images, on several threads, and make arrays of their objects.

    Where images are streamed their sizes are read alone, and the masks are `Painted`.

    Args:
        root: the folder of the data, or an archive.
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
    files = [one.image for one in annotated]
    painted = rules.masks and not rules.stream
    ids: Any = np.zeros((len(files), *((H, W) if painted else (0, 0))), np.uint8)

    def read(i: int, size: Size) -> _Read:
        found = _read(annotated[i], size, rules, tuple(category_ids))
        if painted:
            ids[i] = paint(found.painting, (H, W))
        return found

    decoding = Decoding(root, files, rules)
    found, kept = decoding.read_with(read)
    images = decoding.images
    parts = {name: parts.get(name, ()) for name in SPLITS}
    places = parts_kept({name: len(part) for name, part in parts.items()}, kept)
    if kept.unreadable:
        has = [[k in one.classes for k in range(len(classes))] for one in parts["train"]]
        check_classes_kept(np.array(has, bool), classes, kept)
        images = images[kept.indices] if rules.stream else rows_kept(images, kept)
        ids = rows_kept(ids, kept)
    if rules.masks and rules.stream:
        ids = Painted(as_paintings([one.painting for one in found]), (H, W))
    labels = _stacked(found, ids, rules)
    _say(found, rules, notes)
    splits: list[Split] = []
    for these in places.values():
        own = tuple(one.note for one in found[these])
        splits.append(Split(images[these], rows(labels, these), own))
    _check_classes(splits, classes)
    train, validation, test = splits
    return Dataset(train, validation, test, tuple(classes), notes.lines(), kept.unreadable)


def _read(annotated: Annotated, size: Size, rules: Rules, category_ids: tuple[int, ...]) -> _Read:
    """Check the objects of an image, and bring them to the canvas."""
    objects = annotated.objects(size)
    clipped = [within(o, size, rules) for o in objects]
    large = [o for o in clipped if o is not None]
    kept = _with_room(large, rules, annotated.image)
    placement = place(size, rules.size, letterbox=rules.letterbox)
    boxes = placement.to_canvas(np.array([o.box for o in kept], np.float64).reshape(-1, 4))
    note = ImageNote(
        file=annotated.image.name,
        id=annotated.id,
        size=size,
        scale=placement.scale,
        areas=tuple(area_of(o) for o in kept),
        masks=tuple(encode_mask(o.mask) for o in kept if o.mask is not None) if rules.masks else (),
        category_ids=category_ids,
    )
    # The smaller one lies on top, and all lie on crowds.
    order = sorted(range(len(kept)), key=lambda i: (not kept[i].ignored, -note.areas[i]))
    runs = tuple(note.masks[i]["counts"] for i in order) if rules.masks else ()
    painting = Painting(placement, runs, tuple(i + 1 for i in order))
    plain = [o._replace(mask=None) for o in kept]
    counts = {
        "small": len(objects) - len(large),
        "clipped": sum(
            new is not None and reach(old.box, size) > HAIR
            for old, new in zip(objects, clipped, strict=True)
        ),
        "crowded": len(large) - len(kept),
        "repeated": len(kept) - len({(o.k, o.box) for o in kept}),
        "apart": sum(_disagrees(o) for o in kept),
        "ignored": sum(o.ignored for o in kept),
        "empty": not kept,
    }
    return _Read(boxes, plain, note, painting, Counter(counts))


def _disagrees(o: Object) -> bool:
    """Return whether less than half of an object's box and of that around its mask is in both."""
    if o.mask is None:
        return False
    (a, b, c, d), (e, f, g, h) = o.box, tight_box(o.mask)
    both = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
    return 2 * both < (c - a) * (d - b) + (g - e) * (h - f) - both


def _with_room(objects: list[Object], rules: Rules, image: Place) -> list[Object]:
    """Return the objects of an image that there is room for."""
    room = len(objects) if rules.objects is None else rules.objects
    if len(objects) > room:
        if rules.crowded == "error":
            raise DataError(
                f"{image}: {len(objects)} objects where data.objects = {room}; write "
                f'data.objects = {len(objects)}, or data.crowded = "largest" to keep the largest'
            )
        largest = sorted(range(len(objects)), key=lambda i: -area_of(objects[i]))[:room]
        objects = [objects[i] for i in sorted(largest)]
    if rules.masks and len(objects) > MOST_MASKED:
        raise DataError(
            f"{image}: {len(objects)} objects with masks, need {MOST_MASKED} at most: a "
            "pixel says in a byte whose it is; keep the largest (data.objects, data.crowded), or "
            "take some away"
        )
    return objects


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


def _say(found: Sequence[_Read], rules: Rules, notes: Notes) -> None:
    counts = sum((one.counts for one in found), Counter[str]())
    for key, text in SAID.items():
        if counts[key]:
            line = f"{counts[key]:,} {text.format(smallest=rules.smallest)}"
            notes.add(numbered(line, counts[key]))


def _check_classes(splits: Sequence[Split], classes: Sequence[str]) -> None:
    """Raise where a class has objects in a split, but none to train on."""
    train, *others = (
        np.bincount(
            s.labels.classes[(s.labels.classes >= 0) & ~s.labels.ignored], minlength=len(classes)
        )
        for s in splits
    )
    for name, counts in zip(SPLITS[1:], others, strict=True):
        absent = np.flatnonzero((counts > 0) & (train == 0))
        if len(absent):
            raise DataError(
                f"data: {name} has objects of {named(classes, absent)}, train has none; put some "
                "into both, or take them away"
            )
