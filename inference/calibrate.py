"""What makes probabilities mean what they say: fitted to a run's validation split, kept in it."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..training.common import waiting
from ..training.data import Split
from ..training.experiment import reopen
from ..training.run.directory import write_json
from ..training.tasks.classification import calibration as metrics
from ..training.tasks.classification.conformal import (
    ConformalSets,
    SetMetrics,
    fit_sets,
    measure_sets,
)
from ..training.tasks.registry import tasks_where
from .calibration.file import FILE, FORMAT, CalibrationError, coverage_of, weights_digest
from .forward import apply_temperature
from .predictor import Predictor, load

EXTREMES = (metrics.SHARPEST, metrics.FLATTEST)


class CalibrationMetrics(NamedTuple):
    """The calibration of the probabilities of a split."""

    count: int  # type: ignore[override] -- tuple has a method of that name
    nll: float  # the mean negative log-likelihood
    ece: float  # the expected calibration error, of 15 bins


class CalibrationFit(NamedTuple):
    """A temperature, and what it did to each split that there is: before and after.

    Splits are "validation", on which all is fitted, and "test", where there is one.
    """

    temperature: float
    splits: dict[str, tuple[CalibrationMetrics, CalibrationMetrics]]
    sets: ConformalSets | None  # at that temperature
    set_metrics: dict[str, SetMetrics]  # of each split; none without `sets`

    def as_record(self) -> dict[str, Any]:
        """Return the same for JSON."""
        splits = {
            name: {"before": before._asdict(), "after": after._asdict()}
            for name, (before, after) in self.splits.items()
        }
        record: dict[str, Any] = {"temperature": self.temperature, "splits": splits}
        if self.sets is not None:
            measured = {name: found._asdict() for name, found in self.set_metrics.items()}
            record["conformal"] = self.sets._asdict() | {"splits": measured}
        return record

    def lines(self) -> list[str]:
        """Return what was measured as text, a line for each split."""
        lines = [
            f"  {f'{split} ({before.count})':20} NLL {before.nll:.4f} -> {after.nll:.4f}   "
            f"calibration error {before.ece:.2%} -> {after.ece:.2%}"
            for split, (before, after) in self.splits.items()
        ]
        if self.sets is not None:
            share = f"{self.sets.coverage:.4g}"
            lines.append(f"  sets of classes, to hold the true one {share} of the time:")
        return lines + [
            f"  {f'{split} ({found.count})':20} they do {found.coverage:.4g}   "
            f"{found.size:.3g} classes in the mean   {found.empty:.2%} empty"
            for split, found in self.set_metrics.items()
        ]


def calibrate(
    run: str | Path,
    *,
    checkpoint: str = "best",
    use_ema: bool = True,
    tta: bool = False,
    coverage: float | None = None,
    data_path: Path | None = None,
) -> CalibrationFit:
    """Fit the temperature of a run on its validation split, and write it into the run.

    Args:
        run: the run directory, of a classification.
        checkpoint, use_ema, tta: as `predictor.load`; it will fit nothing else.
        coverage: how often a set of classes is to hold the true one, and with it the threshold of
            such sets; see `fit_sets`.
        data_path: where its data lie by now, if they were moved.

    Raises:
        CalibrationError: not a classification, no validation images, or none is best; or
            `coverage` is no share.
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used.
        OSError: the file cannot be written.
    """
    if coverage is not None and not 0 < coverage < 1:
        raise CalibrationError(
            f"calibrate: coverage: got {coverage:g}, need more than 0 and less than 1; write 0.9, "
            "for sets that hold the true class nine times in ten"
        )
    predictor = load(run, checkpoint=checkpoint, use_ema=use_ema, tta=tta)
    if not predictor.task.spec.ranks:
        fitting = " or ".join(tasks_where(lambda spec: spec.ranks))
        raise CalibrationError(
            f"calibrate: {run}: got a run of {predictor.task.name}, need one of {fitting}"
        )
    opened, experiment = reopen(run, data_path)
    digest = weights_digest(opened, checkpoint, use_ema=use_ema)
    validation, test = experiment.dataset.validation, experiment.dataset.test
    if not validation.count:
        raise CalibrationError(
            f"calibrate: {run}: it has no validation images; train with data.validation"
        )
    probabilities = _predictions(predictor, validation)
    temperature = metrics.fit_temperature(probabilities, validation.labels)
    if temperature in EXTREMES:
        how = {EXTREMES[0]: "the sharper the better", EXTREMES[1]: "the flatter the better"}
        hits = int((probabilities.argmax(axis=-1) == validation.labels).sum())
        raise CalibrationError(
            f"calibrate: {run}: no temperature is optimal, {how[temperature]}: {hits} of "
            f"{len(probabilities)} validation images are right; set data.validation to more"
        )
    found = {"validation": (probabilities, validation.labels)}
    if test.count:
        found["test"] = (_predictions(predictor, test), test.labels)
    splits = {name: _before_and_after(*of, temperature) for name, of in found.items()}
    sets, set_metrics = None, {}
    if coverage is not None:
        at = {  # as a predictor says it, to the bit: the threshold is one of these numbers
            name: (np.asarray(apply_temperature(jnp.asarray(said), temperature)), labels)
            for name, (said, labels) in found.items()
        }
        sets = fit_sets(*at["validation"], coverage)
        set_metrics = {name: measure_sets(*of, sets) for name, of in at.items()}
    elif (before := coverage_of(opened)) is not None:
        waiting.note(
            f"note: {run}: its sets of classes are not fitted anew and left out; add --conformal "
            f"{before:g}, or coverage={before:g} in Python, for such sets"
        )
    fitted = CalibrationFit(temperature, splits, sets, set_metrics)
    about = {"format": FORMAT, "checkpoint": checkpoint, "raw": not use_ema, "flips": tta}
    write_json(opened.path / FILE, about | {"digest": digest} | fitted.as_record())
    return fitted


def _before_and_after(
    probabilities: np.ndarray, labels: np.ndarray, temperature: float
) -> tuple[CalibrationMetrics, CalibrationMetrics]:
    after = metrics.with_temperature(probabilities, temperature)
    return _measure(probabilities, labels), _measure(after, labels)


def _measure(probabilities: np.ndarray, labels: np.ndarray) -> CalibrationMetrics:
    nll = metrics.negative_log_likelihood(probabilities, labels)
    found = metrics.reliability(probabilities, labels)
    return CalibrationMetrics(len(labels), nll, metrics.expected_calibration_error(found))


def _predictions(predictor: Predictor, split: Split) -> np.ndarray:
    """Predict in parts: the images may be files."""
    most = predictor.sizes[-1]
    starts = range(0, split.count, most)
    return np.concatenate([predictor(np.asarray(split.images[i : i + most])) for i in starts])
