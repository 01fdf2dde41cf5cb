r"""Lower the learning rate where the watched metric no longer improves.

The rate of the schedule is multiplied by a scale, 1 at first, which an evaluation may lower. The
function is pure and its progress a small tuple of numbers, so that a checkpoint can hold it as
JSON. The scale alone is an array too, `TrainState.rate_scale`: a training step multiplies its
updates by it, which are proportional to the learning rate.
"""

from typing import Any, Literal, NamedTuple

from .early_stopping import improves


class PlateauProgress(NamedTuple):
    """The evaluations so far, and what the learning rate is multiplied by."""

    best: float | None = None  # the watched metric, None before the first finite one
    stale: int = 0  # evaluations since, that count
    rest: int = 0  # evaluations of the cooldown still to come
    scale: float = 1.0


def after_evaluation(
    progress: PlateauProgress,
    metric: Any,
    *,
    factor: float,
    patience: int,
    min_delta: float = 0.0,
    cooldown: int = 0,
    min_scale: float = 0.0,
    mode: Literal["max", "min"] = "max",
) -> PlateauProgress:
    r"""Return what one more evaluation amounts to.

    .. math:: s \leftarrow \max(f s, s_\text{min}) \quad\text{after } p \text{ evaluations in a row
        without improvement}

    Args:
        progress: of the evaluations before; ``PlateauProgress()`` before the first one.
        metric: the watched metric, a scalar. NaN and infinities count as no improvement.
        factor: f, in (0, 1).
        patience: p >= 1.
        min_delta: what counts as improvement: more than this beyond the best so far, >= 0.
        cooldown: evaluations after a lowering in which none counts as stale.
        min_scale: the scale is never lower.
        mode: whether a good metric is a large one ("max") or a small one ("min").

    Returns:
        The new progress.

    Example:
        >>> progress = PlateauProgress()
        >>> for metric in (0.5, 0.4, 0.3):
        ...     progress = after_evaluation(progress, metric, factor=0.1, patience=2)
        >>> progress
        PlateauProgress(best=0.5, stale=0, rest=0, scale=0.1)

    Note:
        PyTorch's ``ReduceLROnPlateau(patience=patience - 1, threshold=min_delta,
        threshold_mode="abs", min_lr=min_scale * rate, eps=0)``: it lowers after more than its
        patience, as our `early_stopping`, Keras and `optax.contrib.reduce_on_plateau` do after as
        many. Its own threshold is by default a part of the best, 1e-4.
    """
    metric = float(metric)
    best, stale, rest, scale = progress
    if improves(best, metric, min_delta=min_delta, mode=mode):
        best, stale = metric, 0
    else:
        stale += 1
    if rest:
        rest, stale = rest - 1, 0
    if stale >= patience:
        return PlateauProgress(best, 0, cooldown, max(factor * scale, min_scale))
    return PlateauProgress(best, stale, rest, scale)
