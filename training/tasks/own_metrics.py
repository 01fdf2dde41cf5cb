"""Figures of one's own: functions of what an evaluation keeps, and of the labels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..common.errors import ConvaxError
from ..common.text import named_error
from ..data import Split
from ..plugins.tables import METRICS


class MetricError(ConvaxError, ValueError):
    """A metric of one's own gives no figures; says what it gives."""


def make_own_metrics(
    entries: Sequence[Any] | None,
) -> Callable[[Any, Split], dict[str, float]] | None:
    """Return ``measure(collected, examples) -> {name: number}``; None where there are none.

    Args:
        entries: of ``[[metrics]]`` of a config: name and keywords each.
    """
    if not entries:
        return None

    def measure(collected: Any, examples: Split) -> dict[str, float]:
        figures: dict[str, float] = {}
        for entry in entries:
            keywords = {key: value for key, value in entry if key != "name"}
            try:
                value = METRICS[entry.name].measure(collected, examples.labels, **keywords)
            except Exception as error:
                raise MetricError(f"metrics: {entry.name}: {named_error(error)}") from error
            figures |= _figures(entry.name, value)
        return figures

    return measure


def _figures(name: str, value: Any) -> dict[str, float]:
    """Return the figures of one metric: of a dict each under ``name.key``."""
    named = {name: value}
    if isinstance(value, dict):
        named = {f"{name}.{key}": inner for key, inner in value.items()}
    for key, number in named.items():
        array = np.asarray(number)
        if array.shape != () or array.dtype.kind not in "iufb" or not np.isfinite(array):
            shown = f"{array.dtype} {array.shape}" if array.shape else repr(number)
            raise MetricError(f"metrics: {key}: returned {shown}, need a finite number")
    return {key: float(number) for key, number in named.items()}
