"""Images with their objects as every reader gives them, and what is checked of them, here alone.

All of it is in pixels of the upright image.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ...common.text import plain_line
from ..archive import ARCHIVES, Place, is_archive, read_archive
from ..each_file import OnUnreadable
from ..errors import DataError
from ..image import EXTENSIONS
from ..notes import Notes
from .rle import polygons_mask

MOST_MASKED = 254  # objects of an image with masks: a pixel's object is a byte
HAIR = 1.0  # pixels by which a box may reach out of its image: some count from 1
Size = tuple[int, int]


class Object(NamedTuple):
    """One object of an image, as its data set has it.

    Attributes:
        name: what errors call it, with the file.
        box: ``(x1, y1, x2, y2)`` in pixels of the upright image.
        k: its class.
        ignored: neither hit nor miss.
        area: in square pixels; where it is None that of the mask, or of the box without one.
        mask: ``(h, w)`` bool; None where there are no masks.
        doubt: what its numbers may be instead, said where the box reaches out of the image.
    """

    name: str
    box: tuple[float, float, float, float]
    k: int
    ignored: bool = False
    area: float | None = None
    mask: np.ndarray | None = None
    doubt: str = ""


def as_xywh(boxes: np.ndarray) -> np.ndarray:
    """Return boxes ``(..., 4)`` as x, y, width, height, which is COCO's way."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


class Annotated(NamedTuple):
    """An image file, and ``objects((h, w))`` of the upright image in it.

    Attributes:
        image: the file.
        id: as its data set has it.
        objects: makes them.
        classes: the numbers of theirs, known without the image.
    """

    image: Place
    id: int | str
    objects: Callable[[Size], list[Object]]
    classes: frozenset[int] = frozenset()


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
        stream: whether images stay in their files, and masks unpainted, until they are needed.
        num_workers: how many processes then make those of training; by default one a core.
        unreadable: what becomes of files that are no whole image: an "error", or "skip" leaves them
            out, with their objects.
    """

    size: Sequence[int]
    channels: int = 3
    letterbox: bool = False
    masks: bool = False
    objects: int | None = None
    crowded: Literal["error", "largest"] = "error"
    clip: bool = False
    smallest: float = 1.0
    stream: bool = False
    num_workers: int | None = None
    unreadable: OnUnreadable = "error"


def within(o: Object, size: Size, rules: Rules) -> Object | None:
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
    if reach(o.box, size) > HAIR and not rules.clip:
        raise DataError(
            f"{o.name}: box {shown} (x1 y1 x2 y2) reaches out of its image of {h}x{w} by more "
            f"than a pixel{o.doubt and f'; {o.doubt}'}; correct it, or write data.clip = true"
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


def reach(box: Sequence[float], size: Size) -> float:
    """Return by how many pixels a box reaches out of an image."""
    (x1, y1, x2, y2), (h, w) = box, size
    return max(0.0, -x1, -y1, x2 - w, y2 - h)


def area_of(o: Object) -> float:
    """Return the area of an object, in square pixels."""
    if o.area is not None:
        return float(o.area)
    if o.mask is not None:
        return float(o.mask.sum())
    x1, y1, x2, y2 = o.box
    return float((x2 - x1) * (y2 - y1))


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


def check_class_name(name: str, called: str) -> None:
    """Raise unless the name of a class is text that can be shown."""
    if not name or not name.isprintable():
        raise DataError(
            f"{called}: class {plain_line(repr(name), 80)}: a name needs printable characters; "
            "correct it"
        )


def check_annotated_size(where: str, said: Size, image: Place, size: Size) -> None:
    """Raise unless annotations are of an image of the size that it has, turned upright."""
    if said == size:
        return
    turned = "; is it annotated lying on its side?" if said == size[::-1] else ""
    raise DataError(
        f"{where}: says that {image.name} is {said[0]}x{said[1]}, but {image} is {size[0]}x"
        f"{size[1]} (height x width, upright){turned}; annotate the image as it is"
    )


def polygons_of(
    polygons: Sequence[Sequence[float]], size: Size, called: str, rules: Rules
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
