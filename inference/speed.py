"""Measure how long a trained network takes for an image, on this machine."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from ..training.data import DataError

MOST_IMAGES = 64  # at once
CALLS = 5  # of which the median counts
SECONDS = 2.0  # after which no further call begins


class Speed(NamedTuple):
    """The time of an image that is predicted among others, in milliseconds.

    Attributes:
        milliseconds: from stored pixels to the prediction, on the host.
        batch: how many images were predicted at once.
        before: the part of it that passes before the network begins, for the proposals of a
            detector that takes some; None of others, and where it is not counted, as they cannot be
            found here.
        device: on what.
    """

    milliseconds: float
    batch: int
    before: float | None
    device: str

    def as_record(self) -> dict[str, Any]:
        """Return it for JSON, without what is None."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    @property
    def text(self) -> str:
        """Return it in a line for people."""
        before = "" if self.before is None else f", {self.before:,.2f} of them before the network"
        return f"{self.milliseconds:,.2f} ms/image{before} ({self.batch} at once, {self.device})"


def measure_speed(predictor: Any, images: Any) -> Speed:
    """Measure how long predictions take, behind a first one that compiles.

    Proposals, which take longer than the network and compile nothing, are found once.

    Args:
        predictor: what `convax.load` gives.
        images: ``(N, H, W, C)``, as stored; the first of them are predicted, as many as the largest
            of `Predictor.sizes` up to `MOST_IMAGES` that they fill.
    """
    fitting = [size for size in predictor.sizes if size <= min(len(images), MOST_IMAGES)]
    some = np.asarray(images[: max(fitting)])
    more, before = predictor.task.more_inputs, None
    if more is None:
        seconds = _median(lambda: predictor(some))
    else:
        began = time.perf_counter()
        try:
            given = more(some)
            before = time.perf_counter() - began
        except DataError:
            given = more(some, made_up=True)
        arguments = predictor.params, predictor.state, some, *given.values()
        seconds = _median(lambda: jax.device_get(predictor.function(*arguments))) + (before or 0)
    each = 1000 / len(some)
    device = jax.devices()[0].device_kind
    return Speed(each * seconds, len(some), None if before is None else each * before, device)


def _median(call: Any) -> float:
    """Return the median seconds of some calls, without the first."""
    call()
    taken: list[float] = []
    while len(taken) < CALLS and sum(taken) < SECONDS:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
