"""Images in folders, one folder for each class; the folders may be packed in an archive."""

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..common.text import plain_line, text_of_name
from .archive import ARCHIVES, Place, is_archive, read_archive, source_of
from .dataset import Dataset, Split
from .decoded_cache import Entry, decoded_once
from .each_file import (
    Kept,
    OnUnreadable,
    check_classes_kept,
    parts_kept,
    read_readable,
    rows_kept,
)
from .errors import DataError
from .image import EXTENSIONS, by, decode, quiet_pillow
from .labels import classes_of_each
from .listing import images_below, listed
from .notes import Notes
from .pixels import Channels, format_of
from .streaming import Streamed, as_files

_KINDS = ", ".join(ending[1:] for ending in EXTENSIONS)
# How a part's folder may be called, in any case.
_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid", "dev"),
}
SPLIT_FOLDERS = {name: part for part, names in _NAMES.items() for name in names}
# The images of each class, and where each is below the folder of its class.
_Images: TypeAlias = dict[str, list[tuple[str, Place]]]


def load_folder(
    root: str | Path,
    *,
    size: Sequence[int] | None = None,
    channels: Channels = 3,
    stream: bool = False,
    num_workers: int | None = None,
    several: bool = False,
    letterbox: bool = False,
    unreadable: OnUnreadable = "error",
) -> Dataset:
    """Read ``root/train/CLASS/*`` with ``root/test/CLASS/*``, or ``root/CLASS/*``.

    A ``validation`` folder is read like ``test``; both may be absent. The parts may also be called
    ``training``; ``val``, ``valid``, ``dev``; ``testing``; in any case. The classes are the folders
    of the training part, sorted by name, and so are the images in each; those in folders below a
    class's are of that class. Files that do not end in one of `EXTENSIONS`, in either case, and
    what systems hide are passed over: the dataset's notes say how many. In an archive all of it may
    be in one more folder.

    Args:
        root: the folder, or an archive of it: .zip, .tar, .tar.gz or .tgz.
        size: ``(H, W)`` that every image is resized to (see `read_image`); None where all have
            the same.
        channels: 1 for gray, 3 for color, or a `PixelFormat`.
        stream: leave the images in their files until they are needed: images are `Streamed`.
        num_workers: how many processes then decode those of training; by default one a core.
        several: images of one name in several folders are one image, of several classes.
        letterbox: see `read_image`.
        unreadable: what becomes of files that are no whole image: an "error", or "skip" leaves them
            out. Streamed ones, too, are decoded once beforehand then.

    Returns:
        images ``(N, H, W, channels)`` of the format's dtype, labels ``(N,)`` int32; or, of
        `several`, ``(N, K)`` uint8, 1 for each class that the image is of, in the order of their
        names. Without a ``train`` folder everything is the training part.

    Raises:
        DataError: no images where they should be, a class that only a part other than the
            training part has, an image that cannot be read, images of different sizes, or a
            damaged archive. Where they are streamed, an image is looked at when it is needed. All
            images of a class or part are unreadable.
    """
    notes = Notes()
    folders = _parts(Path(root), notes)
    parts = {part: _images_by_class(folder, notes) for part, folder in folders.items()}
    classes = tuple(parts["train"])
    for part, images in parts.items():
        unknown = sorted(set(images) - set(classes))
        if unknown:
            raise DataError(
                f"{root}: class {unknown[0]!r} is in {part} but not in train; "
                "put images of it into both, or take it away"
            )
    listed = {
        part: (_once if several else _each)(images, classes) for part, images in parts.items()
    }
    files = [file for found, _ in listed.values() for file in found]
    if stream:
        images, kept = streamed_readable(
            files, root, size, channels, num_workers, letterbox, unreadable
        )
    else:
        images, kept = read_all(
            files, size=size, channels=channels, letterbox=letterbox, unreadable=unreadable
        )
    rows = parts_kept({part: len(labels) for part, (_, labels) in listed.items()}, kept)
    check_classes_kept(classes_of_each(listed["train"][1], len(classes)), classes, kept)
    labels = np.concatenate([its for _, its in listed.values()])[kept.indices]
    splits = {part: Split(images[its], labels[its]) for part, its in rows.items()}
    nothing = Split(images[:0], labels[:0])
    train, validation, test = (splits.get(p, nothing) for p in ("train", "validation", "test"))
    return Dataset(train, validation, test, classes, notes.lines(), kept.unreadable)


def _each(images: _Images, classes: Sequence[str]) -> tuple[list[Place], np.ndarray]:
    """Return every file, with its class ``(N,)``."""
    counts = [len(images.get(name, ())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return [file for _, file in chain(*images.values())], labels


def _once(images: _Images, classes: Sequence[str]) -> tuple[list[Place], np.ndarray]:
    """Return one file of each name, with its classes ``(N, K)``."""
    found: dict[str, list[tuple[int, Place]]] = {}
    for k, name in enumerate(classes):
        for where, file in images.get(name, ()):
            found.setdefault(text_of_name(f"{where}/{file.name}"), []).append((k, file))
    labels = np.zeros((len(found), len(classes)), np.uint8)
    files = []
    for i, name in enumerate(sorted(found)):
        (_, first), *others = found[name]
        for _, other in others:
            if other.read_bytes() != first.read_bytes():
                raise DataError(
                    f"{first} and {other}: two images of one name, which should be one of two "
                    "classes; give one another name"
                )
        labels[i, [k for k, _ in found[name]]] = 1
        files.append(first)
    return files, labels


def folder_classes(root: str | Path) -> tuple[str, ...]:
    """Return the classes of `load_folder`, without decoding any image.

    Raises:
        DataError: no images where they should be, or a damaged archive.
    """
    notes = Notes()
    return tuple(_images_by_class(_parts(Path(root), notes)["train"], notes))


def _parts(path: Path, notes: Notes) -> dict[str, Place]:
    """Return the folder of each part that is there."""
    root = _root(path, notes)
    folders = listed(root, Notes()).folders
    named: dict[str, list[Place]] = {}
    for folder in folders:
        named.setdefault(SPLIT_FOLDERS.get(folder.name.lower(), ""), []).append(folder)
    # A folder of vehicles may well have a class called "train": it has no folders inside.
    if not any(_has_folders(folder) for folder in named.get("train", ())):
        if folders and "" not in named:
            names = ", ".join(folder.name for folder in folders)
            raise DataError(
                f"{root}: has {names} but no class folders in train; put the images "
                "into train/CLASS/ and test/CLASS/, or all into CLASS/"
            )
        return {"train": root}
    file = next((root / name for name in SPLIT_FOLDERS if (root / name).is_file()), None)
    if file is not None:
        raise DataError(f"{file}: a file where a folder of class folders should be; remove it")
    beside = named.pop("", [])
    for one, *others in named.values():
        if others:
            raise DataError(f"{root}: has both {one.name}/ and {others[0].name}/; merge them")
    notes.pass_over("image(s) beside the splits' folders", len(listed(root, notes).images))
    for folder in beside:
        count = sum(1 for _ in images_below(folder, Notes()))
        notes.pass_over(f"image(s) in {text_of_name(folder.name)}/, which is no split", count)
    return {part: named[part][0] for part in _NAMES if part in named}


def _has_folders(folder: Place) -> bool:
    return bool(listed(folder, Notes()).folders)


def _root(path: Path, notes: Notes) -> Place:
    """Return the folder; of an archive that holds one other than a part, that one."""
    if path.is_dir():
        return path
    if not is_archive(path):
        what = "a file" if path.exists() else "no such folder"
        raise DataError(
            f"{path}: {what}; data.path should be a folder of class folders, "
            f"or an archive of one ({', '.join(ARCHIVES)})"
        )
    root = read_archive(path, EXTENSIONS, notes)
    inside = listed(root, Notes())
    if not inside.images and len(inside.folders) == 1:
        (folder,) = inside.folders
        if folder.name.lower() not in SPLIT_FOLDERS and _has_folders(folder):
            listed(root, notes)
            return folder
    return root


def _images_by_class(folder: Place, notes: Notes) -> _Images:
    """Return the image files of each class."""
    found = listed(folder, notes)
    if found.images:
        raise DataError(f"{found.images[0]}: an image outside the class folders; put it into one")
    if not found.folders:
        raise DataError(f"{folder}: no class folders in it; put each class's images into one")
    classes: _Images = {}
    for of_class in found.folders:
        name = _class_name(of_class, notes)
        if name in classes:
            notes.add(f"two folders are class {name!r}: their accents are encoded differently")
        images = list(images_below(of_class, notes))
        if not images:
            raise DataError(
                f"{of_class}: a class folder without images ({_KINDS}); add some or remove it"
            )
        _check_below(of_class, images, notes)
        classes.setdefault(name, []).extend(images)
    return dict(sorted(classes.items()))


def _class_name(folder: Place, notes: Notes) -> str:
    name = text_of_name(folder.name)
    if not folder.name.isprintable():
        notes.add(
            f"class {plain_line(name, 80)}: the name of its folder is not UTF-8 text; rename it"
        )
    return name


def _check_below(of_class: Place, images: Sequence[tuple[str, Place]], notes: Notes) -> None:
    """Note the images in folders below a class's; raise where there are splits among them."""
    below = {where.partition("/")[0]: where for where, _ in images if where}
    if not below:
        return
    splits = [name for name in below if name.lower() in SPLIT_FOLDERS]
    if len(below) == len(splits) > 1:
        raise DataError(
            f"{of_class}: has the splits {', '.join(splits)} inside a class; need train/CLASS/ for "
            "each split, or this folder as data.path if all classes are in it"
        )
    if of_class.name.lower() in SPLIT_FOLDERS and all(where for where, _ in images):
        raise DataError(
            f"{of_class}: a split among class folders; put those beside it into train/, or give "
            "this one another name if it is a class"
        )
    count = sum(bool(where) for where, _ in images)
    example = text_of_name(f"{of_class.name}/{next(iter(below.values()))}")
    notes.add(
        f"class {plain_line(text_of_name(of_class.name), 80)}: {count:,} of its {len(images):,} "
        f"images are in folders below, such as {plain_line(example, 200)}"
    )


def streamed_files(
    files: Sequence[Place],
    root: str | Path,
    size: Sequence[int] | None,
    channels: Channels,
    num_workers: int | None,
    letterbox: bool,
    sizes: np.ndarray | None = None,
) -> Streamed:
    """Return images that stay in their files until they are needed; see `Streamed`.

    Raises:
        DataError: the files are in an archive, or nobody said how large the images are.
    """
    paths = [file for file in files if isinstance(file, Path)]
    if len(paths) < len(files):
        raise DataError(
            f"{root}: an archive cannot be streamed: unpack it, or write stream = false"
        )
    if size is None:
        raise DataError(
            "data.size: missing; data.stream = true needs the size that every image is resized "
            "to, e.g. size = [224, 224]"
        )
    workers = num_workers or os.cpu_count() or 1
    return Streamed(as_files(paths), size, channels, workers, letterbox, sizes, Path(root))


def streamed_readable(
    files: Sequence[Place],
    root: str | Path,
    size: Sequence[int] | None,
    channels: Channels,
    num_workers: int | None,
    letterbox: bool,
    unreadable: OnUnreadable,
) -> tuple[Streamed, Kept]:
    """Return `streamed_files` of those that can be read; "skip" decodes them all to see which."""
    images = streamed_files(files, root, size, channels, num_workers, letterbox)
    if unreadable == "error":
        return images, Kept(len(files), np.arange(len(files)), ())

    def look(i: int) -> None:
        _decoded(files[i], (1, 1), channels, letterbox=False)

    def look_at_all() -> Entry:
        return Entry((), read_readable(look, len(files), unreadable)[1])

    _, kept = decoded_once(files, {"made": "nothing", "pixels": format_of(channels)}, look_at_all)
    return images[kept.indices], kept


def read_all(
    files: Sequence[Place],
    *,
    size: Sequence[int] | None,
    channels: Channels,
    letterbox: bool,
    unreadable: OnUnreadable = "error",
) -> tuple[np.ndarray, Kept]:
    """Decode files on several threads, once: see `decoded_cache`; and say which could be.

    Raises:
        DataError: files that cannot be read, or that differ in size from the first that can.
    """
    how = {"size": size and list(size), "pixels": format_of(channels), "letterbox": letterbox}

    def make() -> Entry:
        images, kept = _decode_all(files, size, channels, letterbox, unreadable)
        return Entry((images,), kept)

    (images,), kept = decoded_once(files, {"made": "images", **how, "on": unreadable}, make)
    return images, kept


def _decode_all(
    files: Sequence[Place],
    size: Sequence[int] | None,
    channels: Channels,
    letterbox: bool,
    unreadable: OnUnreadable,
) -> tuple[np.ndarray, Kept]:
    first, shape = files[0], (0, 0)
    if size is not None:
        shape = tuple(size)
    else:  # that of the first that can be read
        for first in files:
            with suppress(DataError), quiet_pillow():
                shape = _decoded(first, size, channels, letterbox).shape[:2]
                break
    pixels = format_of(channels)
    images = np.empty((len(files), *shape, pixels.channels), pixels.dtype)

    def read(i: int) -> None:
        image = _decoded(files[i], size, channels, letterbox)
        if image.shape[:2] != shape:
            raise DataError(
                f"{files[i]} is {by(image)} but {first} is {by(images[0])}; "
                "set data.size = [height, width] to resize every image"
            )
        images[i] = image

    _, kept = read_readable(read, len(files), unreadable)
    return rows_kept(images, kept), kept


def _decoded(
    file: Place, size: Sequence[int] | None, channels: Channels, letterbox: bool
) -> np.ndarray:
    source, name = source_of(file), str(file)
    return decode(source, size=size, channels=channels, name=name, letterbox=letterbox)
