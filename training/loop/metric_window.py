"""The metrics of steps, reported in windows whose bounds depend on nothing but the step."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..experiment import Experiment
from ..run.directory import Run
from .progress import Display

LONGEST_SILENCE = 15.0  # seconds after which a slow network's steps are shown all the same


class MetricWindow:
    """Collects the metrics of steps; logs a window of them, and shows it.

    Attributes:
        rate_scale: what the schedule's learning rate is multiplied by.
    """

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        display: Display,
        window: Mapping[str, list[float]] | None,
    ):
        self._run, self._experiment, self._display = run, experiment, display
        self._pending = {name: list(values) for name, values in (window or {}).items()}
        self.rate_scale = 1.0
        self._fresh = 0  # steps since the clock below
        self._since = self._shown = time.perf_counter()

    def add(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Take in the metrics of the steps that led to `step`."""
        for name, values in metrics.items():
            self._pending.setdefault(name, []).extend(values.tolist())
        self._fresh += len(metrics["loss"])
        if self.window and time.perf_counter() - self._shown > LONGEST_SILENCE:
            self._display.step(step, self._experiment.total_steps, self._record(step))
            self._shown = time.perf_counter()

    @property
    def window(self) -> dict[str, list[float]] | None:
        """The metrics not yet reported: a checkpoint in the middle of a window keeps them."""
        if not self._pending.get("loss"):
            return None
        return {name: list(values) for name, values in self._pending.items()}

    def flush(self, step: int) -> None:
        """Report the window that ends at `step`."""
        if self.window:
            record = self._record(step)
            self._run.log({"kind": "train", "step": step, **record})
            self._display.step(step, self._experiment.total_steps, record)
        self._pending, self._fresh = {}, 0
        self._since = self._shown = time.perf_counter()

    def _record(self, step: int) -> dict[str, Any]:
        experiment, batch_size = self._experiment, self._experiment.config.training.batch_size
        seconds = time.perf_counter() - self._since
        rate = experiment.learning_rate(step - 1)
        return (
            {name: math.fsum(values) / len(values) for name, values in self._pending.items()}
            | {"epoch": step * batch_size / experiment.card.counts["train"]}
            | ({} if rate is None else {"learning_rate": rate * self.rate_scale})
            | {"images_per_second": self._fresh * batch_size / seconds}
        )
