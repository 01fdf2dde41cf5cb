"""One file over HTTP, in bounded time and space whatever the server does.

A thread of its own talks to the server, which may keep it waiting for a name, a header or a byte.
The one that asks looks at the clock, alone writes the file, and leaves the thread behind where that
takes too long.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

TIMEOUT = 30.0  # seconds without an answer
SLOWEST = 1024  # bytes a second, over TIMEOUT, of a server that is worth waiting for
_MOST_REDIRECTS = 10
_CHUNK = 8192  # bytes; what is lost at most when a connection breaks off
_BROKEN = "the connection failed"


class DownloadError(Exception):
    """A URL failed; says in a few words why.

    Args:
        reason: these words.
        worth: how many more bytes it must have sent to be asked again for the rest.
    """

    def __init__(self, reason: str, worth: float = 0):
        super().__init__(reason)
        self.worth = worth


class TooLargeError(DownloadError):
    """The server has more to send than the file has bytes."""


class OutOfTimeError(Exception):
    """The time for all that is to be downloaded is up."""


class Deadline:
    """When all that is to be downloaded has to be there.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float):
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Return how many seconds are left.

        Raises:
            OutOfTimeError: none.
        """
        if (left := self._end - time.monotonic()) <= 0:
            raise OutOfTimeError
        return left


Progress = Callable[[int, int | None], None]  # bytes that are there, and of the file if known


def download(url: str, part: Path, *, most: int, deadline: Deadline, progress: Progress) -> None:
    """Complete a file, in as many attempts as get any further.

    Args:
        url: of the whole file.
        part: as much of it as there is; it may not be there.
        most: bytes that the file has at most.
        deadline: when to give up.
        progress: called with what there is by now.

    Raises:
        DownloadError: the server does not send it; `part` has what came.
        OutOfTimeError: likewise.
        OSError: `part` cannot be written.
    """
    import requests  # noqa: F401 -- ahead of the clock: it takes a while

    while True:
        had = _size(part)
        try:
            return _append(url, part, most, deadline, progress)
        except TooLargeError:
            raise
        except DownloadError as error:
            if _size(part) - had <= error.worth:
                raise


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


class _Begun(NamedTuple):
    """The head of an answer."""

    whole: bool  # whether it is the whole file, not the rest of it
    length: int | None  # bytes that are to come


def _append(url: str, part: Path, most: int, deadline: Deadline, progress: Progress) -> None:
    """Ask the server for what `part` lacks, once."""
    items: queue.Queue[Any] = queue.Queue(64)
    gone = threading.Event()
    with part.open("ab") as out:
        had, total, pace = out.tell(), None, _Pace(deadline)
        work = (url, had, items, gone)
        threading.Thread(target=_talk, args=work, name="download", daemon=True).start()
        try:
            while (item := pace.next(items)) is not None:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, _Begun):
                    had = 0 if item.whole else had
                    total = None if item.length is None else had + item.length
                    if (total or 0) > most:
                        raise TooLargeError(f"{total:,} bytes, need {most:,} at most")
                    out.truncate(had)
                else:
                    out.write(item)
                    had += len(item)
                    if had > most:
                        raise TooLargeError(f"more than {most:,} bytes")
                progress(had, total)
        finally:
            gone.set()


class _Pace:
    """Waits for items, as long as a server is worth waiting for."""

    def __init__(self, deadline: Deadline):
        self._deadline = deadline
        self._begin()

    def _begin(self) -> None:
        self._until, self._came = time.monotonic() + TIMEOUT, 0

    def next(self, items: "queue.Queue[Any]") -> Any:
        """Return the next item.

        Raises:
            DownloadError: the server is too slow.
            OutOfTimeError: the time for all is up.
        """
        while True:
            patience = max(0.0, self._until - time.monotonic())
            try:
                item = items.get(timeout=min(patience, self._deadline.left()))
            except queue.Empty:
                item = b""  # perhaps the time is up
            self._came += len(item) if isinstance(item, bytes) else 0
            if time.monotonic() >= self._until:
                if self._came < SLOWEST * TIMEOUT:
                    slow = "too slow" if self._came else "no answer in time"
                    raise DownloadError(slow, worth=SLOWEST * TIMEOUT)
                self._begin()
            if item != b"":
                return item


def _talk(url: str, had: int, items: "queue.Queue[Any]", gone: threading.Event) -> None:
    """Put into the queue what the server says: its head, pieces; at the end an error, or None."""

    def put(item: Any) -> bool:
        while not gone.is_set():
            try:
                items.put(item, timeout=0.5)
                return True
            except queue.Full:
                continue
        return False

    from requests import RequestException
    from urllib3.exceptions import HTTPError as TransportError

    # "identity": a server must not unpack the file, or pack it twice, on the way. What it says of
    # that is not believed: a .gz file is often called packed content; nothing is unpacked here.
    headers = {"Range": f"bytes={had}-", "Accept-Encoding": "identity"}
    try:
        with _answer(url, headers) as response:
            if response.status_code != 416:  # of which: nothing is lacking; the checksum will tell
                response.raise_for_status()
                length = response.headers.get("Content-Length", "")
                size = int(length) if length.isdecimal() and len(length) < 19 else None
                put(_Begun(response.status_code == 200, size))
                for piece in response.raw.stream(_CHUNK, decode_content=False):
                    if not put(piece):
                        return
        put(None)
    except (RequestException, ValueError) as error:  # the latter of headers that are no text
        put(DownloadError(_reason(error)))
    except TransportError:
        put(DownloadError(_BROKEN))
    except Exception as error:  # whatever it is: a thread's own end would go unnoticed
        put(error)


def _answer(url: str, headers: Mapping[str, str]) -> Any:
    """Ask for a URL, following redirects; requests would read their bodies, however long."""
    from requests import Session, TooManyRedirects

    session = Session()
    session.get_redirect_target = lambda resp: None
    for _ in range(_MOST_REDIRECTS):
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise TooManyRedirects(f"more than {_MOST_REDIRECTS} redirects")


def _reason(error: Exception) -> str:
    """Say in a few words why a URL failed; requests' own texts are long."""
    from requests import ConnectionError, HTTPError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, Timeout):
        return "no answer in time"
    if isinstance(error, ConnectionError):
        return _BROKEN
    return str(error).partition("\n")[0]
