"""Output that may be lost: a stream that goes silent where it can be written to no more."""

import contextlib
import os
from typing import IO, Any


class Forgiving:
    """A text stream whose failures end nothing.

    A terminal that is gone, a pipe that nobody reads and a log on a full disk are no reason to end
    a training: from the first write that fails on, what is written is dropped.

    Args:
        stream: such as `sys.stdout`.
    """

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            return self._stream.write(text)
        except OSError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop what it holds."""
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def __getattr__(self, name: str) -> Any:
        """Return what else the stream has."""
        return getattr(self._stream, name)

    def _silence(self) -> None:
        """Lead the stream nowhere, with what it holds: at its end Python flushes it once more."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
