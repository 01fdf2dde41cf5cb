"""Say on a terminal that a command is at work, until it says something itself.

To import JAX and to compile take seconds, before there is a result to print.
"""

import atexit
import sys
import threading
from typing import IO, Any

from .forgiving import Forgiving
from .text import plain_line

_SOON = 1.0  # seconds


def announce(text: str, after: float = _SOON) -> None:
    """Write text on standard error, if nothing is written within some seconds; then take it back.

    Elsewhere than on a terminal, nothing is written.
    """
    if sys.stderr is None or sys.stdout is None or not sys.stderr.isatty():
        return
    _Announcement(plain_line(text, 70), after)


class _Announcement:
    """What is written later, and ends at the first word on either stream."""

    def __init__(self, text: str, after: float):
        self._text, self._terminal = text, Forgiving(sys.stderr)
        self._lock, self._ended, self._written = threading.Lock(), False, False
        self._streams = sys.stdout, sys.stderr
        self._watched = tuple(_Watched(stream, self._end) for stream in self._streams)
        sys.stdout, sys.stderr = self._watched  # type: ignore[assignment] -- streams in all else
        self._timer = threading.Timer(after, self._write)
        self._timer.daemon = True
        self._timer.start()
        atexit.register(self._end)

    def _write(self) -> None:
        with self._lock:
            if not self._ended:
                self._written = True
                self._terminal.write(self._text)
                self._terminal.flush()

    def _end(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._timer.cancel()
        if self._written:
            self._terminal.write("\r\x1b[2K")
            self._terminal.flush()
        for name, its, stream in zip(
            ("stdout", "stderr"), self._watched, self._streams, strict=True
        ):
            if getattr(sys, name) is its:
                setattr(sys, name, stream)


class _Watched:
    """A text stream that tells of the first word."""

    def __init__(self, stream: IO[str], tell: Any):
        self._stream, self._tell = stream, tell

    def write(self, text: str) -> int:
        """Tell, and write text."""
        self._tell()
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream; at its end Python does."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Return what else the stream has."""
        return getattr(self._stream, name)
