"""Whether a detector finds elsewhere what it finds here: detections compared, not rows.

A device that rounds otherwise may swap two rows of nearly equal scores.
"""

import jax.numpy as jnp
import numpy as np

from .... import ops
from ..spec import Comparison, Outputs

LEAST_SCORE = 0.05  # of a detection that has to be met
LEAST_IOU = 0.9


def compare_detections(found: Outputs, expected: Outputs) -> Comparison:
    """Compare the detections of some images.

    Those with a score above `LEAST_SCORE` have to be met, on both sides. Best first, each is
    matched with the one of its class that overlaps it most, by more than `LEAST_IOU`, and is not
    taken yet; the difference is that of their scores, and of their masks. One that is not met
    differs by what its score is above `LEAST_SCORE`, or above the last of the others where these
    take all the rows that there are.

    Args:
        found, expected: "boxes" ``(N, D, 4)``, "scores" and "classes" ``(N, D)``, and "masks"
            ``(N, D, m, m)`` where there are some: as `model.Detections`.

    Returns:
        The largest difference; of a scale of 1, as scores are; and how many detections were
        expected.

    Example:
        >>> box = np.array([[[0.0, 0.0, 8.0, 8.0]]])
        >>> one = {"boxes": box, "scores": np.array([[0.5]]), "classes": np.array([[2]])}
        >>> compare_detections(one, one | {"scores": np.array([[0.75]])})
        Comparison(difference=0.25, scale=1.0, compared=1)
    """
    boxes = (jnp.asarray(each["boxes"], jnp.float32) for each in (expected, found))
    iou = np.asarray(ops.box_iou(*boxes))
    sides = [{name: np.asarray(a) for name, a in each.items()} for each in (expected, found)]
    differences, count = [0.0], 0
    for i in range(len(iou)):
        one, other = ({name: a[i] for name, a in each.items()} for each in sides)
        count += int(_counts(one).sum())
        differences += _differences(one, other, iou[i])
    return Comparison(float(np.max(differences)), 1.0, count)


def _counts(side: Outputs) -> np.ndarray:
    """Return which rows are detections that have to be met; one whose score is NaN is."""
    return (side["classes"] >= 0) & ~(side["scores"] <= LEAST_SCORE)


def _differences(one: Outputs, other: Outputs, iou: np.ndarray) -> list[float]:
    """Return the differences of two sides of one image; the IoU is ``(D, D')``."""
    free, differences = other["classes"] >= 0, []
    floors = [_floor(side) for side in (one, other)]
    for row in np.flatnonzero(_counts(one)):
        fits = free & (other["classes"] == one["classes"][row]) & (iou[row] > LEAST_IOU)
        score = float(one["scores"][row])
        if not fits.any():
            differences.append(max(score - floors[1], 0.0))
            continue
        met = int(np.where(fits, iou[row], -1).argmax())
        free[met] = False
        differences.append(abs(score - float(other["scores"][met])))
        if "masks" in one:
            differences.append(float(np.abs(one["masks"][row] - other["masks"][met]).max()))
    left = other["scores"][free & _counts(other)]
    return differences + [max(float(score) - floors[0], 0.0) for score in left]


def _floor(side: Outputs) -> float:
    """Return the score below which a detection may well be missing."""
    last = float(side["scores"].min()) if (side["classes"] >= 0).all() else 0.0
    return max(last, LEAST_SCORE)
