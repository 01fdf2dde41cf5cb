"""Images too many for memory: files that are decoded when they are looked at."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError
from .image import decode, quiet_pillow


class Streamed:
    """An array ``(N, H, W, C)`` of bytes in all but memory: its images are files.

    ``len``, ``shape`` and ``dtype`` are an array's. An index that is a slice or an array gives
    another `Streamed`, a number one image, and `np.asarray` reads them all, on several threads.

    Args:
        files: the image files, see `as_files`.
        size, letterbox: ``(H, W)`` that each is resized to, and how, see `read_image`.
        channels: 1 or 3.
        num_workers: how many processes `read_batches` decodes in.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        files: np.ndarray,
        size: Sequence[int],
        channels: int,
        num_workers: int,
        letterbox: bool = False,
    ):
        self._files, self._size, self._channels = files, tuple(size), channels
        self.num_workers, self._letterbox = num_workers, letterbox

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return ``(N, H, W, C)``."""
        height, width = self._size
        return len(self._files), height, width, self._channels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        files = self._files[index]
        if isinstance(files, Path):
            return self.read([index])[0]
        return Streamed(files, self._size, self._channels, self.num_workers, self._letterbox)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode these images, one after the other on this thread."""
        with quiet_pillow():
            return np.stack([self._decoded(file) for file in self._files[indices]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Streamed: images are read from files: there is nothing to share")
        images = np.empty(self.shape, np.uint8)

        def read(i: int) -> None:
            images[i] = self._decoded(self._files[i])

        with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(read, range(len(self))))  # the first bad one in order is reported
        return images if dtype is None else images.astype(dtype)

    def identity(self) -> bytes:
        """Compute a digest that changes with the name or the length in bytes of any file.

        Their content is not read, which would take as long as an epoch.
        """
        how = " letterbox" if self._letterbox else ""
        digest = hashlib.sha256(f"{self.shape}{how}".encode())
        for file in self._files:
            try:
                name = f"{file.parent.name}/{file.name} {file.stat().st_size}\n"
                digest.update(name.encode(errors="surrogateescape"))
            except OSError as error:
                raise DataError(f"{file}: cannot be read: {error.strerror}") from None
        return digest.digest()

    def _decoded(self, file: Path) -> np.ndarray:
        how = {"size": self._size, "channels": self._channels, "letterbox": self._letterbox}
        return decode(file, **how)


def as_files(paths: Sequence[Path]) -> np.ndarray:
    """Make an array of one axis from paths, which indexes as one."""
    files = np.empty(len(paths), object)
    files[:] = paths
    return files
