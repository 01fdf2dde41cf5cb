"""The proposals of a data set: found once, kept on disk, put among its labels.

What is kept belongs to the images, whatever split they are in, and to how they were searched.
"""

import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...common import atomic_io
from ...common.cache import cache_directory
from ...common.hashing import json_digest
from ...common.text import plain_line
from ...common.unpack_limits import UnpackError, check_zip
from ..dataset import SPLITS, Dataset, Split
from ..errors import DataError
from ..image import quiet_pillow
from ..placement import place
from .objects import as_xywh
from .proposals import Proposing, image_digest, padded, propose, rows_of

_IOUS = (0.5, 0.7)  # at which it is said how many objects are met


def with_proposals(dataset: Dataset, how: Proposing) -> Dataset:
    """Return a data set with proposals of each image among its labels.

    Selective search takes some tenths of a second an image, so what it finds is kept in the user's
    cache. How many of the training objects are met by a proposal is noted.

    Args:
        dataset: whose labels are `model.detection.structures.GroundTruth`.
        how: they are proposed.

    Raises:
        DataError: they cannot be searched, see `proposals.propose`; or of "file", the file is not
            such a file, or lacks an image, or two images have one name.
    """
    splits = {name: getattr(dataset, name) for name in SPLITS}
    size, channels = dataset.train.images.shape[1:3], dataset.train.images.shape[-1]
    if channels not in (1, 3) or dataset.train.images.dtype != np.uint8:
        raise DataError(
            f"proposals: images are {channels} channels of {dataset.train.images.dtype}, need "
            "bytes, gray or in color; leave proposals out"
        )
    if how.searches:
        searched = _searched([part.images for part in splits.values()], how)
        found = dict(zip(splits, searched, strict=True))
    elif how.method == "file":
        _check_names(splits.values(), how)
        found = {name: _of_file(part, how) for name, part in splits.items()}
    else:
        same = propose(np.zeros((*size, 1), np.uint8), how)
        found = {name: [same] * part.count for name, part in splits.items()}
    rows = rows_of(how, size)
    made = {
        name: part._replace(labels=part.labels._replace(proposals=padded(found[name], rows)))
        for name, part in splits.items()
    }
    return dataset._replace(**made, notes=(*dataset.notes, _note(made["train"])))


def recall(split: Split, iou: float) -> float:
    """Return which share of the objects, without those ignored, some proposal meets by an IoU.

    The others can hardly be found by who looks at the proposals alone. 1 where there are none.
    """
    from pycocotools import mask as coco

    labels, met, objects = split.labels, 0, 0
    for boxes, classes, ignored, proposals in zip(
        labels.boxes, labels.classes, labels.ignored, labels.proposals, strict=True
    ):
        wanted = boxes[(classes >= 0) & ~ignored]
        objects += len(wanted)
        if len(wanted):
            crowds = [0] * len(wanted)
            best = np.asarray(coco.iou(as_xywh(proposals), as_xywh(wanted), crowds))
            best = best.max(axis=0, initial=0)
            met += int((best >= iou).sum())
    return met / objects if objects else 1.0


def _note(train: Split) -> str:
    there = (train.labels.proposals[..., 2:] > train.labels.proposals[..., :2]).all(axis=-1)
    met = ", ".join(f"{recall(train, iou):.1%} with IoU {iou}" for iou in _IOUS)
    return (
        f"{there.sum(axis=1).mean():,.0f} proposals an image; of the training objects they meet "
        f"{met}: the others can hardly be found"
    )


def _check_names(splits: Iterable[Split], how: Proposing) -> None:
    """Raise where two images have one name: a file has the boxes of one alone."""
    named: dict[str, list[tuple[Any, int]]] = {}
    for split in splits:
        for i, note in enumerate(split.notes):
            named.setdefault(note.file, []).append((split.images, i))
    with quiet_pillow():
        for name, places in named.items():
            if len(places) > 1 and len({image_digest(images[i]) for images, i in places}) > 1:
                raise DataError(
                    f"proposals.path: {how.path}: several images are named {name}; rename all but "
                    "one, here and in the file"
                )


def _of_file(split: Split, how: Proposing) -> list[np.ndarray]:
    """Return what a file has of each image, on the canvas: the first ones of too many."""
    path = how.path
    if not split.notes and split.count:
        raise DataError('proposals.method = "file": these images have no names; write another')
    if not zipfile.is_zipfile(path or ""):
        raise DataError(f"proposals.path: {path}: not an .npz file of boxes, which np.savez writes")
    try:
        with zipfile.ZipFile(path or "") as packed:
            check_zip(Path(path or ""), packed)
        with Path(path or "").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            stored = {note.file: file[note.file] for note in split.notes if note.file in file}
    except UnpackError as error:
        raise DataError(f"proposals.path: {path}: {error}") from None
    except Exception as error:  # zipfile raises many kinds on damaged data
        reason = plain_line(str(error), 200)
        raise DataError(f"proposals.path: {path}: damaged: {reason}; write it anew") from None
    found = []
    for note in split.notes:
        boxes = stored.get(note.file)
        if boxes is None:
            raise DataError(f"proposals.path: {path}: no proposals of {note.file}; add them")
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu":
            raise DataError(
                f"proposals.path: {path}: {note.file}: got {boxes.dtype} {boxes.shape}, need "
                "numbers (R, 4): x1 y1 x2 y2 in pixels of the image file"
            )
        if not np.isfinite(boxes).all():
            raise DataError(f"proposals.path: {path}: {note.file}: not finite; correct them")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise DataError(
                f"proposals.path: {path}: {note.file}: x2 < x1 or y2 < y1: is it x, y, width, "
                "height where two corners are needed? correct them"
            )
        where = place(note.size, split.images.shape[1:3], letterbox=how.letterbox)
        found.append(where.to_canvas(boxes[: how.most].astype(np.float64)).astype(np.float32))
    return found


def _searched(parts: Sequence[Any], how: Proposing) -> list[list[np.ndarray]]:
    """Return what is found in the images of each split, from disk where it is kept there."""
    with quiet_pillow():  # images of files are decoded as they are looked at
        digests = [[image_digest(part[i]) for i in range(len(part))] for part in parts]
        places = {d: (n, i) for n, ds in enumerate(digests) for i, d in enumerate(ds)}
        key = _key(list(places), how)
        file = cache_directory() / "proposals" / f"{key[:32]}.npz"
        found = _read(file, key)
        if found is None:
            with _progress(len(places), how) as seen, ThreadPoolExecutor(os.cpu_count()) as pool:

                def search(place: tuple[int, int]) -> np.ndarray:
                    boxes = propose(parts[place[0]][place[1]], how)
                    seen()
                    return boxes

                found = dict(zip(places, pool.map(search, places.values()), strict=True))
            _write(file, key, found)
    return [[found[d] for d in part] for part in digests]


def _key(digests: Sequence[bytes], how: Proposing) -> str:
    """Return what proposals depend on, as a text."""
    table = {name: getattr(how, name) for name in ("method", "most", "side", "letterbox")}
    return json_digest([table, sorted(digest.hex() for digest in set(digests))])


def _read(file: Path, key: str) -> dict[bytes, np.ndarray] | None:
    """Return the proposals of each image by its digest; None where they have to be found anew."""
    if not file.is_file():
        return None
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as stored:
            images, counts, boxes = (stored[name] for name in ("images", "counts", "boxes"))
            checksum = str(stored["checksum"])
    except Exception:  # zipfile raises many kinds on damaged data
        return _damaged(file)
    if checksum != _checksum(key, images, counts, boxes):
        return _damaged(file)
    each = np.split(boxes, np.cumsum(counts)[:-1])
    return {bytes(image): one for image, one in zip(images, each, strict=True)}


def _damaged(file: Path) -> None:
    _say(f"{file}: damaged: the proposals in it are found anew")


def _write(file: Path, key: str, found: dict[bytes, np.ndarray]) -> None:
    """Keep proposals; where they cannot be, say so: they are found anew the next time."""
    images = np.array([np.frombuffer(digest, np.uint8) for digest in found])
    counts = np.array([len(boxes) for boxes in found.values()], np.int32)
    boxes = np.concatenate(list(found.values()))
    checksum = _checksum(key, images, counts, boxes)
    content = io.BytesIO()
    np.savez(content, images=images, counts=counts, boxes=boxes, checksum=checksum)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_io.atomic_write(file, content.getvalue())
    except OSError as error:
        _say(f"{file}: proposals cannot be kept: {error.strerror}")


def _checksum(key: str, *arrays: np.ndarray) -> str:
    digest = hashlib.sha256(key.encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@contextmanager
def _progress(total: int, how: Proposing) -> Iterator[Callable[[], Any]]:
    """Show on standard error how far a search is; in one line where nobody looks."""
    said = f"proposals: {how.method} of {total:,} image(s)"
    if not sys.stderr.isatty():
        _say(f"{said} ...")
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as drawn:
        task = drawn.add_task(said, total=total)
        yield lambda: drawn.advance(task)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
