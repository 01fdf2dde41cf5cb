"""CIFAR-10 and CIFAR-100 in their binary version."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .archive import Place, is_archive, read_archive
from .dataset import Dataset, Split
from .errors import DataError
from .notes import Notes

_PIXELS = 3 * 32 * 32  # a record's bytes behind its labels


class _Layout(NamedTuple):
    """How one of the two is stored."""

    classes: int
    labels: int  # bytes in front of the pixels, of which the last is the label
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str


_CIFAR10 = _Layout(
    classes=10,
    labels=1,
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test=("test_batch.bin",),
    names="batches.meta.txt",
)
_CIFAR100 = _Layout(
    classes=100, labels=2, train=("train.bin",), test=("test.bin",), names="fine_label_names.txt"
)
_UNPACKED = ("cifar-10-batches-bin", "cifar-100-binary")
_PACKED = ("cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz")
_AGAIN = "copy or download it again"


def load_cifar(path: str | Path) -> Dataset:
    """Load the binary version of CIFAR-10 or CIFAR-100, unpacked or as it came.

    A record is its label, one byte, and 3,072 bytes of 32x32 pixels: all red ones, all green, all
    blue, each row by row. Those of CIFAR-100 begin with one byte more, the coarse label, which is
    not used.

    Args:
        path: the folder of data_batch_1.bin ... data_batch_5.bin, test_batch.bin and
            batches.meta.txt (or train.bin, test.bin and fine_label_names.txt), the .tar.gz of it,
            or the folder that either is in.

    Returns:
        images ``(N, 32, 32, 3)``.

    Raises:
        DataError: a file is missing, is not made of whole records, or has a label out of range.

    References:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    folder = _folder(Path(path))
    layout = _CIFAR100 if (folder / "train.bin").is_file() else _CIFAR10
    classes = _names(folder, layout)
    train, test = (_read_part(folder, files, layout) for files in (layout.train, layout.test))
    return Dataset(train, Split(train.images[:0], train.labels[:0]), test, classes)


def _folder(path: Path) -> Place:
    """Return the folder of the files, wherever below `path` it is."""
    if is_archive(path):
        packed = read_archive(path, (".bin", ".txt"), Notes())
        return next((packed / name for name in _UNPACKED if (packed / name).is_dir()), packed)
    if not path.is_dir():
        what = "a file" if path.exists() else "not there"
        raise DataError(f"{path}: {what}; data.path should be the folder of CIFAR's .bin files")
    for name in _UNPACKED:
        if (path / name).is_dir():
            return path / name
    for name in _PACKED:
        if is_archive(path / name):
            return _folder(path / name)
    return path


def _names(folder: Place, layout: _Layout) -> tuple[str, ...]:
    file = _find(folder, layout.names)
    names = tuple(file.read_bytes().decode("utf-8", "replace").split())
    if len(names) != layout.classes or len(set(names)) < len(names):
        raise DataError(
            f"{file}: has {len(set(names))} different names, need {layout.classes}, one a line; "
            f"{_AGAIN}"
        )
    return names


def _read_part(folder: Place, names: tuple[str, ...], layout: _Layout) -> Split:
    records = np.concatenate([_records(_find(folder, name), layout) for name in names])
    pixels = records[:, layout.labels :].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return Split(images, records[:, layout.labels - 1].astype(np.int32))


def _records(file: Place, layout: _Layout) -> np.ndarray:
    """Return the records of a file, ``(N, labels + 3072)``, uint8."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    length = layout.labels + _PIXELS
    if not content or len(content) % length:
        raise DataError(
            f"{file}: {len(content)} bytes, need a multiple of {length}, the length of a record "
            f"of CIFAR-{layout.classes}; {_AGAIN}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    labels = records[:, layout.labels - 1]
    wrong = np.flatnonzero(labels >= layout.classes)
    if wrong.size:
        raise DataError(
            f"{file}: label {labels[wrong[0]]} in record {wrong[0]} (from 0), need 0 to "
            f"{layout.classes - 1}; {_AGAIN}"
        )
    return records


def _find(folder: Place, name: str) -> Place:
    file = folder / name
    if not file.is_file():
        raise DataError(
            f"{folder}: no {name} here; put CIFAR's binary version there, "
            "or get CIFAR-10 with `convax fetch cifar10`"
        )
    return file
