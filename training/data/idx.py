"""IDX files: the format of MNIST, plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..common.unpack_limits import UnpackBudget, UnpackError
from .dataset import Dataset, Split
from .errors import DataError
from .streaming import Streamed

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_AGAIN = "copy or download it again"


def read_idx(path: str | Path) -> np.ndarray:
    """Read the array in an IDX file; gzip is recognized by its content.

    Two zero bytes, one for the dtype, one for the rank r; r big-endian 32-bit lengths; the
    numbers, big-endian, the last axis fastest.

    Args:
        path: the file.

    Returns:
        the array, in this machine's byte order.

    Raises:
        DataError: not an IDX file, damaged, cut short, longer than it says, or more than
            `UnpackLimits` allow.

    References:
        LeCun, Cortes & Burges, The MNIST database of handwritten digits, 1998.
    """
    try:
        with Path(path).open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                return _parse(file, path)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse(unzipped, path, UnpackBudget(Path(path)))
    except UnpackError as error:
        raise DataError(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file: {error}; {_AGAIN}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def load_idx(folder: str | Path) -> Dataset:
    """Load the four files of MNIST, or others of their kind, in one folder.

    ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with ``t10k`` (the test
    part); each may end in ``.gz``, and ``images.idx3`` may be written for ``images-idx3``.

    Args:
        folder: where they are.

    Returns:
        images ``(N, H, W, 1)``; the classes are "0" up to the largest label of the training part.

    Raises:
        DataError: a file is missing or damaged, or they do not fit each other.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise DataError(f"{folder}: {what}; data.path should be the folder of the IDX files")
    train, test = _read_part(folder, "train"), _read_part(folder, "t10k")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{folder}: training images are {_by(train.images)} but test images {_by(test.images)};"
            " put files of one dataset there"
        )
    classes = int(train.labels.max()) + 1
    if test.labels.max() >= classes:
        raise DataError(
            f"{folder}: the test part has label {test.labels.max()}, the training part none above "
            f"{classes - 1}; put files of one dataset there"
        )
    nothing = Split(train.images[:0], train.labels[:0])
    return Dataset(train, nothing, test, tuple(map(str, range(classes))))


def _parse(
    file: BinaryIO | gzip.GzipFile, path: str | Path, budget: UnpackBudget | None = None
) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not magic[3]:
        raise DataError(
            f"{path}: not an IDX file: it starts with the bytes {magic.hex(' ') or '(none)'}, "
            "need 00 00, a dtype (08, 09, 0b to 0e) and a rank; give a file like MNIST's"
        )
    dtype, rank = np.dtype(_DTYPES[magic[2]]), magic[3]
    lengths = file.read(4 * rank)
    if len(lengths) < 4 * rank:
        raise DataError(f"{path}: cut short inside its header; {_AGAIN}")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    need = math.prod(shape) * dtype.itemsize
    # In pieces: a header that lies must not make us ask for more memory than the file fills.
    body = bytearray()
    while len(body) <= need and (piece := file.read(1 << 20)):
        body += piece
        if budget is not None:
            budget.add_files([(Path(path).name, len(piece))], each=False)
    if len(body) < need:
        raise DataError(
            f"{path}: cut short: its header says {_times(shape)} numbers, {need} bytes, but "
            f"{len(body)} follow; {_AGAIN}"
        )
    if len(body) > need:
        raise DataError(
            f"{path}: too long: its header says {_times(shape)} numbers, {need} bytes, but more "
            f"follow; {_AGAIN}"
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_part(folder: Path, prefix: str) -> Split:
    """Read images and the labels that belong to them."""
    images_path = _find(folder, f"{prefix}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels", "idx1-ubyte")
    images = _read_bytes(images_path, rank=3, axes="(N, H, W)")
    labels = _read_bytes(labels_path, rank=1, axes="(N,)")
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: {images_path.name} has {len(images)} images but {labels_path.name} "
            f"{len(labels)} labels; put files of one dataset there"
        )
    return Split(images[..., None], labels.astype(np.int32))


def _find(folder: Path, stem: str, kind: str) -> Path:
    for separator in "-.":
        for ending in ("", ".gz"):
            path = folder / f"{stem}{separator}{kind}{ending}"
            if path.is_file():
                return path
    raise DataError(
        f"{folder}: no {stem}-{kind} here, plain or .gz; put it there, "
        "or get MNIST's four files with `convax fetch mnist`"
    )


def _read_bytes(path: Path, *, rank: int, axes: str) -> np.ndarray:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != rank or not array.size:
        raise DataError(
            f"{path}: holds {array.dtype} of shape {array.shape}, need uint8 of shape {axes}, "
            "none of them 0; check that no file was renamed"
        )
    return array


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _by(images: np.ndarray | Streamed) -> str:
    return _times(images.shape[1:3])
