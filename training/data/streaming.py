"""Arrays too large for memory: rows that are made, of files say, when they are looked at."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .each_file import read_each
from .errors import DataError
from .image import decode_with_size, quiet_pillow
from .pixels import Channels, format_of


class Deferred(ABC):
    """An array ``(N, ...)``, of bytes by default, in all but memory.

    ``len``, ``shape`` and ``dtype`` are an array's. An index that is a slice or an array gives
    another `Deferred`, a number one row, and `np.asarray` makes them all, on several threads.
    """

    dtype = np.dtype(np.uint8)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return ``(N, ...)``."""

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self.row(int(index))
        return self.chosen(index)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Make these rows, one after the other on this thread."""
        with quiet_pillow():
            return np.stack([self.row(i) for i in indices])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{type(self).__name__}: its rows are made: there is nothing to share")
        made = np.empty(self.shape, self.dtype)

        def make(i: int) -> None:
            made[i] = self.row(i)

        read_each(make, len(self))
        return made if dtype is None else made.astype(dtype)

    @abstractmethod
    def row(self, i: int) -> np.ndarray:
        """Make row `i`; within `quiet_pillow` on several threads."""

    @abstractmethod
    def chosen(self, index: slice | np.ndarray) -> "Deferred":
        """Return some of the rows, still to be made."""

    @abstractmethod
    def identity(self) -> bytes:
        """Compute a digest that changes with what the rows are made of."""


class Streamed(Deferred):
    """Images ``(N, H, W, C)`` that stay in their files until they are looked at.

    Args:
        files: the image files, see `as_files`.
        size, letterbox: ``(H, W)`` that each is resized to, and how, see `read_image`.
        channels: 1 or 3, or a `PixelFormat`.
        num_workers: how many processes `read_batches` decodes in.
        sizes: ``(N, 2)``, height and width that the upright images had when their labels were read,
            where those are in pixels.
        root: the folder of the data, whose own name is no part of what identifies an image in it.
    """

    def __init__(
        self,
        files: np.ndarray,
        size: Sequence[int],
        channels: Channels,
        num_workers: int,
        letterbox: bool = False,
        sizes: np.ndarray | None = None,
        root: Path | None = None,
    ):
        self._files, self._size, self._pixels = files, tuple(size), format_of(channels)
        self.dtype = np.dtype(self._pixels.dtype)
        self.num_workers, self._letterbox, self._sizes = num_workers, letterbox, sizes
        self._root = root

    @property
    def files(self) -> list[Path]:
        """Return the image files."""
        return list(self._files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return ``(N, H, W, C)``."""
        height, width = self._size
        return len(self._files), height, width, self._pixels.channels

    def row(self, i: int) -> np.ndarray:
        """Decode image `i`.

        Raises:
            DataError: it cannot be read, or has another size than its labels are of.
        """
        file = self._files[i]
        how = {"size": self._size, "channels": self._pixels, "letterbox": self._letterbox}
        image, size = decode_with_size(file, **how)
        if self._sizes is not None and size != tuple(self._sizes[i]):
            h, w = self._sizes[i]
            raise DataError(
                f"{file}: is {size[0]}x{size[1]}, and was {h}x{w} when its annotations were read; "
                "leave it as it is while it is trained on"
            )
        return image

    def chosen(self, index: slice | np.ndarray) -> "Streamed":
        """Return some of the images, still in their files."""
        sizes = None if self._sizes is None else self._sizes[index]
        how = (self._size, self._pixels, self.num_workers, self._letterbox)
        return Streamed(self._files[index], *how, sizes, self._root)

    def identity(self) -> bytes:
        """Compute a digest that changes with the name or the length in bytes of any file.

        The name has that of the folder before it, but for the folder of the data, which may move.
        Their content is not read, which would take as long as an epoch.
        """
        how = " letterbox" if self._letterbox else ""
        how += "" if self._pixels.is_photograph else f" {self.dtype}"
        digest = hashlib.sha256(f"{self.shape}{how}".encode())
        for file in self._files:
            try:
                folder = "" if file.parent == self._root else file.parent.name
                name = f"{folder}/{file.name} {file.stat().st_size}\n"
                digest.update(name.encode(errors="surrogateescape"))
            except OSError as error:
                raise DataError(f"{file}: cannot be read: {error.strerror}") from None
        return digest.digest()


def as_files(paths: Sequence[Path]) -> np.ndarray:
    """Make an array of one axis from paths, which indexes as one."""
    files = np.empty(len(paths), object)
    files[:] = paths
    return files
