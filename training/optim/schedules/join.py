"""Schedules put together: a warm-up in front of any, and several one after the other.

Each part is a schedule of its own, of as many updates as it has: what a config says of its
durations is a share of that part, or counted from its beginning.
"""

import typing
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ...common.duration import RunLength, duration_in_steps
from .common import PART, Schedule, check, under_any_promotion, warmup_steps, with_warmup


def build_with_warmup(
    build: Callable[..., Schedule], peak: float, steps: int, rise: int, **keywords: Any
) -> Schedule:
    r"""Rise straight over `rise` updates, then follow ``build(peak, steps - rise, **keywords)``.

    .. math:: \eta_t = \begin{cases} s_0 (t + 1) / (W + 1) & t < W \\ s_{t - W} \end{cases}

    with s the schedule that follows, and W the updates of the rise: the one of `cosine`, for all.

    Args:
        build: the builder of the schedule.
        peak: its learning rate.
        steps: updates in the whole.
        rise: :math:`W < T`; 0 for none.
        **keywords: the builder's own.

    Example:
        >>> from convax.training.optim.schedules.schedules import linear
        >>> schedule = build_with_warmup(linear, 1.0, 7, 3)
        >>> [float(schedule(count)) for count in range(8)]
        [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0]

    References:
        Goyal et al., arXiv:1706.02677, section 2.2.
    """
    schedule = build(peak, steps - rise, **keywords)
    return with_warmup(schedule, schedule(0), rise) if rise else schedule


def joined(schedules: Sequence[Schedule], lengths: Sequence[int]) -> Schedule:
    """Join schedules, each of so many updates, one after the other."""
    import optax

    starts = [sum(lengths[:i]) for i in range(1, len(lengths))]
    return under_any_promotion(optax.join_schedules(list(schedules), starts))


def parts_of(build: Callable[..., Any]) -> set[str]:
    """Return the keywords of a builder that are parts of the run, or lists of them."""
    hints = typing.get_type_hints(build, include_extras=True)
    return {name for name, hint in hints.items() if is_part(hint)}


def is_part(hint: Any) -> bool:
    """Return whether a type is `Part`, or a list of such."""
    if PART in getattr(hint, "__metadata__", ()):
        return True
    return any(is_part(arm) for arm in typing.get_args(hint))


def as_part(written: Any, run: RunLength) -> Any:
    """Convert a part of the run as a config writes it, or several, to fractions of the run.

    Example:
        >>> as_part([0.1, "20%", "3 epochs"], RunLength(examples=100, batch_size=10, total=120))
        [0.1, 0.2, 0.25]
    """
    if isinstance(written, list | tuple):
        return [as_part(one, run) for one in written]
    if not isinstance(written, str) or run.total is None:
        return written
    return duration_in_steps(written, run) / run.total


def schedule_of(
    builders: dict[str, Callable[..., Schedule]],
    table: dict[str, Any],
    peak: float,
    run: RunLength,
) -> Schedule:
    """Build the schedule that a table of a config describes.

    Args:
        builders: by name.
        table: ``name``, the builder's keywords, and ``warmup`` where it has none of its own; or
            ``name = "sequence"`` and ``parts``, a list of such tables with ``until`` and ``scale``.
        peak: the learning rate.
        run: of the run, or of the part of it.

    Raises:
        ValueError: a duration does not fit into the run.
    """
    total = run.total or 1
    keywords = {key: value for key, value in table.items() if key != "name"}
    if table["name"] == "sequence":
        return _join(builders, keywords["parts"], peak, run)
    build = builders[table["name"]]
    parts, rise = parts_of(build), 0
    if "warmup" not in parts:
        warmup = as_part(keywords.pop("warmup", 0.0), run)
        check(table["name"], "warmup", warmup, 0 <= warmup < 1, "a part of the run below all of it")
        rise = warmup_steps(warmup, total)
    rest = run._replace(total=total - rise)
    own = {k: as_part(v, rest) if k in parts else v for k, v in keywords.items()}
    return build_with_warmup(build, peak, total, rise, **own)


def _join(builders, tables, peak, run):
    total = run.total or 1
    ends = [round(as_part(table["until"], run) * total) for table in tables[:-1]] + [total]
    lengths = [b - a for a, b in pairwise([0, *ends])]
    places = [table["until"] for table in tables[:-1]]
    check("sequence", "until", places, min(lengths) >= 1, f"rising places among {total} updates")
    schedules = []
    for table, updates in zip(tables, lengths, strict=True):
        own = {key: value for key, value in table.items() if key not in ("until", "scale")}
        part = run._replace(total=updates)
        schedules.append(schedule_of(builders, own, peak * table["scale"], part))
    return joined(schedules, lengths)
