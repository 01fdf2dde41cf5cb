"""How a checkpoint knows the metrics that were logged before it, but for their timings.

The mark is the number of lines and a SHA-256 of what they say, without `TIMINGS`: two runs of the
same config have the same marks, and the same manifests.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..common import atomic_io
from ..common.json_io import parse_json

TIMINGS = ("images_per_second",)  # what a clock said


class MetricsLog:
    """Reads on in ``metrics.jsonl`` from mark to mark."""

    def __init__(self, path: Path):
        self._path, self._read, self._lines = path, 0, 0
        self._digest = hashlib.sha256()

    def size(self) -> int:
        """Return the size in bytes."""
        return self._path.stat().st_size if self._path.exists() else 0

    def digest(self, size: int) -> dict[str, Any]:
        """Bring the first `size` bytes to the disk; the mark of them, as JSON."""
        if self._path.exists():
            atomic_io.fsync_path(self._path)
            with self._path.open("rb") as file:
                file.seek(self._read)
                self._take_in(file.read(size - self._read))
        return {"lines": self._lines, "sha256": self._digest.hexdigest()}

    def _take_in(self, content: bytes) -> None:
        for line in content.splitlines(keepends=True):
            self._digest.update(_without_timings(line))
            self._lines += 1
        self._read += len(content)


def truncate(path: Path, mark: dict[str, Any] | None) -> bool:
    """Cut the metrics back to a mark, None for the very beginning, for a run that goes on there.

    Returns:
        Whether what is left is what was marked; nothing is cut where it is not.
    """
    content, lines = _marked(path, mark)
    if not _is_marked(lines, mark):
        return False
    if (kept := b"".join(lines)) != content:
        atomic_io.atomic_write(path, kept)
    return True


def holds(path: Path, mark: dict[str, Any]) -> bool:
    """Return whether the metrics up to a mark are those that were marked."""
    return _is_marked(_marked(path, mark)[1], mark)


def _marked(path: Path, mark: dict[str, Any] | None) -> tuple[bytes, list[bytes]]:
    """Return the content of a file, and its lines up to a mark."""
    content = path.read_bytes() if path.exists() else b""
    return content, content.splitlines(keepends=True)[: mark["lines"] if mark else 0]


def _is_marked(lines: list[bytes], mark: dict[str, Any] | None) -> bool:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(_without_timings(line))
    return not mark or (len(lines), digest.hexdigest()) == (mark["lines"], mark["sha256"])


def _without_timings(line: bytes) -> bytes:
    """Return a line without its timings; one that cannot be read as it is."""
    try:
        record = parse_json(line)
        said = {key: value for key, value in record.items() if key not in TIMINGS}
    except (ValueError, AttributeError):
        return line
    return json.dumps(said).encode() + b"\n"
