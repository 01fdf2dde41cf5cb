r"""Learning-rate schedules for a whole run: optax's, with durations as fractions of the run.

A builder takes the peak learning rate, the number of updates in the run and its own keywords, and
returns a schedule: a function of the number of updates made so far. The first update of a run asks
for ``schedule(0)`` and the last for ``schedule(steps - 1)``; the end value, at ``schedule(steps)``,
is where the curve arrives, one update after the last. As durations are fractions, a config keeps
its meaning when the batch size or the number of epochs changes.

    schedule = SCHEDULES["cosine"](0.1, 1000, warmup=0.05)
    optimizer = sgd(schedule, momentum=0.9)

optax is imported by the builders that need it, so that naming a schedule costs nothing. A warm-up
in front of any of them, and several one after the other: `training.optim.schedules.join`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from .common import (
    Part,
    Schedule,
    check,
    check_divisors,
    check_run,
    check_warmup,
    under_any_promotion,
    warmup_steps,
    with_warmup,
)
from .shapes import cosine_restarts, linear_onecycle, piecewise, polynomial


def constant(peak: float, steps: int) -> Schedule:
    """Stay at `peak` throughout.

    Args:
        peak: the learning rate.
        steps: updates in the run.

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> constant(0.1, 100)(42)
        0.1
    """
    check_run("constant", peak, steps)
    return lambda count: peak


def linear(peak: float, steps: int, *, end: float = 0.0) -> Schedule:
    r"""Fall along a straight line from `peak` to ``end * peak``.

    .. math:: \eta_t = \eta \,(1 - (1 - e)\, t / T)

    Args:
        peak: :math:`\eta`, the learning rate of the first update.
        steps: :math:`T`, updates in the run.
        end: :math:`e`, the fraction of `peak` at the end, in [0, 1].

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Note:
        PyTorch's `LinearLR(start_factor=1, end_factor=end, total_iters=steps)`.
    """
    check_run("linear", peak, steps)
    check("linear", "end", end, 0 <= end <= 1, "a fraction of peak in [0, 1]")
    import optax

    return under_any_promotion(optax.linear_schedule(peak, end * peak, steps))


def cosine(peak: float, steps: int, *, warmup: Part = 0.0, end: float = 0.0) -> Schedule:
    r"""Rise straight over `warmup`, then fall by half a cosine from `peak` to ``end * peak``.

    .. math::
        \eta_t = \begin{cases}
            \eta\, (t + 1) / (W + 1) & t < W \\
            \eta \left(e + (1 - e)\, \tfrac12 \bigl(1 + \cos \pi \tfrac{t - W}{T - W}\bigr)\right)
        \end{cases}

    Args:
        peak: :math:`\eta`, the highest learning rate.
        steps: :math:`T`, updates in the run.
        warmup: the part of the run spent rising, in [0, 1); :math:`W` is the nearest whole number
            of updates that leaves one to fall.
        end: :math:`e`, the fraction of `peak` at the end, in [0, 1].

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Note:
        The rise begins at :math:`\eta / (W + 1)`: from zero, as is often written, the first
        update would do nothing. Without warmup this is PyTorch's
        `CosineAnnealingLR(T_max=steps, eta_min=end * peak)`.

    References:
        Loshchilov & Hutter, ICLR 2017, arXiv:1608.03983.
    """
    check_run("cosine", peak, steps)
    check_warmup("cosine", warmup)
    check("cosine", "end", end, 0 <= end <= 1, "a fraction of peak in [0, 1]")
    import optax

    rise = warmup_steps(warmup, steps)
    return with_warmup(optax.cosine_decay_schedule(peak, steps - rise, alpha=end), peak, rise)


def onecycle(
    peak: float,
    steps: int,
    *,
    warmup: Part = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    r"""Rise to `peak` by half a cosine, then fall by another to almost nothing.

    .. math::
        \frac{\eta}{d} \;\longrightarrow\; \eta \;\text{ at }\; t = W
        \;\longrightarrow\; \frac{\eta}{d\,d'} \;\text{ at }\; t = T

    Args:
        peak: :math:`\eta`, the highest learning rate.
        steps: :math:`T`, updates in the run.
        warmup: :math:`p`, the part of the run spent rising, in [0, 1); :math:`W` is the nearest
            whole number of updates that leaves one to fall.
        div_factor: :math:`d \ge 1`; the first learning rate is ``peak / div_factor``.
        final_div_factor: :math:`d' \ge 1`; the last one is
            ``peak / (div_factor * final_div_factor)``.

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Note:
        The divisors mean the same in `optax.cosine_onecycle_schedule` and PyTorch's `OneCycleLR`.
        optax rounds :math:`W` down. PyTorch's curve is one update shorter: the peak falls on
        :math:`pT - 1` (not rounded) and the end on :math:`T - 1`, the last update, so that
        ``OneCycleLR(total_steps=T, pct_start=p)`` is
        ``onecycle(peak, T - 1, warmup=(p * T - 1) / (T - 1))`` where `p * T` is whole; and PyTorch
        cycles the momentum too.

    References:
        Smith & Topin, 2017, arXiv:1708.07120.
    """
    check_run("onecycle", peak, steps)
    check_warmup("onecycle", warmup)
    check_divisors("onecycle", div_factor=div_factor, final_div_factor=final_div_factor)
    import optax

    factors = {warmup_steps(warmup, steps): div_factor, steps: 1 / (div_factor * final_div_factor)}
    return under_any_promotion(
        optax.piecewise_interpolate_schedule("cosine", peak / div_factor, factors)
    )


def exponential(
    peak: float, steps: int, *, rate: float = 0.1, decay_steps: Part = 0.3, staircase: bool = False
) -> Schedule:
    r"""Multiply by `rate` once in every `decay_steps` of the run, smoothly or at once.

    .. math:: \eta_t = \eta\, r^{\,t / K}, \qquad \text{with staircase}\quad
        \eta\, r^{\lfloor t / K \rfloor}

    Args:
        peak: :math:`\eta`, the learning rate of the first update.
        steps: updates in the run.
        rate: :math:`r`, the factor, > 0; above 1 the learning rate grows.
        decay_steps: how long one factor takes, as a part of the run in (0, 1]; :math:`K` is the
            nearest whole number of updates, at least 1.
        staircase: drop at the end of each part instead of all along it.

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Note:
        Without staircase this is PyTorch's `ExponentialLR(gamma=rate ** (1 / K))`, with it
        `StepLR(step_size=K, gamma=rate)`.
    """
    check_run("exponential", peak, steps)
    check("exponential", "rate", rate, 0 < rate < math.inf, "a factor > 0")
    within = 0 < decay_steps <= 1
    check("exponential", "decay_steps", decay_steps, within, "a fraction of the run in (0, 1]")
    import optax

    period = max(1, round(decay_steps * steps))
    return under_any_promotion(optax.exponential_decay(peak, period, rate, staircase=staircase))


def step(
    peak: float, steps: int, *, milestones: Sequence[Part] = (0.5, 0.75), gamma: float = 0.1
) -> Schedule:
    r"""Multiply by `gamma` at each of the `milestones`.

    .. math:: \eta_t = \eta\, \gamma^{\,\#\{a \,:\, t \ge \operatorname{round}(aT)\}}

    Args:
        peak: :math:`\eta`, the learning rate of the first update.
        steps: :math:`T`, updates in the run.
        milestones: places :math:`a`, fractions of the run in [0, 1], in any order.
        gamma: :math:`\gamma`, the factor, >= 0.

    Returns:
        The schedule.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> schedule = step(1.0, 100, milestones=[0.5], gamma=0.25)
        >>> [float(schedule(count)) for count in (0, 49, 50, 99)]
        [1.0, 1.0, 0.25, 0.25]

    Note:
        PyTorch's `MultiStepLR(milestones=[round(a * steps) for a in milestones], gamma=gamma)`.
    """
    check_run("step", peak, steps)
    within = all(0 <= place <= 1 for place in milestones)
    check("step", "milestones", list(milestones), within, "fractions of the run in [0, 1]")
    check("step", "gamma", gamma, 0 <= gamma < math.inf, "a factor >= 0")
    import optax

    # In a short run two places may round to the same update; both factors count.
    drops = Counter(round(place * steps) for place in milestones)
    return under_any_promotion(
        optax.piecewise_constant_schedule(peak, {t: gamma**n for t, n in drops.items()})
    )


# What a config may name; the keywords of its table are those of the builder.
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "onecycle": onecycle,
    "exponential": exponential,
    "step": step,
    "polynomial": polynomial,
    "cosine_restarts": cosine_restarts,
    "linear_onecycle": linear_onecycle,
    "piecewise": piecewise,
}
