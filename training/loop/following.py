"""Follow the metrics of a run as it is trained, line by line, so that nothing differs from them."""

from collections.abc import Callable, Mapping
from typing import Any

from ..run.directory import Run, parse_record
from .progress import Display


class Following:
    """A display in front of another, which hands on at each call what is new in ``metrics.jsonl``.

    Args:
        run: whose metrics they are.
        display: the other one.
        take: ``take(records)``, called with the new ones, of which there may be none.
    """

    def __init__(self, run: Run, display: Display, take: Callable[[list[dict[str, Any]]], None]):
        self._file, self._read = run.path / "metrics.jsonl", 0
        self._display, self._take = display, take

    def note(self, text: str) -> None:
        """Catch up, and pass it on."""
        self.catch_up()
        self._display.note(text)

    def step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Catch up, and pass it on."""
        self.catch_up()
        self._display.step(step, total, record)

    def close(self) -> None:
        """Pass it on."""
        self._display.close()

    def catch_up(self) -> None:
        """Hand on what is new in the metrics: whole lines alone."""
        lines: list[bytes] = []
        if self._file.is_file():
            with self._file.open("rb") as file:
                file.seek(self._read)
                lines = [
                    one for one in file.read().splitlines(keepends=True) if one.endswith(b"\n")
                ]
        self._read += sum(map(len, lines))
        self._take([record for line in lines if (record := parse_record(line)) is not None])
