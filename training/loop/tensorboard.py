"""``[logging] tensorboard = true``: the metrics of a run for TensorBoard, too.

The event file follows ``metrics.jsonl``, line by line, so that the two never differ. A run that is
resumed writes a new file of all that it has, in place of the old: no step is there twice.

tensorboardX writes the file, and needs no TensorFlow: ``pip install 'convax[tensorboard]'``.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ..config.errors import ConfigError
from ..config.schema import Config
from ..run.directory import Run, parse_record
from .progress import Display

FOLDER = "tensorboard"


def check_logging(config: Config) -> None:
    """Raise unless what the config wants logged can be logged.

    Raises:
        ConfigError: tensorboardX is not installed.
    """
    if config.logging.tensorboard and find_spec("tensorboardX") is None:
        raise ConfigError(
            "logging.tensorboard: tensorboardX is not installed; pip install 'convax[tensorboard]'"
        )


@contextmanager
def followed(run: Run, config: Config, display: Display) -> Iterator[Display]:
    """Yield a display that keeps the event file up with the run, where the config wants one."""
    if not config.logging.tensorboard:
        yield display
        return
    following = Following(run, display)
    try:
        yield following
    finally:
        following.catch_up()
        following.writer.close()


class Following:
    """A display in front of another, which looks for new metrics at each call."""

    def __init__(self, run: Run, display: Display):
        from tensorboardX import SummaryWriter

        folder = run.path / FOLDER
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = SummaryWriter(str(folder))
        self._file, self._read, self._display = run.path / "metrics.jsonl", 0, display

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
        """Write what is new in the metrics: every number, as ``train/loss``."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in (one for one in lines if one.endswith(b"\n")):
            self._read += len(line)
            if (record := parse_record(line)) is not None:
                for name, value in scalars(record).items():
                    self.writer.add_scalar(name, value, record["step"])
        self.writer.flush()


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a record, by their names in TensorBoard.

    Example:
        >>> scalars({"kind": "test", "step": 3, "loss": 0.5, "count": 10, "split": "test"})
        {'test/loss': 0.5}
    """
    figures = {k: v for k, v in record.items() if k not in ("step", "count", "checkpoint_step")}
    return {
        f"{record['kind']}/{name}": float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
