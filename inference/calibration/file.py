"""``calibration.json`` in a run: what was fitted, and by a digest the arrays it was fitted for.

For any other arrays it is refused: a temperature is right for one network as it stands.
"""

import math
from typing import Any, NamedTuple

from ...training.common.errors import ConvaxError
from ...training.common.hashing import json_digest
from ...training.common.json_io import parse_json
from ...training.run.checkpoint import pointed, read_manifest
from ...training.run.directory import Run
from ...training.tasks.classification.conformal import ConformalSets

FILE = "calibration.json"
FORMAT = 1


class CalibrationError(ConvaxError, ValueError):
    """A network cannot be calibrated, or is not; one line that names it and the remedy."""


class Calibration(NamedTuple):
    """What `convax calibrate` has fitted."""

    temperature: float
    sets: ConformalSets | None  # with --conformal


def load_calibration(
    run: Run, checkpoint: str, *, use_ema: bool = True, tta: bool = False
) -> Calibration:
    """Read the calibration of a run.

    Args:
        run: the run.
        checkpoint, use_ema, tta: what is to be used of it; see `predictor.load`.

    Raises:
        CalibrationError: there is none; it is damaged; or it was fitted for something else.
        CheckpointError: the checkpoint cannot be used.
    """
    path = run.path / FILE
    remedy = f"`convax calibrate {run.path}{_cli_options(checkpoint, use_ema, tta)}` writes it"
    try:
        about = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise CalibrationError(f"{path}: not there: the run is not calibrated; {remedy}") from None
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise CalibrationError(f"{path}: damaged: not JSON; {remedy} anew") from None
    if not _is_valid(about):
        raise CalibrationError(f"{path}: damaged: keys differ; {remedy} anew")
    if about["digest"] != weights_digest(run, checkpoint, use_ema=use_ema):
        raise CalibrationError(
            f"{path}: stale: it is of other weights than those of the {checkpoint} checkpoint; "
            f"{remedy} anew"
        )
    if about["flips"] != tta:
        got = "with" if about["flips"] else "without"
        raise CalibrationError(f"{path}: it was fitted {got} test-time augmentation; {remedy} anew")
    sets = about.get("conformal")
    fitted = None if sets is None else ConformalSets(sets["coverage"], sets["threshold"])
    return Calibration(about["temperature"], fitted)


def coverage_of(run: Run) -> float | None:
    """Return how often the sets of a run are to hold the true class; None where there are none."""
    try:
        about = parse_json((run.path / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return about["conformal"]["coverage"] if _is_valid(about) and "conformal" in about else None


def weights_digest(run: Run, checkpoint: str, *, use_ema: bool = True) -> str:
    """Return a SHA-256 of all arrays that a checkpoint gives to a network in use.

    Args:
        run: the run.
        checkpoint: "best" or "last".
        use_ema: see `training.run.checkpoint.restore_network`.
    """
    sums = read_manifest(run.checkpoints / pointed(run.checkpoints, checkpoint))["sha256"]
    averages = "ema.safetensors" in sums and use_ema
    files = ["ema.safetensors"] if averages else ["params.safetensors", "state.safetensors"]
    used = {file: sums.get(file) for file in files}
    return json_digest(used)


def _cli_options(checkpoint: str, use_ema: bool, tta: bool) -> str:
    """Return the options that calibrate the same network."""
    last = f" --checkpoint {checkpoint}" if checkpoint != "best" else ""
    return last + " --no-ema" * (not use_ema) + " --tta" * tta


def _is_valid(about: Any) -> bool:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        return False
    kinds = {"digest": str, "flips": bool, "temperature": float}
    if not all(isinstance(about.get(key), kind) for key, kind in kinds.items()):
        return False
    if not (math.isfinite(about["temperature"]) and about["temperature"] > 0):
        return False
    return "conformal" not in about or _are_valid_sets(about["conformal"])


def _are_valid_sets(sets: Any) -> bool:
    numbers = [sets.get(key) for key in ConformalSets._fields] if isinstance(sets, dict) else [None]
    return all(isinstance(number, float) and 0 <= number <= 1 for number in numbers)
