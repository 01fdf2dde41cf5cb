"""Downloads of public datasets: mirrors, checksums, limits, and going on where one broke off."""

import gzip
import hashlib
import os
import socket
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, NamedTuple

from ..common.file_lock import NoLocksError, try_lock
from ..common.text import printable
from .download import (
    Deadline,
    DownloadError,
    OutOfTimeError,
    Progress,
    TooLargeError,
    download,
)
from .errors import DataError


class RemoteFile(NamedTuple):
    """A file by the checksum of itself, and of what is packed in it, where that is known."""

    name: str
    sha256: str  # or its first digits, where no more is known
    most: int  # how many bytes it has at most, in whichever way it is packed, and unpacked
    unpacked: str | None = None  # SHA-256 of the content of a gzip file
    md5: str | None = None  # where its authors give that


class Remote(NamedTuple):
    """Files, and the URLs that each of them may be under."""

    mirrors: tuple[str, ...]
    files: tuple[RemoteFile, ...]


DATASETS = {
    "mnist": Remote(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files=(
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                48_000_000,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                100_000,
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                8_000_000,
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                20_000,
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    ),
    "cifar10": Remote(
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        files=(
            RemoteFile(
                "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170_052_171,
                md5="c32a1d4ab5d03f1284b67883e8d87530",
            ),
        ),
    ),
}

TIME_LIMIT = 3600.0  # seconds for all of a dataset


def default_directory() -> Path:
    """Return where data is kept: ``$CONVAX_DATA``, or else this system's folder for caches."""
    chosen = os.environ.get("CONVAX_DATA")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("convax")


def fetch(
    name: str,
    directory: str | Path | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    time_limit: float = TIME_LIMIT,
    progress: bool = True,
) -> Path:
    """Download a dataset into ``directory/name``, where `locate` finds it.

    A file is right if its checksum is, or that of what is packed in it (somebody may have packed
    it anew). Right files that are there already are kept, wrong ones replaced. A download that
    breaks off leaves ``FILE.part``, from which the next one goes on. Of several processes that
    fetch into one folder, one does, and the others wait for it.

    Args:
        name: a key of `DATASETS`.
        directory: where to; `default_directory` by default.
        mirrors: URLs to try before the known ones, each with the files right under it.
        time_limit: seconds that all of it may take, waiting for another process included.
        progress: report on standard error.

    Returns:
        the folder of the files.

    Raises:
        DataError: an unknown dataset, a folder that cannot be written to, no mirror that has the
            file and sends it without delay; the message gives the reason for each. Or the time is
            up.
    """
    if name not in DATASETS:
        raise DataError(f"fetch: unknown dataset: got {name!r}, need one of {', '.join(DATASETS)}")
    remote = DATASETS[name]
    folder = Path(directory or default_directory()) / name
    try:
        fetch_into(folder, remote, mirrors or (), Deadline(time_limit), progress)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}; name another --directory") from None
    return folder


def fetch_into(
    folder: Path, remote: Remote, mirrors: Sequence[str], deadline: Deadline, progress: bool
) -> None:
    """Download files into a folder, as `fetch` does.

    Raises:
        DataError: no mirror has a file, or the time is up.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lacking = [file for file in remote.files if not _is_right(folder / file.name, file)]
    if lacking:
        with _alone(folder, deadline) as part_ending:
            for file in lacking:
                urls = [f"{root.rstrip('/')}/{file.name}" for root in (*mirrors, *remote.mirrors)]
                part = folder / f"{file.name}{part_ending}"
                _fetch_file(urls, file, part, folder / file.name, deadline, progress)


@contextmanager
def _alone(folder: Path, deadline: Deadline) -> Iterator[str]:
    """Be the only one that fetches into a folder in the block; yields the ending of parts.

    Where the file system has no locks, parts are each process's own.
    """
    with (folder / ".lock").open("a") as lock:
        shared = ending = ".part"
        try:
            _wait_for(lock, folder, deadline)
        except NoLocksError:
            ending = f".{socket.gethostname()}-{os.getpid()}.part"
        try:
            yield ending
        finally:
            for part in [] if ending == shared else folder.glob(f"*{ending}"):
                part.unlink()


def _wait_for(lock: IO[str], folder: Path, deadline: Deadline) -> None:
    said = False
    while not try_lock(lock.fileno()):
        if not said:
            _say(f"{folder}: another process is fetching into it; waiting for it to end")
            said = True
        try:
            time.sleep(min(0.2, deadline.left()))
        except OutOfTimeError:
            raise DataError(
                f"{folder}: another process has been fetching into it for {deadline.seconds:g} s; "
                "wait for it to end, or stop it, and try again"
            ) from None


def _fetch_file(
    urls: Sequence[str],
    file: RemoteFile,
    part: Path,
    target: Path,
    deadline: Deadline,
    progress: bool,
) -> None:
    """Try one URL after the other, unless another process has put the file there meanwhile."""
    if _is_right(target, file):
        return
    if target.exists():
        _say(f"{target}: wrong checksum; fetching it again")
    reasons = []
    for url in urls:
        try:
            if progress:
                _say(f"fetching {url}")
            return _obtain(url, file, part, target, deadline, progress)
        except DownloadError as error:
            reasons.append(f"  {url}: {error}")
        except OutOfTimeError:
            raise DataError(
                f"{file.name}: not all of it was there after {deadline.seconds:g} s; fetch it "
                "again, which goes on from there, with a larger --time-limit or another --mirror"
            ) from None
    raise DataError(
        "\n".join([f"{file.name}: no mirror has it:", *reasons])
        + f"\nput it into {target.parent} by hand, or name another --mirror"
    )


def _obtain(
    url: str, file: RemoteFile, part: Path, target: Path, deadline: Deadline, progress: bool
) -> None:
    """Download beside the target, check, and only then put in place."""
    resumed = part.exists() and part.stat().st_size > 0
    try:
        with _bar(file.name, progress) as bar:
            download(url, part, most=file.most, deadline=deadline, progress=bar)
        if _is_right(part, file):
            part.replace(target)
            return
        raise _WrongChecksumError("wrong checksum")
    except (TooLargeError, _WrongChecksumError):
        part.unlink()
        if not resumed:
            raise
    _obtain(url, file, part, target, deadline, progress)  # perhaps the older piece was bad


class _WrongChecksumError(DownloadError):
    """What came is not the file."""


def _is_right(path: Path, file: RemoteFile) -> bool:
    """Return whether this is the file, or one of the same content."""
    if not path.is_file():
        return False
    with path.open("rb") as packed:
        if _digest(packed, "sha256").startswith(file.sha256):
            return file.md5 in (None, _digest(packed, "md5"))
        return file.unpacked is not None and _content_digest(packed, file.most) == file.unpacked


def _digest(file: BufferedReader, kind: str) -> str:
    file.seek(0)
    return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _content_digest(packed: BufferedReader, most: int) -> str | None:
    """Return the SHA-256 of what a gzip file holds; None for what is none, or holds more bytes."""
    packed.seek(0)
    digest = hashlib.sha256()
    try:
        with gzip.open(packed) as content:
            while piece := content.read(2**20):
                most -= len(piece)
                if most < 0:
                    return None
                digest.update(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None
    return digest.hexdigest()


@contextmanager
def _bar(name: str, progress: bool) -> Iterator[Progress]:
    """Show progress by rich, where somebody looks."""
    if not (progress and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich import progress as parts
    from rich.console import Console

    columns = ("{task.description}", parts.BarColumn(), parts.DownloadColumn())
    with parts.Progress(
        *columns, parts.TransferSpeedColumn(), console=Console(stderr=True)
    ) as drawn:
        task = drawn.add_task(name)
        yield lambda done, total: drawn.update(task, completed=done, total=total)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
