"""Durations as a config writes them: in steps, epochs, examples, or percent of the run."""

import re
from typing import NamedTuple


class RunLength(NamedTuple):
    """How long things are in a run."""

    examples: int  # an epoch has so many
    batch_size: int  # a step takes so many of them
    total: int | None = None  # steps of the whole run; None while that is not yet known


_LONGEST = 1e15  # of any unit: all whole numbers up to there are floating-point numbers


def duration_in_steps(duration: str, run: RunLength) -> float:
    """Convert a duration of a config to steps, not rounded.

    Args:
        duration: such as "500 steps", "1 epoch", "50000 examples" or "10%".
        run: its length.

    Raises:
        ValueError: it is no such thing, or a percentage of what is not known.

    Example:
        >>> run = RunLength(examples=1000, batch_size=50, total=400)
        >>> [duration_in_steps(text, run) for text in ("30 steps", "0.5 epochs", "10%")]
        [30.0, 10.0, 40.0]
        >>> duration_in_steps("125 examples", run)
        2.5
    """
    number, unit = parse_duration(duration)
    if unit == "%":
        if run.total is None:
            raise ValueError(f"{duration!r} of what? write steps, epochs or examples")
        return number * run.total / 100
    return (
        number
        * {
            "step": 1.0,
            "epoch": run.examples / run.batch_size,
            "example": 1 / run.batch_size,
        }[unit]
    )


def interval_in_steps(duration: str, run: RunLength) -> float:
    """Convert an interval, as of ``evaluate_every``, to steps: 1 or more, not rounded."""
    return max(1.0, duration_in_steps(duration, run))


def parse_duration(text: str) -> tuple[float, str]:
    """Split a duration into its number and its unit: "step", "epoch", "example" or "%".

    Raises:
        ValueError: it is no duration.

    Example:
        >>> parse_duration("2 epochs")
        (2.0, 'epoch')
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:(step|epoch|example)s?|%)", text)
    if not found or not float(found[1]):
        raise ValueError(
            'should be a duration such as "1 epoch", "500 steps", "50000 examples" or "10%"'
        )
    if float(found[1]) > _LONGEST:
        raise ValueError(f"should be a duration of at most {_LONGEST:.0e} of a unit")
    return float(found[1]), found[2] or "%"
