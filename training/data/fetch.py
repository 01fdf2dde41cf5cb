"""Downloads of public datasets: mirrors, checksums, and going on where one broke off."""

import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..common.text import printable
from .errors import DataError


class RemoteFile(NamedTuple):
    """A file by the checksum of itself, and of what is packed in it, where that is known."""

    name: str
    checksum: str  # SHA-256; or MD5, told by its length, where its authors give nothing else
    unpacked: str | None = None  # SHA-256 of the content of a gzip file


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
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    ),
    "cifar10": Remote(
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        files=(RemoteFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
    ),
}

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 8192  # bytes; what is lost at most when a connection breaks off


def default_directory() -> Path:
    """Return where data is kept: ``$CONVAX_DATA``, or else this system's folder for caches."""
    chosen = os.environ.get("CONVAX_DATA")
    if chosen:
        return Path(chosen).expanduser()
    from pooch import os_cache

    return Path(os_cache("convax"))


def fetch(
    name: str,
    directory: str | Path | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool = True,
) -> Path:
    """Download a dataset into ``directory/name``, where `locate` finds it.

    A file is right if its checksum is, or that of what is packed in it (somebody may have packed
    it anew). Right files that are there already are kept, wrong ones replaced. A download that
    breaks off leaves ``FILE.part``, from which the next one goes on.

    Args:
        name: a key of `DATASETS`.
        directory: where to; `default_directory` by default.
        mirrors: URLs to try before the known ones, each with the files right under it.
        progress: report on standard error.

    Returns:
        the folder of the files.

    Raises:
        DataError: an unknown dataset, a folder that cannot be written to, or no mirror that has
            the file; the message gives the reason for each.
    """
    if name not in DATASETS:
        raise DataError(f"fetch: unknown dataset: got {name!r}, need one of {', '.join(DATASETS)}")
    remote = DATASETS[name]
    folder = Path(directory or default_directory()) / name
    roots = (*(mirrors or ()), *remote.mirrors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in remote.files:
            target = folder / file.name
            if target.exists():
                if _is_right(target, file):
                    continue
                _say(f"{target}: wrong checksum; fetching it again")
            urls = [f"{root.rstrip('/')}/{file.name}" for root in roots]
            _fetch_file(urls, file, target, progress)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}; name another --directory") from None
    return folder


def _fetch_file(urls: Sequence[str], file: RemoteFile, target: Path, progress: bool) -> None:
    """Try one URL after the other."""
    from requests import RequestException

    reasons = []
    for url in urls:
        try:
            if progress:
                _say(f"fetching {url}")
            return _obtain(url, file, target, progress)
        except (RequestException, _WrongChecksumError) as error:
            reasons.append(f"  {url}: {_reason(error)}")
    raise DataError(
        "\n".join([f"{file.name}: no mirror has it:", *reasons])
        + f"\nput it into {target.parent} by hand, or name another --mirror"
    )


class _WrongChecksumError(Exception):
    """What came is not the file."""


def _obtain(url: str, file: RemoteFile, target: Path, progress: bool) -> None:
    """Download beside the target, check, and only then put in place."""
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    _download(url, part, progress)
    if _is_right(part, file):
        part.replace(target)
        return
    part.unlink()
    if not resumed:
        raise _WrongChecksumError
    _obtain(url, file, target, progress)  # perhaps it was the older piece that was bad


def _download(url: str, part: Path, progress: bool) -> None:
    """Complete `part`, in as many attempts as get any further."""
    from requests import RequestException

    while True:
        had = part.stat().st_size if part.exists() else 0
        try:
            return _append(url, part, had, progress)
        except RequestException:
            if not part.exists() or part.stat().st_size <= had:
                raise


def _append(url: str, part: Path, had: int, progress: bool) -> None:
    """Ask the server for what `part` lacks, once."""
    from pooch import HTTPDownloader
    from requests import HTTPError

    with part.open("ab") as out, _bar(part.stem, progress) as bar:

        def begin(response: Any, **_: Any) -> None:
            if response.status_code == 200:  # the whole file, not the rest of it
                out.truncate(0)

        # "identity": a server must not unpack the file, or pack it twice, on the way.
        headers = {"Range": f"bytes={had}-", "Accept-Encoding": "identity"}
        download = HTTPDownloader(
            bar, chunk_size=_CHUNK, timeout=_TIMEOUT, headers=headers, hooks={"response": begin}
        )
        try:
            download(url, out, None)
        except HTTPError as error:
            # 416: nothing is lacking; the checksum will tell whether that is so.
            if error.response is None or error.response.status_code != 416:
                raise


def _is_right(path: Path, file: RemoteFile) -> bool:
    with path.open("rb") as packed:
        kind = "md5" if len(file.checksum) == 32 else "sha256"
        if hashlib.file_digest(packed, kind).hexdigest() == file.checksum:
            return True
        if file.unpacked is None:
            return False
        packed.seek(0)
        try:
            with gzip.open(packed) as unpacked:
                return hashlib.file_digest(unpacked, "sha256").hexdigest() == file.unpacked
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return False


@contextmanager
def _bar(name: str, progress: bool) -> Iterator[Any]:
    """Show progress by rich, as what pooch takes as a bar; False where nobody looks."""
    if not (progress and sys.stderr.isatty()):
        yield False
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        yield _Bar(drawn, drawn.add_task(name))


class _Bar:
    """Pooch sets `total` and calls the methods."""

    total = 0

    def __init__(self, drawn: Any, task: Any):
        self._drawn, self._task = drawn, task

    def update(self, count: int) -> None:
        self._drawn.update(self._task, total=self.total, advance=count)

    def reset(self) -> None:
        self._drawn.update(self._task, completed=0)

    def close(self) -> None:
        """Do nothing: `_bar` closes, also when the download breaks off."""


def _reason(error: Exception) -> str:
    """Say in a few words why a URL failed; requests' own texts are long."""
    from requests import ConnectionError, HTTPError, Timeout
    from requests.exceptions import ChunkedEncodingError

    if isinstance(error, _WrongChecksumError):
        return "wrong checksum"
    if isinstance(error, HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, Timeout):
        return "no answer in time"
    if isinstance(error, (ConnectionError, ChunkedEncodingError)):
        return "the connection failed"
    return str(error).partition("\n")[0]


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
