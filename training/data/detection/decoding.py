"""The images of annotated files: decoded once, and read again with whatever is annotated of them.

Boxes depend on the size of their image, so that both are read at once, and all that is wrong with
either is said at once. Where the images were decoded before (`decoded_cache`), their annotations
alone are read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..archive import Place, source_of
from ..decoded_cache import Entry, decoded_once
from ..each_file import Kept, Unreadable, read_readable
from ..errors import UnreadableError
from ..folder import streamed_files
from ..image import decode_with_size, size_in_head
from .objects import Rules, Size

_T = TypeVar("_T")


class Decoding:
    """Images on their canvas, or streamed ones, as they are decoded.

    Args:
        root: the folder of the data, or an archive.
        files: of the images.
        rules: how they become arrays.

    Attributes:
        images: ``(N, H, W, C)``; of those that could not be read all zero.
    """

    def __init__(self, root: str | Path, files: Sequence[Place], rules: Rules):
        self._files, self._rules = files, rules
        self._sizes = np.zeros((len(files), 2), np.int32)  # of those decoded by now
        self._left_out: dict[int, Unreadable] = {}
        if rules.stream:
            how = (rules.size, rules.channels, rules.num_workers, rules.letterbox)
            self.images: Any = streamed_files(files, root, *how, self._sizes)
        else:
            self.images = np.zeros((len(files), *rules.size, rules.channels), np.uint8)

    def read_with(self, read: Callable[[int, Size], _T]) -> tuple[list[_T], Kept]:
        """Call ``read(i, (h, w))`` of each image once its size is known; see `read_readable`."""
        results: list[tuple[list[_T], Kept]] = []

        def read_one(i: int) -> _T:
            return read(i, self._size(i))

        def make() -> Entry:
            results.append(read_readable(read_one, len(self._files), self._rules.unreadable))
            arrays = (self._sizes,) if self._rules.stream else (self._sizes, self.images)
            return Entry(arrays, self._decoded(results[0][1]))

        if self._rules.stream and self._rules.unreadable == "error":
            make()  # which reads heads alone
        else:
            self._take(decoded_once(self._files, self._how(), make))
        if results:
            return results[0]
        rules = self._rules
        return read_readable(read_one, len(self._files), rules.unreadable, "reading annotations")

    def _how(self) -> dict[str, Any]:
        rules = self._rules
        what = "sizes" if rules.stream else "sizes and images"
        how = {"size": list(rules.size), "channels": rules.channels, "letterbox": rules.letterbox}
        return {"made": what, "on": rules.unreadable} | ({} if rules.stream else how)

    def _take(self, entry: Entry) -> None:
        sizes, *images = entry.arrays
        self._sizes[:] = sizes
        self.images = images[0] if images else self.images
        kept = entry.kept
        self._left_out = dict(zip(kept.left_out.tolist(), kept.unreadable, strict=True))

    def _decoded(self, kept: Kept) -> Kept:
        """Return which images could be decoded, of which some may lack a mask that can be."""
        there = self._sizes.any(axis=1)
        unreadable = zip(kept.left_out, kept.unreadable, strict=True)
        return Kept(
            kept.count, np.flatnonzero(there), tuple(left for i, left in unreadable if not there[i])
        )

    def _size(self, i: int) -> Size:
        """Decode an image, unless it was before, and return its size."""
        if i in self._left_out:
            raise UnreadableError(self._left_out[i].file, "an image", self._left_out[i].reason)
        if not self._sizes[i].any():
            self._sizes[i] = self._decode(self._files[i], i)
        h, w = self._sizes[i].tolist()
        return h, w

    def _decode(self, file: Place, i: int) -> Size:
        rules = self._rules
        if rules.stream and isinstance(file, Path):
            if rules.unreadable == "error":
                return size_in_head(file)
            return decode_with_size(file, size=(1, 1), channels=1)[1]  # a head may stand alone
        self.images[i], size = decode_with_size(
            source_of(file),
            size=rules.size,
            channels=rules.channels,
            name=str(file),
            letterbox=rules.letterbox,
        )
        return size
