r"""A learning rate to begin with: raise it at every step, and see where the loss falls and breaks.

At step t of T the learning rate is :math:`a (b / a)^{t / (T - 1)}`, from a to b on a logarithmic
scale; the network, its optimizer, data, batches and augmentation are those of the config. The loss
of each batch is smoothed,

.. math:: m_t = \beta m_{t-1} + (1 - \beta)\, \ell_t, \qquad s_t = m_t / (1 - \beta^{t + 1})

and the run ends when :math:`s_t` is not finite, or four times the smallest so far and above where
it began. The first twenty, as many as the smoothing is over, are left out of account: there s is
the loss of a few batches, some of which are easy. The suggestion is the smaller of two learning
rates: where s falls fastest against the logarithm of the learning rate, in the lower half of its
fall ("steepest"), and a tenth of the last at which s is near its smallest ("tenth of the lowest"):
a curve that falls until it breaks is steepest where it is too late. It is meant as the peak of the
schedule, for this batch size, and as a place to look around: the first steps know nothing of the
last ones.

There is none where s did not fall by more than batches differ by chance: where the mean of all
losses, but for the last twenty before the smallest s, is within three standard deviations of that.
They come of the differences of successive losses.

References:
    Smith, Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186, section 3.3. The
    end (four times) and both rules are those of fastai.
"""

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .config.errors import ConfigError
from .config.schema import Config
from .config.table import LEAST, MOST
from .config_data import sampling_of
from .data import read_batches
from .experiment import (
    check_learning_rates,
    make_optimizer,
    make_step_spec,
    prepare,
    resolve_data_path,
)
from .initialize import init_from_source, resolve_weights_path
from .loop.progress import Display, Silent
from .optim.schedules.schedules import exponential
from .plots.lr_finder import draw
from .run.directory import write_json
from .step.train_step import make_train_step

SMOOTHING = 0.95  # over some twenty steps, a tenth of a ramp
WARMUP = 20  # steps: before, the smoothed loss is not smooth
DIVERGED = 4.0  # times the smallest smoothed loss
EDGE = 0.1  # of the steps of a ramp are its warm-up, where that is less than `WARMUP`
NEAR = 0.1  # of the fall: as near to the smallest loss as noise may bring it
BEGUN = 0.5  # of the fall: what is above may be noise before it
SIGNIFICANT = 3.0  # standard deviations: losses that only scatter fall so in one ramp of fifty


class Ramp(NamedTuple):
    """What a search found."""

    learning_rate: np.ndarray  # (steps taken,)
    loss: np.ndarray  # likewise: of each batch
    smoothed: np.ndarray  # likewise
    diverged: bool  # whether it ended early
    suggestion: float | None  # None where the loss did not fall
    rule: str  # "steepest" or "tenth of the lowest"; without a suggestion: why there is none


def find_learning_rate(
    config: Config,
    out: str | Path,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 200,
    config_dir: str | Path | None = None,
    display: Display | None = None,
) -> Ramp:
    """Search a learning rate for a config; writes ``lr-find.json`` and ``lr-find.png``.

    Args:
        config: the experiment; its learning rate and schedule are not used.
        out: the folder for the two files; made where it is not there.
        low, high: the ends of the ramp.
        steps: how many steps it has, 10 or more.
        config_dir: the folder of the config file, for a relative ``data.path``.
        display: where progress goes; nowhere by default.

    Raises:
        ConfigError: the ramp is none, or what `train` raises.
    """
    if not 0 < low < high < math.inf:
        raise ConfigError(f"lr-find: got a ramp from {low:g} to {high:g}, need 0 < from < to")
    if not (low >= LEAST and high <= MOST):
        raise ConfigError(
            f"lr-find: got a ramp from {low:g} to {high:g}, need learning rates that float32 "
            f"holds: from {LEAST:.1g} to {MOST:.1g}"
        )
    if steps < 10:
        raise ConfigError(f"lr-find: got {steps} steps, need 10 or more; 200 show a curve")
    folder, out = None if config_dir is None else Path(config_dir), Path(out)
    config = resolve_weights_path(resolve_data_path(config, folder), folder)
    with closing(display or Silent()) as display:
        losses = _losses(
            config, exponential(low, steps - 1, rate=high / low, decay_steps=1.0), steps, display
        )
    ramp = read_ramp(low * (high / low) ** (np.arange(len(losses)) / (steps - 1)), losses, steps)
    out.mkdir(parents=True, exist_ok=True)
    columns = ("learning_rate", "loss", "smoothed")
    values = ramp._asdict() | {name: getattr(ramp, name).tolist() for name in columns}
    values["loss"] = [loss if math.isfinite(loss) else None for loss in values["loss"]]
    values["smoothed"] = [loss if math.isfinite(loss) else None for loss in values["smoothed"]]
    write_json(out / "lr-find.json", values)
    draw(ramp.learning_rate, ramp.loss, ramp.smoothed, ramp.suggestion, ramp.rule, out)
    return ramp


def _losses(config: Config, schedule: Any, steps: int, display: Display) -> list[float]:
    """Run the ramp: the loss of each step, until it has diverged, smoothed."""
    experiment = prepare(config)
    check_learning_rates(config, schedule, steps)
    for note in experiment.card.notes:
        display.note(f"note: {note}")
    experiment = experiment._replace(schedule=schedule, optimizer=make_optimizer(config, schedule))
    train_step = make_train_step(make_step_spec(experiment))
    train_state, _ = init_from_source(experiment)
    losses: list[float] = []
    batches = read_batches(
        experiment.dataset.train,
        **sampling_of(config, experiment.dataset.train),
        start=0,
        stop=steps,
    )
    with closing(batches):
        for images, labels in batches:
            train_state, metrics = train_step(train_state, images, labels)
            losses.append(float(metrics["loss"]))
            if len(losses) % 10 == 0 or len(losses) == steps:
                rate = float(schedule(len(losses) - 1))
                display.step(len(losses), steps, {"loss": losses[-1], "learning_rate": rate})
            if has_diverged(smooth(losses)):
                break
    return losses


def smooth(losses: Sequence[float], beta: float = SMOOTHING) -> np.ndarray:
    """Compute the running mean of the losses, corrected for its beginning at zero.

    Example:
        >>> smooth([4.0, 2.0], beta=0.5).tolist()  # (4 / 4 + 2 / 2) / (3 / 4)
        [4.0, 2.6666666666666665]
    """
    mean, smoothed = 0.0, []
    for t, loss in enumerate(losses, start=1):
        mean = beta * mean + (1 - beta) * loss
        smoothed.append(mean / (1 - beta**t))
    return np.array(smoothed)


def has_diverged(smoothed: np.ndarray) -> bool:
    """Return whether the last of the smoothed losses is not finite, or far above the smallest.

    Example:
        >>> has_diverged(np.array([0.1] + 30 * [0.9])), has_diverged(np.array(30 * [0.9] + [4.0]))
        (False, True)
    """
    last, smooth = smoothed[-1], smoothed[WARMUP - 1 :]
    if not np.isfinite(last):
        return True
    return len(smooth) > 0 and bool(last > max(DIVERGED * np.nanmin(smooth), smooth[0]))


def read_ramp(rates: np.ndarray, losses: Sequence[float], steps: int) -> Ramp:
    """Suggest a learning rate from the losses along a ramp, or say why there is none.

    Args:
        rates: rising.
        losses: of as many batches.
        steps: how many there would have been.

    Raises:
        ConfigError: the loss was no finite number from the first step on.
    """
    smoothed = smooth(losses)
    if not np.isfinite(smoothed[0]):
        raise ConfigError(
            f"lr-find: the loss is {losses[0]} at the first learning rate, {rates[0]:.3g}, so "
            "the learning rate is not the cause; check the data and the loss"
        )
    first = min(WARMUP, int(EDGE * steps), len(smoothed) - 1)
    finite = np.where(np.isfinite(smoothed), smoothed, np.inf)
    lowest = first + int(np.argmin(finite[first:]))
    diverged = has_diverged(smoothed)
    before, noise = _before_the_fall(losses, first, lowest)
    if not before - finite[lowest] > SIGNIFICANT * noise:
        rose = diverged or finite[-1] - finite[lowest] > SIGNIFICANT * noise
        remedy = f"--from below {rates[0]:.3g}" if rose else f"--to above {rates[-1]:.3g}"
        rule = (
            "the loss did not fall by more than batches differ by chance "
            f"({before:.3g} at first, {finite[lowest]:.3g} at best); write a {remedy}, "
            "more --steps or a larger training.batch_size"
        )
        return Ramp(rates, np.array(losses), smoothed, diverged, None, rule)
    fall = finite[first] - finite[lowest]
    last = int(np.flatnonzero(finite <= finite[lowest] + NEAR * fall)[-1])
    found = {"tenth of the lowest": float(rates[last]) / 10}
    # From where it has begun to fall for good; before, noise has slopes as well.
    high = finite[first : lowest + 1] >= finite[first] - BEGUN * fall
    begin = first + int(np.flatnonzero(high)[-1])
    if lowest - begin >= 2:
        slopes = np.gradient(smoothed[begin : lowest + 1], np.log(rates[begin : lowest + 1]))
        found["steepest"] = float(rates[begin + int(np.argmin(slopes))])
    rule = min(found, key=lambda name: found[name])
    return Ramp(rates, np.array(losses), smoothed, diverged, found[rule], rule)


def _before_the_fall(losses: Sequence[float], first: int, lowest: int) -> tuple[float, float]:
    r"""Return the mean loss before the smallest of s, and the noise of their difference.

    .. math:: \sigma \sqrt{\frac{1 - \beta}{1 + \beta} \cdot \frac{1 + \beta^t}{1 - \beta^t}
        + \frac{1}{n}}

    for s of t batches and a mean of n, with the standard deviation of a single loss.
    """
    count, decay = max(lowest + 1 - WARMUP, first), SMOOTHING ** (lowest + 1)
    mean = float(np.mean(losses[:count]))
    of_one = np.sqrt(np.mean(np.diff(losses[: lowest + 1]) ** 2) / 2)
    of_one = max(float(of_one), float(np.finfo(np.float32).eps) * abs(mean))
    variance = (1 - SMOOTHING) / (1 + SMOOTHING) * (1 + decay) / (1 - decay) + 1 / count
    return mean, of_one * math.sqrt(variance)
