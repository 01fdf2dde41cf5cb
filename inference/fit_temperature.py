"""The temperature of a run, fitted on its validation split and written into it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..training.data import Split
from ..training.experiment import reopen
from ..training.run.directory import write_json
from ..training.tasks.classification import calibration as metrics
from ..training.tasks.registry import tasks_where
from .calibration.file import FILE, FORMAT, CalibrationError, weights_digest
from .predictor import Predictor, load

EXTREMES = (metrics.SHARPEST, metrics.FLATTEST)


class CalibrationMetrics(NamedTuple):
    """The calibration of the probabilities of a split."""

    count: int  # type: ignore[override] -- tuple has a method of that name
    nll: float  # the mean negative log-likelihood
    ece: float  # the expected calibration error, of 15 bins


class TemperatureFit(NamedTuple):
    """A temperature, and what it did to each split that there is: before and after."""

    temperature: float
    # "validation", on which it was fitted, and "test"
    splits: dict[str, tuple[CalibrationMetrics, CalibrationMetrics]]

    def as_record(self) -> dict[str, Any]:
        """Return the same for JSON."""
        splits = {
            name: {"before": before._asdict(), "after": after._asdict()}
            for name, (before, after) in self.splits.items()
        }
        return {"temperature": self.temperature, "splits": splits}


def calibrate(
    run: str | Path, *, checkpoint: str = "best", use_ema: bool = True, tta: bool = False
) -> TemperatureFit:
    """Fit the temperature of a run on its validation split, and write it into the run.

    Args:
        run: the run directory, of a classification.
        checkpoint, use_ema, tta: as `predictor.load`; it will fit nothing else.

    Raises:
        CalibrationError: not a classification, no validation images, or none is best.
        RunError, CheckpointError, DataError: the run, its checkpoint or its data cannot be used.
        OSError: the file cannot be written.
    """
    predictor = load(run, checkpoint=checkpoint, use_ema=use_ema, tta=tta)
    if not predictor.task.spec.ranks:
        fitting = " or ".join(tasks_where(lambda spec: spec.ranks))
        raise CalibrationError(
            f"calibrate: {run}: got a run of {predictor.task.name}, need one of {fitting}"
        )
    opened, experiment = reopen(run)
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
    splits = {"validation": _before_and_after(probabilities, validation.labels, temperature)}
    if test.count:
        splits["test"] = _before_and_after(_predictions(predictor, test), test.labels, temperature)
    fitted = TemperatureFit(temperature, splits)
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
