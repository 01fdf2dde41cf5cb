"""When to stop before the last step: target reached, no more improvement, updates too small.

The rules are fixed, the progress is a small tuple of numbers, and the functions are pure, so that a
checkpoint can hold it as JSON and a resumed run stops where the other one would have:

    progress, reason = after_evaluation(rules, progress, accuracy, step)
    json.dumps(progress._asdict())        # and back: Progress(**json.loads(text))

A reason is None or a sentence for people. A maximum of steps is the training loop's own affair.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


@dataclass(frozen=True)
class Stopping:
    """The rules, each off unless given.

    Args:
        target: stop when the watched metric is this good.
        patience: stop after this many evaluations in a row without improvement, >= 1.
        min_delta: what counts as improvement: more than this beyond the best so far, >= 0.
        min_update: stop when every parameter moves by less than this in one step, > 0.
        mode: whether a good metric is a large one ("max") or a small one ("min").

    Raises:
        ValueError: a value is out of range.
    """

    target: float | None = None
    patience: int | None = None
    min_delta: float = 0.0
    min_update: float | None = None
    mode: Literal["max", "min"] = "max"

    def __post_init__(self):
        """Check the values."""
        target, patience, min_update = self.target, self.patience, self.min_update
        _check("target", target, target is None or math.isfinite(target), "a finite number")
        _check("patience", patience, patience is None or patience >= 1, "1 evaluation or more")
        _check("min_delta", self.min_delta, 0 <= self.min_delta < math.inf, "a finite number >= 0")
        positive = min_update is None or 0 < min_update < math.inf
        _check("min_update", min_update, positive, "a finite number > 0")
        _check("mode", self.mode, self.mode in ("max", "min"), '"max" or "min"')


class Progress(NamedTuple):
    """The evaluations so far, as the rules see them."""

    best: float | None = None  # the watched metric, None before the first finite one
    best_step: int = 0  # the step of that evaluation
    stale: int = 0  # evaluations since


def after_evaluation(
    rules: Stopping, progress: Progress, metric: Any, step: int
) -> tuple[Progress, str | None]:
    """Return what one more evaluation amounts to.

    Args:
        rules: the rules.
        progress: of the evaluations before; ``Progress()`` before the first one.
        metric: the watched metric, a scalar. NaN and infinities count as no improvement.
        step: the training step of this evaluation.

    Returns:
        The new progress, and the reason to stop or None.

    Example:
        >>> rules = Stopping(patience=1)
        >>> progress, reason = after_evaluation(rules, Progress(), 0.5, step=100)
        >>> progress, reason = after_evaluation(rules, progress, 0.4, step=200)
        >>> reason
        'no improvement in 1 evaluation: the best is 0.5, at step 100'

    Note:
        As in Keras, `best` moves only by more than `min_delta`, so that slow gains add up until
        they count, and the evaluation number `patience` without improvement is the last.
    """
    metric, sign = float(metric), 1 if rules.mode == "max" else -1
    if improves(progress.best, metric, min_delta=rules.min_delta, mode=rules.mode):
        progress = Progress(metric, int(step), 0)
    else:
        progress = progress._replace(stale=progress.stale + 1)

    target, patience = rules.target, rules.patience
    if target is not None and math.isfinite(metric) and sign * metric >= sign * target:
        relation = "at least" if sign > 0 else "at most"
        return progress, f"target reached: {metric:.6g} is {relation} {target:.6g}, at step {step}"
    if patience is not None and progress.stale >= patience:
        return progress, f"no improvement in {_evaluations(progress.stale)}: {_best(progress)}"
    return progress, None


def improves(best: float | None, metric: float, *, min_delta: float, mode: str) -> bool:
    """Return whether a metric is better than the best so far, None for none, by `min_delta`."""
    if not math.isfinite(metric):
        return False
    sign = 1 if mode == "max" else -1
    return best is None or sign * (metric - best) > min_delta


def after_step(rules: Stopping, largest_update: Any) -> str | None:
    """Return the reason to stop after one update, if there is one.

    Args:
        rules: the rules; ask only where `rules.min_update` is set, as reading the number waits
            for the device.
        largest_update: what the function of that name returned for this step. NaN never stops.

    Returns:
        The reason to stop or None.
    """
    if rules.min_update is None or not float(largest_update) < rules.min_update:
        return None
    return (
        f"every update is below {rules.min_update:.6g}: the largest was {float(largest_update):.6g}"
    )


def _evaluations(count):
    return "1 evaluation" if count == 1 else f"{count} evaluations"


def _best(progress):
    if progress.best is None:
        return "none gave a finite number"
    return f"the best is {progress.best:.6g}, at step {progress.best_step}"


def _check(name, value, within, need):
    if not within:
        raise ValueError(f"stopping: {name} is out of range: got {value}, need {need}")
