"""How much a packed file may unpack to: archives, .npz, .gz, and PyTorch's files, which are .zip.

A few bytes can unpack to more than the memory holds, and names can have more parts than a stack is
deep. What is unpacked is counted against `UnpackLimits` before it is read.
"""

import os
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from .errors import ConvaxError
from .text import plain_line

VARIABLE = "CONVAX_UNPACK_LIMITS"
_ALWAYS_ALLOWED = 2**28  # bytes unpacked, whatever their ratio to those of the file


class UnpackLimits(NamedTuple):
    """The limits of one packed file, each of which an environment variable can raise."""

    depth: int = 32  # folders in one another
    entries: int = 2_000_000  # files and folders
    name: int = 4096  # characters of a name with its folders
    file: int = 2**28  # bytes of one file; an image of more has too many pixels, too
    total: int = 2**34  # bytes of all that is read into memory
    ratio: int = 100  # times the bytes of the packed file; 256 MiB are always allowed


class UnpackError(ConvaxError, ValueError):
    """A packed file passes a limit; says which, and how to raise it, but does not name the file."""


class UnpackBudget:
    """Counts what comes out of one packed file.

    Args:
        path: the file; its size counts.
        limits: by default those of the environment.
    """

    def __init__(self, path: Path, limits: UnpackLimits | None = None):
        self._limits = limits_of_environment() if limits is None else limits
        self._packed = path.stat().st_size
        self._entries = self._total = 0

    def add_entry(self) -> None:
        """Count a file or folder; raise `UnpackError` where it is one too many."""
        self._entries += 1
        self.check_entries(self._entries)

    def check_entries(self, count: int) -> None:
        """Raise `UnpackError` where there are so many files and folders."""
        self._check("entries", count, f"{count:,} files and folders, or more")

    def check_name(self, name: str, parts: int = 0) -> None:
        """Raise `UnpackError` where a name, or the number of its parts, is too large."""
        called = plain_line(name, 60)
        self._check("name", len(name), f"a name of {len(name):,} characters, {called}")
        self._check("depth", parts, f"{parts:,} folders in one another, {called}")

    def add_file(self, name: str, size: int) -> None:
        """Count a file that is to be read into memory; arguments and errors as `add_files`."""
        self.add_files([(name, size)])

    def add_files(self, files: Iterable[tuple[str, int]], *, each: bool = True) -> None:
        """Count files that are to be read into memory.

        Args:
            files: the name of each, and its bytes, unpacked.
            each: whether the limit on one file holds, too.

        Raises:
            UnpackError: one is too large, or all of them are.
        """
        for name, size in files:
            if each:
                self._check("file", size, f"{plain_line(name, 200)} has {size:,} bytes")
            self._total += size
        self._check("total", self._total, f"{self._total:,} bytes unpacked")
        self.check_ratio(self._total)

    def check_ratio(self, unpacked: int) -> None:
        """Raise `UnpackError` where so many bytes are far too many for so small a file."""
        if unpacked > max(_ALWAYS_ALLOWED, self._limits.ratio * self._packed):
            ratio = -(-unpacked // max(1, self._packed))
            what = f"{unpacked:,} bytes unpacked, {ratio:,} times those of the file"
            self._check("ratio", ratio, what)

    def _check(self, limit: str, found: int, what: str) -> None:
        most = getattr(self._limits, limit)
        if found > most:
            enough = max(found, 2 * most)  # what is counted so far need not be all there is
            raise UnpackError(
                f"{what}, need {most:,} at most; if you trust it, set {VARIABLE}={limit}={enough}"
            )


def check_zip(
    path: Path, packed: zipfile.ZipFile, wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Raise `UnpackError` where so much would be unpacked of a .zip that it is no honest file.

    Args:
        path: the file.
        packed: it, opened.
        wanted: says of a name whether that is read.
    """
    budget, entries = UnpackBudget(path), packed.infolist()
    budget.check_entries(len(entries))
    sizes = ((entry.filename, entry.file_size) for entry in entries if wanted(entry.filename))
    budget.add_files(sizes, each=False)


def limits_of_environment() -> UnpackLimits:
    """Return the limits, with those in ``CONVAX_UNPACK_LIMITS``: ``"total=68719476736,depth=64"``.

    Raises:
        UnpackError: the variable holds something else.
    """
    written = os.environ.get(VARIABLE, "")
    pairs = [part.strip() for part in written.split(",") if part.strip()]
    known = "|".join(UnpackLimits._fields)
    for pair in pairs:
        if not re.fullmatch(rf"({known})=[0-9]{{1,18}}", pair):
            raise UnpackError(
                f"{VARIABLE}: got {plain_line(pair, 80)!r}, need such as total=68719476736, of "
                f"{known.replace('|', ', ')}"
            )
    return UnpackLimits()._replace(**{k: int(v) for k, _, v in (p.partition("=") for p in pairs)})
