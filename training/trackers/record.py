"""What a tracker has of a run: ``trackers/NAME.json`` in the run directory.

The last step of each kind of record that was sent. A run that is resumed from a checkpoint takes
steps again that were sent before it was killed, with the same figures: they are not sent twice.
(With ``--force`` the figures may be others: the tracker keeps those that it was sent first.)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common import atomic_io

FOLDER = "trackers"


class TrackerRecord:
    """The id of a run at a tracker, and how far it got.

    Args:
        run: the run directory.
        name: of the tracker.
    """

    def __init__(self, run: Path, name: str):
        self._file = run / FOLDER / f"{name}.json"
        try:
            kept = json.loads(self._file.read_text())
            self.id: str | None = str(kept["id"])
            self._last = {str(kind): int(step) for kind, step in kept["last"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or damaged
            self.id, self._last = None, {}

    def take(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record is new, and keep that it is sent."""
        kind, step = str(record["kind"]), int(record["step"])
        if step <= self._last.get(kind, -1):
            return False
        self._last[kind] = step
        self.write()
        return True

    def write(self) -> None:
        """Write the file."""
        self._file.parent.mkdir(exist_ok=True)
        content = json.dumps({"id": self.id, "last": self._last})
        atomic_io.atomic_write(self._file, content.encode())
