"""Decoded images kept on disk, so that the next command on the same files need not decode them.

An entry is found by the SHA-256 of every file it was made of, and by all that decoding depends on:
what has changed by a byte is decoded anew, whatever its name and its times say. That takes reading
the files, which is a small part of decoding them. What is kept has a checksum of its own; where
that is wrong, images are decoded anew.

The folder is ``decoded`` in the user's folder for caches, for the user alone; removing it, or
anything in it, costs time and nothing else. It holds `limit` bytes: what was used longest ago goes
first. An entry is written under another name and renamed, so processes do not disturb each other.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..common import atomic_io
from ..common.cache import cache_directory
from ..common.hashing import json_digest
from ..common.json_io import parse_json
from ..common.python_sources import python_sources
from ..common.waiting import detail, say
from .archive import Place
from .each_file import Kept, Unreadable
from .errors import DataError

VARIABLE = "CONVAX_DATA_CACHE"
OFF = "off"
_DEFAULT = 10.0  # GiB
_LEAST_SECONDS = 1.0  # what is decoded faster is not worth a file
_SLICE = 256  # files that a thread takes at a time
_LONGEST_HEADER = 2**26  # bytes: of the names of a million files left out
_STALE = 86_400  # seconds after which what a killed process has left is removed
_OPTIONAL = ("tifffile", "imagecodecs", "pillow-heif")  # which some files are decoded by
_DECODERS = ("libjpeg_turbo", "jpg", "zlib", "webp", "libtiff", "avif")


class Entry(NamedTuple):
    """What was made of files: arrays, and which files could be read."""

    arrays: tuple[np.ndarray, ...]
    kept: Kept


def decoded_once(
    files: Sequence[Place], how: Mapping[str, Any], make: Callable[[], Entry]
) -> Entry:
    """Return what `make` makes of files: what it made before, or what it makes now and is kept.

    Args:
        files: all that it reads, of which it names those that cannot be.
        how: all else that its result depends on, as JSON, apart from convax, Pillow and NumPy; and
            what it makes, as one file may be read in several ways.
        make: decodes the files; what it raises is kept nowhere.

    Raises:
        DataError: ``$CONVAX_DATA_CACHE`` is neither "off" nor a number.
    """
    room = limit()
    before = _identify(files) if room else None
    if before is None:
        return make()
    key = json_digest([dict(how), _environment(), _settings(), before.digest])
    try:
        file = cache_directory() / "decoded" / f"{key[:32]}.bin"
    except RuntimeError:  # there is no home
        return make()
    if (found := _read(file, key, files)) is not None:
        detail(f"images: decoded before, from {file}")
        return found
    began = time.monotonic()
    made = make()
    worth = time.monotonic() - began >= _LEAST_SECONDS
    if worth and _times_of(files) == before.times:  # else what was decoded is not what was hashed
        _write(file, key, files, made, room)
    detail(f"images: decoded in {time.monotonic() - began:.1f} s")
    return made


def limit() -> int:
    """Return how many bytes may be kept: ``$CONVAX_DATA_CACHE`` in GiB, 10 by default, or none.

    Raises:
        DataError: it is neither "off" nor a number.
    """
    said = os.environ.get(VARIABLE, "").strip() or str(_DEFAULT)
    if said.lower() == OFF:
        return 0
    try:
        gibibytes = float(said)
        if not 0 <= gibibytes < 2**20:
            raise ValueError
    except ValueError:
        raise DataError(
            f"{VARIABLE}: got {said!r}, need {OFF!r} or how many GiB of decoded images are kept, "
            "such as 10; correct it, or unset it"
        ) from None
    return int(gibibytes * 2**30)


class _Identity(NamedTuple):
    """Of files, as they are now."""

    digest: str  # of all of their bytes
    times: str  # of their lengths and times of change


def _identify(files: Sequence[Place]) -> _Identity | None:
    """Return what tells files from others; None where one cannot be read: to decode it says so."""
    slices = [files[i : i + _SLICE] for i in range(0, len(files), _SLICE)]
    try:
        times = _times_of(files)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = list(pool.map(_content_digest, slices))
    except OSError:
        return None
    return _Identity(hashlib.sha256(b"".join(digests)).hexdigest(), times)


def _content_digest(files: Sequence[Place]) -> bytes:
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def _times_of(files: Sequence[Place]) -> str:
    """Return what changes with every write to a file, in a digest; one in an archive is in memory.

    Raises:
        OSError: a file is gone.
    """
    digest = hashlib.sha256()
    for file in files:
        if isinstance(file, Path):
            now = file.stat()
            numbers = (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)
            digest.update(repr(numbers).encode())
    return digest.hexdigest()


@cache
def _environment() -> list[Any]:
    """Return what decodes: convax's own files, Pillow and its libraries, others, the machine."""
    from PIL import features

    digest = hashlib.sha256()
    for path, content in python_sources(resources.files(__package__), "data"):
        digest.update(path.encode() + b"\0" + content)
    libraries = [str(features.version(name)) for name in _DECODERS]
    versions = [version("pillow"), version("numpy"), platform.machine(), sys.byteorder]
    return [digest.hexdigest(), *versions, *libraries, *map(_version, _OPTIONAL)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _settings() -> list[Any]:
    """Return what a program can change of Pillow between two readings."""
    from PIL import Image, ImageFile

    return [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES]


def _read(file: Path, key: str, files: Sequence[Place]) -> Entry | None:
    """Return what is kept in a file; None where it has to be made anew."""
    try:
        with file.open("rb") as content:
            header = parse_json(content.readline(_LONGEST_HEADER))
            arrays = tuple(np.empty(shape, dtype) for shape, dtype in header["arrays"])
            whole = [content.readinto(_bytes_of(a)) == a.nbytes for a in arrays]
            left = header["count"], header["left_out"], header["unreadable"]
            if not all(whole) or header["sha256"] != _checksum(key, left, arrays):
                raise ValueError
    except FileNotFoundError:
        return None
    except OSError as error:
        return say(f"{file}: cannot be read: {error.strerror}; images are decoded anew")
    except Exception:  # whatever damage may come to
        return say(f"{file}: damaged: images are decoded anew")
    with suppress(OSError):
        os.utime(file)  # it was used now
    count, left_out = header["count"], header["left_out"]
    unreadable = (Unreadable(str(files[n]), reason) for n, reason in header["unreadable"])
    return Entry(arrays, Kept(count, np.delete(np.arange(count), left_out), tuple(unreadable)))


def _write(file: Path, key: str, files: Sequence[Place], made: Entry, room: int) -> None:
    """Keep what was made, where there is room for it; what cannot be kept is made anew."""
    size = sum(array.nbytes for array in made.arrays)
    if size > room:
        return say(
            f"decoded images are not kept: {size / 2**30:.1f} GiB, where {VARIABLE} allows "
            f"{room / 2**30:.1f}; set it to {ceil(size / 2**30)} to keep them, or to {OFF!r} to "
            "save looking for them"
        )
    kept = made.kept
    number = {str(file): n for n, file in enumerate(files)} if kept.unreadable else {}
    left_out = kept.left_out.tolist()
    unreadable = [[number[file], reason] for file, reason in kept.unreadable]
    header = {
        "arrays": [(array.shape, array.dtype.str) for array in made.arrays],
        "count": kept.count,
        "left_out": left_out,
        "unreadable": unreadable,
        "sha256": _checksum(key, (kept.count, left_out, unreadable), made.arrays),
    }
    parts = [json.dumps(header).encode() + b"\n", *map(_bytes_of, made.arrays)]
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(file.parent, room - size)
        if shutil.disk_usage(file.parent).free < 2 * size:
            return say(f"{file.parent}: decoded images are not kept: the disk is nearly full")
        atomic_io.atomic_write(file, parts)
        detail(f"images: kept for the next command in {file}")
    except OSError as error:
        say(f"{file}: decoded images cannot be kept: {error.strerror}")


def _make_room(folder: Path, room: int) -> None:
    """Remove what was used longest ago, until no more than this many bytes are left."""
    found = []
    for file in folder.iterdir():
        with suppress(OSError):  # another process has removed it
            status = file.stat()
            if not file.name.startswith("."):
                found.append((status.st_mtime, status.st_size, file))
            elif status.st_mtime < time.time() - _STALE:  # half written
                file.unlink()
    for _, size, file in sorted(found, reverse=True):
        room -= size
        if room < 0:
            with suppress(OSError):
                file.unlink()


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _checksum(key: str, said: Any, arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(f"{key} {json.dumps(said)}".encode())
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(_bytes_of(array))
    return digest.hexdigest()
