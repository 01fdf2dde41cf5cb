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
from ..run.directory import Run
from .following import Following
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
    writer = _new_writer(run)

    def write(records: list[dict[str, Any]]) -> None:
        """Write every number of the metrics, as ``train/loss``."""
        for record in records:
            for name, value in scalars(record).items():
                writer.add_scalar(name, value, record["step"])
        writer.flush()

    following = Following(run, display, write)
    try:
        yield following
    finally:
        following.catch_up()
        writer.close()


def _new_writer(run: Run) -> Any:
    """Make the writer of a new event file, in place of the old."""
    from tensorboardX import SummaryWriter

    folder = run.path / FOLDER
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    return SummaryWriter(str(folder))


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
