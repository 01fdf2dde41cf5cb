"""What is in the data: read by its own source, and looked at image by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import (
    COLOR,
    SPLITS,
    DataError,
    Dataset,
    PixelFormat,
    decode_with_size,
    examples_of_each,
    load,
    mask_pairs,
    pixel_format,
    quiet_pillow,
)
from ..data.each_file import Unreadable, parts_kept, read_readable
from ..data.errors import UnreadableError
from ..data.image import by, stored_format
from ..data.load import name_below
from ..data.notes import Notes
from ..data.pixels import FormatError
from ..tasks.spec import LabelKind
from .layouts import Layout

MOST_LOOKED_AT = 2000  # images that are decoded to see their size and colors
_SMALL = 64  # pixels of each side that masks are looked at in
_GRAY = 8  # by how much colors may differ in a gray photograph that was saved as color


class Objects(NamedTuple):
    """The boxes of all objects that are not ignored.

    Attributes:
        sides: ``(n, 2)`` height and width, as shares of the image's.
        images: ``(n, 2)`` height and width of the image, in pixels.
        most: the largest number of objects in an image.
    """

    sides: np.ndarray
    images: np.ndarray
    most: int


NO_OBJECTS = Objects(np.zeros((0, 2)), np.zeros((0, 2)), 0)


class Survey(NamedTuple):
    """What was found.

    Attributes:
        counts: images of each split.
        classes: their names; of values those of the columns.
        of_class: how many images, of all splits, have each class; None where labels do not say.
        sizes: ``(n, 2)`` height and width of the images that were looked at.
        channels: 1 where all of these are gray, 3 where they are in color; or as many as the first
            has, of images that are no photographs.
        dtype: of their values.
        unreadable: files that are no whole image.
        notes: what the reader of the data says.
        pixels: the share of each class of masks.
        objects: of boxes.
    """

    counts: dict[str, int]
    classes: tuple[str, ...]
    of_class: np.ndarray | None
    sizes: np.ndarray
    channels: int
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]
    pixels: np.ndarray | None = None
    objects: Objects = NO_OBJECTS
    dtype: str = "uint8"

    @property
    def total(self) -> int:
        """Return how many images there are."""
        return sum(self.counts.values())

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width in the middle of all."""
        h, w = np.median(self.sizes, axis=0)
        return int(h), int(w)

    def lines(self) -> list[str]:
        """Return what was found, a line each."""
        parts = [f"{name} {count:,}" for name, count in self.counts.items() if count]
        lines = [f"images: {self.total:,}" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")]
        if self.of_class is not None:
            lines.append(f"classes: {len(self.classes)}: {_counted(self.classes, self.of_class)}")
        else:
            lines.append(f"values: {', '.join(self.classes)}")
        lines.append(f"height x width: {_range(self.sizes)}")
        if self.dtype == "uint8" and self.channels in (1, 3):
            lines.append("color: gray" if self.channels == 1 else "color: red, green, blue")
        else:
            lines.append(f"channels: {self.channels}, of {self.dtype}")
        if self.pixels is not None:
            shares = (f"{n} {s:.1%}" for n, s in zip(self.classes, self.pixels, strict=True))
            lines.append(f"pixels: {', '.join(shares)}")
        if self.objects.most:
            small, large = np.percentile(_pixels(self.objects), [5, 95])
            lines.append(
                f"objects: {len(self.objects.sides):,}, at most {self.objects.most} in an image; "
                f"sides: {small:.0f} to {large:.0f} pixels of nearly all"
            )
        looked = len(self.sizes) + len(self.unreadable)
        if looked < self.total:
            lines.append(f"looked at: {looked:,} of these images")
        if self.unreadable:
            lines.append(f"unreadable files, left out: {len(self.unreadable):,}")
        return lines


def survey(layout: Layout, kind: LabelKind) -> Survey:
    """Read the labels as a training does, and look at the images.

    Args:
        layout: what the folder is.
        kind: what is to be learned of an image.

    Raises:
        DataError: what the source raises; or no image can be read.
    """
    side = _SMALL if kind == "mask" else 1  # boxes come as shares of the image
    path = layout.path.absolute()
    options: dict[str, Any] = {
        **layout.data,
        "path": str(path),
        "size": (side, side),
        "channels": 3,
        "stream": kind != "mask",
        "labels": kind,
        "seed": 0,
    }
    try:
        dataset = load(**options)
    except DataError:  # which may be of files that can be left out
        dataset = load(**options, unreadable="skip")
    parts = [getattr(dataset, name) for name in SPLITS]
    if kind == "mask":
        its, masks = layout.data["images"], layout.data["masks"]
        files: list[Any] = [image for image, _ in mask_pairs(path, its, masks, Notes())]
    else:
        files = [file for part in parts for file in part.images.files]
    pixels = COLOR if kind != "class" else _format(files[0])
    sizes, channels, unreadable = _look(files, pixels)
    unreadable = [each._replace(file=name_below(each.file, path)) for each in unreadable]
    each = [examples_of_each(part.labels, len(dataset.classes)) for part in parts]
    of_class = [counts for counts in each if counts is not None]
    return Survey(
        counts={name: part.count for name, part in zip(SPLITS, parts, strict=True)},
        classes=dataset.classes,
        of_class=np.sum(of_class, axis=0) if of_class else None,
        sizes=sizes,
        channels=channels,
        dtype=pixels.dtype,
        unreadable=tuple(dict.fromkeys((*dataset.unreadable, *unreadable))),
        notes=dataset.notes,
        pixels=_shares(dataset) if kind == "mask" else None,
        objects=_objects(dataset) if kind in ("boxes", "instances") else NO_OBJECTS,
    )


def _format(file: Path) -> PixelFormat:
    """Return the format of an image file: that of photographs unless it is plainly another."""
    try:
        with quiet_pillow():
            channels, dtype = stored_format(file)
    except (UnreadableError, FormatError):  # such as a palette's; decoding says what is wrong
        return COLOR
    if dtype == "uint16":
        return pixel_format(channels, dtype)
    # Transparency is part of a photograph; and of floating point nobody knows the range: decoding
    # says what to write.
    return PixelFormat(channels) if dtype == "uint8" and channels > 4 else COLOR


def _look(
    files: Sequence[Path], pixels: PixelFormat
) -> tuple[np.ndarray, int, tuple[Unreadable, ...]]:
    """Decode images, spread evenly over all: their sizes, channels, and what cannot be read."""
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), MOST_LOOKED_AT), dtype=int))

    def look(i: int) -> tuple[tuple[int, int], bool]:
        image, size = decode_with_size(files[chosen[i]], size=(32, 32), channels=pixels)
        gray = pixels.is_photograph and np.ptp(image.astype(np.int16), axis=-1).max() <= _GRAY
        return size, bool(gray)

    seen, kept = read_readable(look, len(chosen), "skip")
    parts_kept({"train": len(chosen)}, kept)
    gray = all(is_gray for _, is_gray in seen)
    channels = 1 if gray else pixels.channels
    return np.array([size for size, _ in seen]), channels, kept.unreadable


def _shares(dataset: Dataset) -> np.ndarray:
    """Return the share of each class of the pixels of all masks."""
    K = len(dataset.classes)
    counts = np.bincount(dataset.train.labels.ravel(), minlength=K)[:K]
    return counts / max(counts.sum(), 1)


def _objects(dataset: Dataset) -> Objects:
    sides, images, most = [], [], 0
    for name in SPLITS:
        split = getattr(dataset, name)
        there = (split.labels.classes >= 0) & ~split.labels.ignored
        boxes = split.labels.boxes
        sides.append((boxes[..., 3:1:-1] - boxes[..., 1::-1])[there])
        of = np.array([note.size for note in split.notes]).reshape(-1, 1, 2)
        images.append(np.broadcast_to(of, (*there.shape, 2))[there])
        most = max(most, int(there.sum(axis=1).max(initial=0)))
    if not most:
        raise DataError("data: no objects in any image; annotate some")
    return Objects(np.concatenate(sides), np.concatenate(images), most)


def _pixels(objects: Objects) -> np.ndarray:
    """Return the side of each object in its image: that of a square of its area."""
    return np.sqrt((objects.sides * objects.images).prod(axis=1))


def _range(sizes: np.ndarray) -> str:
    least, middle, most = sizes.min(axis=0), np.median(sizes, axis=0), sizes.max(axis=0)
    if (least == most).all():
        return f"{_by(least)}, all of them"
    return f"{_by(least)} to {_by(most)}, {_by(middle)} in the middle"


def _by(size: np.ndarray) -> str:
    return by(np.empty(size.astype(int)))


def _counted(classes: Sequence[str], counts: np.ndarray, most: int = 12) -> str:
    """Return the classes and their images; of many classes the rarest and the most frequent."""
    pairs = [f"{name} {count:,}" for name, count in zip(classes, counts, strict=True)]
    if len(pairs) <= most:
        return ", ".join(pairs)
    order = np.argsort(counts, kind="stable")
    rare, frequent = [pairs[i] for i in order[:4]], [pairs[i] for i in order[:-5:-1]]
    return f"from {', '.join(rare)} ... to {', '.join(frequent[::-1])}"
