"""More shapes of learning-rate schedules; see `schedules` for what a builder is."""

import math
from collections.abc import Sequence
from itertools import pairwise

import jax.numpy as jnp

from .common import (
    Part,
    Schedule,
    check,
    check_divisors,
    check_run,
    check_warmup,
    under_any_promotion,
    warmup_steps,
)


def polynomial(peak: float, steps: int, *, power: float = 2.0, end: float = 0.0) -> Schedule:
    r"""Fall with a power of what is left of the run, from `peak` to ``end * peak``.

    .. math:: \eta_t = \eta \left(e + (1 - e) (1 - t / T)^p\right)

    Args:
        peak: :math:`\eta`, the learning rate of the first update.
        steps: :math:`T`, updates in the run.
        power: :math:`p > 0`; 1 is a straight line.
        end: :math:`e`, the fraction of `peak` at the end, in [0, 1].

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Note:
        `optax.polynomial_schedule`; PyTorch's `PolynomialLR(total_iters=steps, power=power)`.
    """
    check_run("polynomial", peak, steps)
    check("polynomial", "power", power, 0 < power < math.inf, "a number > 0")
    check("polynomial", "end", end, 0 <= end <= 1, "a fraction of peak in [0, 1]")

    def schedule(count):
        # Not optax's: there rounding may leave less than nothing at the end, whose root is NaN.
        left = jnp.clip(1 - count / steps, 0, 1)
        return peak * (end + (1 - end) * left**power)

    return under_any_promotion(schedule)


def cosine_restarts(
    peak: float, steps: int, *, cycles: int = 3, t_mult: float = 2.0, end: float = 0.0
) -> Schedule:
    r"""Fall by half a cosine to ``end * peak``, `cycles` times, each `t_mult` times as long.

    .. math:: \eta_t = \eta \left(e + (1 - e)\, \tfrac12 \bigl(1 + \cos \pi \tfrac{t - t_i}{T_i}
        \bigr)\right), \qquad T_i \approx T \frac{m^i}{1 + m + \dots + m^{n-1}}

    where :math:`t_i` is the beginning of the cycle that t is in. The last one ends with the run.

    Args:
        peak: :math:`\eta`, the learning rate at each beginning.
        steps: :math:`T`, updates in the run.
        cycles: n, at least 1.
        t_mult: m, at least 1: how many times as long each cycle is as the one before.
        end: :math:`e`, the fraction of `peak` at the end of each, in [0, 1].

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range; a cycle would have no update.

    Note:
        `optax.sgdr_schedule` without warm-ups; PyTorch's `CosineAnnealingWarmRestarts` with the
        same T_mult and such a T_0 that the run ends with a cycle.

    References:
        Loshchilov & Hutter, ICLR 2017, arXiv:1608.03983.
    """
    check_run("cosine_restarts", peak, steps)
    whole = isinstance(cycles, int) and cycles >= 1
    check("cosine_restarts", "cycles", cycles, whole, "a whole number >= 1")
    check("cosine_restarts", "t_mult", t_mult, 1 <= t_mult < math.inf, "a number >= 1")
    check("cosine_restarts", "end", end, 0 <= end <= 1, "a fraction of peak in [0, 1]")
    import optax

    sums = [sum(t_mult**j for j in range(i)) for i in range(cycles + 1)]
    starts = [round(steps * s / sums[-1]) for s in sums]
    lengths = [b - a for a, b in pairwise(starts)]
    check(
        "cosine_restarts",
        "cycles",
        cycles,
        min(lengths) >= 1,
        f"as many as {steps} updates have room",
    )
    each = [optax.cosine_decay_schedule(peak, length, alpha=end) for length in lengths]
    return under_any_promotion(optax.join_schedules(each, starts[1:-1]))


def linear_onecycle(
    peak: float,
    steps: int,
    *,
    warmup: Part = 0.3,
    pct_final: Part = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    r"""Rise straight to `peak`, fall straight back, then on to almost nothing.

    .. math:: \frac{\eta}{d} \;\longrightarrow\; \eta \;\text{ at }\; t = W
        \;\longrightarrow\; \frac{\eta}{d} \;\text{ at }\; t = B
        \;\longrightarrow\; \frac{\eta}{d\,d'} \;\text{ at }\; t = T

    Args:
        peak: :math:`\eta`, the highest learning rate.
        steps: :math:`T`, updates in the run.
        warmup: the part of the run spent rising, in [0, 1).
        pct_final: where the learning rate is back at its first value, in (`warmup`, 1].
        div_factor: :math:`d \ge 1`; the first learning rate is ``peak / div_factor``.
        final_div_factor: :math:`d' \ge 1`; the last one is
            ``peak / (div_factor * final_div_factor)``.

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Note:
        `optax.linear_onecycle_schedule`, which rounds down.

    References:
        Smith & Topin, 2017, arXiv:1708.07120.
    """
    name = "linear_onecycle"
    check_run(name, peak, steps)
    check_warmup(name, warmup)
    within = warmup < pct_final <= 1
    check(name, "pct_final", pct_final, within, "a fraction of the run above warmup, at most 1")
    check_divisors(name, div_factor=div_factor, final_div_factor=final_div_factor)
    low, least = 1 / div_factor, 1 / (div_factor * final_div_factor)
    at = [0, warmup_steps(warmup, steps), round(pct_final * steps), steps]
    return _through(peak, at, [low, 1.0, low, least])


def piecewise(
    peak: float,
    steps: int,
    *,
    at: Sequence[Part] = (0.0, 0.2, 1.0),
    factors: Sequence[float] = (0.0, 1.0, 0.0),
) -> Schedule:
    r"""Follow straight lines through given points: ``factors[i] * peak`` at ``at[i]``.

    .. math:: \eta_t = \eta \left(f_i + (f_{i+1} - f_i) \frac{t - a_i}{a_{i+1} - a_i}\right),
        \qquad a_i \le t < a_{i+1}

    Args:
        peak: :math:`\eta`.
        steps: updates in the run.
        at: places :math:`a_i`, fractions of the run in [0, 1], rising; each is the nearest whole
            number of updates. Two that are the same make a jump.
        factors: :math:`f_i \ge 0`, one for each place. Before the first and after the last place
            the learning rate is as it is there.

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> schedule = piecewise(1.0, 100, at=[0.0, 0.5, 0.5, 1.0], factors=[1.0, 1.0, 0.5, 0.0])
        >>> [float(schedule(count)) for count in (0, 49, 50, 75, 100)]
        [1.0, 1.0, 0.5, 0.25, 0.0]
    """
    check_run("piecewise", peak, steps)
    rising = list(at) == sorted(at) and len(at) > 0 and at[0] >= 0 and at[-1] <= 1
    check("piecewise", "at", list(at), rising, "rising fractions of the run in [0, 1]")
    fitting = len(factors) == len(at) and all(0 <= f < math.inf for f in factors)
    need = f"{len(at)} numbers >= 0, one for each of at"
    check("piecewise", "factors", list(factors), fitting, need)
    return _through(peak, [round(place * steps) for place in at], list(factors))


def _through(peak: float, at: list[int], factors: list[float]) -> Schedule:
    """Follow straight lines from point to point, flat on either side."""
    import optax

    points = [(a, f * peak) for a, f in zip(at, factors, strict=True)]
    lines = [optax.linear_schedule(f, g, b - a) for (a, f), (b, g) in pairwise(points) if b > a]
    starts = [a for (a, _), (b, _) in pairwise(points) if b > a]
    first = optax.constant_schedule(points[0][1])
    last = optax.constant_schedule(points[-1][1])
    return under_any_promotion(optax.join_schedules([first, *lines, last], [*starts, at[-1]]))
