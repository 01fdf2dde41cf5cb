"""When two lists of detections are the same: by hand."""

import numpy as np
import pytest

from convax.training.tasks.detection.comparison import compare_detections

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30]
NONE = ([0, 0, 0, 0], 0.0, -1)


def side(*rows, mask=None):
    """Detections of one image, rows of (box, score, class)."""
    boxes, scores, classes = zip(*rows, strict=True)
    made = {
        "boxes": np.array([boxes], np.float32),
        "scores": np.array([scores], np.float32),
        "classes": np.array([classes], np.int32),
    }
    return made if mask is None else made | {"masks": np.full((1, len(rows), 2, 2), mask)}


EXPECTED = side((A, 0.9, 0), (B, 0.8, 1), (C, 0.04, 0), NONE)


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        (EXPECTED, 0),
        (side((B, 0.8, 1), (A, 0.9, 0), NONE, NONE), 0),  # another order; C need not be met
        (side((A, 0.9, 0), (B, 0.7, 1), NONE, NONE), 0.1),
        (side((A, 0.9, 0), NONE, NONE, NONE), 0.75),  # B is missing: 0.8 less 0.05
        (side((A, 0.9, 0), (B, 0.8, 0), NONE, NONE), 0.75),  # another class
        (side((A, 0.9, 0), ([20, 0, 30, 11.5], 0.8, 1), NONE, NONE), 0.75),  # an IoU of 0.87
        (side((A, 0.9, 0), ([20, 0, 30, 11], 0.8, 1), NONE, NONE), 0),  # of 0.91
        (side((A, 0.9, 0), (B, 0.8, 1), (C, 0.45, 0), NONE), 0.4),  # much surer than it should be
        (side((A, 0.9, 0), (B, 0.8, 1), ([5, 5, 8, 8], 0.35, 0), NONE), 0.3),  # one too many
        (side((A, 0.9, 0), (A, 0.85, 0), (B, 0.8, 1), NONE), 0.8),  # one twice
        (side((A, 0.9, 0), (B, 0.8, 1), (C, np.nan, 0), NONE), np.nan),
        (side((A, 0.9, 0), (B, np.nan, 1), NONE, NONE), np.nan),
    ],
)
def test_detections_are_matched_by_class_and_place(found, difference):
    told = compare_detections(found, EXPECTED)
    assert told.difference == pytest.approx(difference, abs=1e-6, nan_ok=True)
    assert (told.scale, told.compared) == (1, 2)


def test_where_every_row_is_taken_the_last_may_be_another():
    """Of four rows with nearly equal scores at the end, either is the last."""
    rows = [(A, 0.9, 0), (B, 0.8, 1), ([40, 40, 50, 50], 0.7, 0)]
    one, other = side(*rows, (C, 0.3002, 0)), side(*rows, ([60, 0, 70, 9], 0.3001, 1))
    assert compare_detections(one, other).difference == pytest.approx(0.0001, abs=1e-6)
    assert compare_detections(other, one).difference == pytest.approx(0.0001, abs=1e-6)


def test_masks_and_nothing_found():
    rows = (A, 0.9, 0), NONE
    told = compare_detections(side(*rows, mask=0.5), side(*rows, mask=0.75))
    assert told.difference == pytest.approx(0.25)
    nothing = compare_detections(side(NONE), side(NONE))
    assert (nothing.difference, nothing.compared) == (0, 0)
