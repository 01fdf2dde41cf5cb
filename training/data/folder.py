"""Images in folders, one folder for each class; the folders may be packed in an archive."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from .archive import ARCHIVES, Place, is_archive, read_archive, source_of, visible
from .dataset import Dataset, Split
from .errors import DataError
from .image import EXTENSIONS, by, decode, is_image_file, quiet_pillow
from .streaming import Streamed, as_files

_KINDS = ", ".join(ending[1:] for ending in EXTENSIONS)
# How a part's folder may be called.
_PARTS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}


def load_folder(
    root: str | Path,
    *,
    size: Sequence[int] | None = None,
    channels: int = 3,
    stream: bool = False,
    num_workers: int | None = None,
    several: bool = False,
) -> Dataset:
    """Read ``root/train/CLASS/*`` with ``root/test/CLASS/*``, or ``root/CLASS/*``.

    A ``validation`` (or ``val``) folder is read like ``test``; both may be absent. The classes are
    the folders of the training part, sorted by name, and so are the images in each. Names that
    start with a dot are passed over, and so are files that do not end in png, jpg, jpeg, bmp,
    webp, gif, tif or tiff, in either case. In an archive all of it may be in one more folder.

    Args:
        root: the folder, or an archive of it: .zip, .tar, .tar.gz or .tgz.
        size: ``(H, W)`` that every image is resized to (see `read_image`); None where all have
            the same.
        channels: 1 for gray, 3 for color.
        stream: leave the images in their files until they are needed: images are `Streamed`.
        num_workers: how many processes then decode those of training; by default one a core.
        several: images of one name in several folders are one image, of several classes.

    Returns:
        images ``(N, H, W, channels)`` with labels ``(N,)`` int32; or, of `several`, ``(N, K)``
        uint8, 1 for each class that the image is of, in the order of their names. Without a
        ``train`` folder everything is the training part.

    Raises:
        DataError: no images where they should be, a class that only a part other than the
            training part has, an image that cannot be read, images of different sizes, or a
            damaged archive. Where they are streamed, an image is looked at when it is needed.
    """
    parts = {part: _images_by_class(folder) for part, folder in _parts(Path(root)).items()}
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
        images = streamed_files(files, root, size, channels, num_workers)
    else:
        images = read_all(files, size=size, channels=channels)
    splits, start = {}, 0
    for part, (_, labels) in listed.items():
        splits[part] = Split(images[start : start + len(labels)], labels)
        start += len(labels)
    nothing = Split(images[:0], listed["train"][1][:0])
    train, validation, test = (splits.get(p, nothing) for p in ("train", "validation", "test"))
    return Dataset(train, validation, test, classes)


def _each(images: dict[str, list[Place]], classes: Sequence[str]) -> tuple[list[Place], np.ndarray]:
    """Return every file, with its class ``(N,)``."""
    counts = [len(images.get(name, ())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return list(chain(*images.values())), labels


def _once(images: dict[str, list[Place]], classes: Sequence[str]) -> tuple[list[Place], np.ndarray]:
    """Return one file of each name, with its classes ``(N, K)``."""
    found: dict[str, list[tuple[int, Place]]] = {}
    for k, name in enumerate(classes):
        for file in images.get(name, ()):
            found.setdefault(file.name, []).append((k, file))
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
    return tuple(_images_by_class(_parts(Path(root))["train"]))


def _parts(path: Path) -> dict[str, Place]:
    """Return the folder of each part that is there."""
    root = _root(path)
    inside = {path.name: path for path in visible(root)}
    named = {name: inside[name] for name in _PARTS if name in inside}
    # A folder of vehicles may well have a class called "train": it has no folders inside.
    parted = "train" in named and named["train"].is_dir() and any(_folders(named["train"]))
    if not parted:
        names = [path.name for path in _folders(root)]
        if names and set(names) <= set(_PARTS):
            raise DataError(
                f"{root}: has {', '.join(names)} but no class folders in train; put the images "
                "into train/CLASS/ and test/CLASS/, or all into CLASS/"
            )
        return {"train": root}
    for part in named.values():
        if not part.is_dir():
            raise DataError(f"{part}: a file where a folder of class folders should be; remove it")
    if {"val", "validation"} <= set(named):
        raise DataError(f"{root}: has both val/ and validation/; merge them")
    return {_PARTS[name]: path for name, path in named.items()}


def _root(path: Path) -> Place:
    """Return the folder; of an archive that holds one other than a part, that one."""
    if path.is_dir():
        return path
    if not is_archive(path):
        what = "a file" if path.exists() else "no such folder"
        raise DataError(
            f"{path}: {what}; data.path should be a folder of class folders, "
            f"or an archive of one ({', '.join(ARCHIVES)})"
        )
    root = read_archive(path, EXTENSIONS)
    inside = visible(root)
    if len(inside) == 1 and inside[0].name not in _PARTS and _folders(inside[0]):
        return inside[0]
    return root


def _images_by_class(folder: Place) -> dict[str, list[Place]]:
    """Return the image files of each class."""
    stray = next((path for path in visible(folder) if is_image_file(path)), None)
    if stray:
        raise DataError(f"{stray}: an image outside the class folders; put it into one")
    images = {c.name: [p for p in visible(c) if is_image_file(p)] for c in _folders(folder)}
    if not images:
        raise DataError(f"{folder}: no class folders in it; put each class's images into one")
    empty = next((name for name, files in images.items() if not files), None)
    if empty is not None:
        raise DataError(
            f"{folder / empty}: a class folder without images ({_KINDS}); add some or remove it"
        )
    return images


def streamed_files(
    files: Sequence[Place],
    root: str | Path,
    size: Sequence[int] | None,
    channels: int,
    num_workers: int | None,
) -> Streamed:
    """Return images that stay in their files until they are needed.

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
    return Streamed(as_files(paths), size, channels, num_workers or os.cpu_count() or 1)


def read_all(files: Sequence[Place], *, size: Sequence[int] | None, channels: int) -> np.ndarray:
    """Decode files on several threads; the first bad one in order is reported."""
    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        first = _decoded(files[0], size, channels)
        images = np.empty((len(files), *first.shape), np.uint8)

        def read(i: int) -> None:
            image = _decoded(files[i], size, channels)
            if image.shape != first.shape:
                raise DataError(
                    f"{files[i]} is {by(image)} but {files[0]} is {by(first)}; "
                    "set data.size = [height, width] to resize every image"
                )
            images[i] = image

        list(pool.map(read, range(len(files))))
    return images


def _decoded(file: Place, size: Sequence[int] | None, channels: int) -> np.ndarray:
    return decode(source_of(file), size=size, channels=channels, name=str(file))


def _folders(folder: Place) -> list[Place]:
    return [path for path in visible(folder) if path.is_dir()]
