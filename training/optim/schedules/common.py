"""What the builders of schedules share: their types and their checks."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np

from ....ops.common.jax_compat import Tracer

Schedule = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]

PART = "a part of the run"  # marks a keyword for which a config may write a duration, too
Part = Annotated[float, PART]


def warmup_steps(warmup: float, steps: int) -> int:
    """Count the updates of a warmup: at least one update is left to fall."""
    return min(round(warmup * steps), steps - 1)


def with_warmup(schedule: Schedule, top: Any, rise: int) -> Schedule:
    """Put a straight rise to `top` over `rise` updates before a schedule."""
    import optax

    if rise:
        rising = optax.linear_schedule(top / (rise + 1), top, rise)
        schedule = optax.join_schedules([rising, schedule], [rise])
    return under_any_promotion(schedule)


def under_any_promotion(schedule: Schedule) -> Schedule:
    """Run optax under standard promotion: its arithmetic mixes integer counts and floats."""

    def value(count):
        with jax.numpy_dtype_promotion("standard"):
            return schedule(count)

    return value


MOST_SAMPLES = 2**20


def values_of(schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the learning rates of a run, each as nearly as float64 has it.

    Args:
        schedule: the learning rate by the number of updates made so far.
        steps: updates in the run.

    Returns:
        Numbers of updates, all of them up to 2**20 and as many evenly spaced ones of a longer run,
        int64; and their learning rates, float64: what is too small for float32 is not 0 here. It is
        infinite or NaN where float32 overflows on the way.
    """
    samples = min(steps, MOST_SAMPLES)
    counts = np.arange(samples) * steps // samples
    narrow = _evaluated(schedule, counts.astype(np.int32))
    with jax.enable_x64(True):
        wide = _evaluated(schedule, counts.astype(np.float64))
    return counts, np.where(np.isfinite(narrow), wide, narrow)


def _evaluated(schedule: Schedule, counts: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(lambda count: jax.numpy.asarray(schedule(count))))(counts))


def check_run(function: str, peak, steps) -> None:
    """Raise unless learning rate and length are such."""
    if not isinstance(peak, Tracer):  # a traced peak, under vmap, cannot be read
        check(function, "peak", peak, 0 <= peak < math.inf, "a finite learning rate >= 0")
    whole = isinstance(steps, int | np.integer) and steps >= 1
    check(function, "steps", steps, whole, "a whole number of updates >= 1")


def check_warmup(function: str, warmup: float) -> None:
    """Raise unless a rise is a part of the run, and not all of it."""
    check(function, "warmup", warmup, 0 <= warmup < 1, "a fraction of the run in [0, 1)")


def check_divisors(function: str, **divisors: float) -> None:
    """Raise unless the peak is divided by 1 or more, and not by infinity."""
    for name, value in divisors.items():
        check(function, name, value, 1 <= value < math.inf, "a number >= 1")


def check(function: str, name: str, value, within: bool | np.bool_, need: str) -> None:
    """Raise unless a value is `within` its range."""
    if not within:
        raise ValueError(f"{function}: {name} is out of range: got {value}, need {need}")
