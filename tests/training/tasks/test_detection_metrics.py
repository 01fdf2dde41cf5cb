"""Average precision, masks and kinds of mistakes: by hand, and against COCO's program."""

import json
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convax.model.detection.structures import Detections, GroundTruth
from convax.training.data import ImageNote
from convax.training.data.detection.objects import as_xywh
from convax.training.data.detection.rle import encode_mask
from convax.training.data.placement import Placement
from convax.training.tasks.detection.average_precision import average_precision
from convax.training.tasks.detection.masks import (
    decode_mask,
    encode_pasted,
    paste_mask,
)
from convax.training.tasks.detection.mistakes import (
    BACKGROUND,
    BOTH,
    CLASS,
    DUPLICATE,
    HIT,
    IGNORED,
    PLACE,
    interpolated_precision,
    judge,
    mistakes,
)
from convax.training.tasks.detection.objects import (
    FoundObjects,
    TrueObjects,
    found_in,
    in_image,
    overlaps,
    true_in,
)

SIZE = (100, 120)


def drawn(boxes, size):
    """The pixels whose middle is in a box."""
    y, x = (np.arange(n) + 0.5 for n in size)
    rows = ((y > y1) & (y < y2) for _, y1, _, y2 in boxes)
    columns = ((x > x1) & (x < x2) for x1, _, x2, _ in boxes)
    return tuple(encode_mask(np.outer(r, c)) for r, c in zip(rows, columns, strict=True))


def true(boxes, classes, ignored=None, size=SIZE):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    none = np.zeros(len(boxes), bool)
    ignored = none if ignored is None else np.asarray(ignored)
    return TrueObjects(boxes, np.asarray(classes, int), ignored, areas, drawn(boxes, size), size)


def found(boxes, scores, classes, size=SIZE):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    scores, classes = np.asarray(scores, float), np.asarray(classes, int)
    return FoundObjects(boxes, scores, classes, drawn(boxes, size))


def random_split(seed=0, images=12, classes=3, crowds=True):
    """Truth, and detections that are it, moved and renamed at times, and others."""
    rng = np.random.default_rng(seed)
    truth, answers = [], []
    for _ in range(images):
        M = rng.integers(0, 6)
        corner = rng.uniform(0, 60, (M, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(3, 40, (M, 2))], axis=1)
        named = rng.integers(0, classes, M)
        truth.append(true(boxes, named, rng.random(M) < 0.2 if crowds else None))
        copies = np.repeat(boxes, 2, axis=0) + rng.normal(0, 2, (2 * M, 4))
        extra = rng.uniform(0, 50, (4, 2))
        extra = np.concatenate([extra, extra + rng.uniform(3, 40, (4, 2))], axis=1)
        boxes = np.concatenate([copies, extra])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.5)
        kinds = np.concatenate([np.repeat(named, 2), rng.integers(0, classes, 4)])
        renamed = rng.random(len(kinds)) < 0.2
        kinds[renamed] = rng.integers(0, classes, renamed.sum())
        scores = -np.sort(-rng.random(len(kinds)).round(2))  # with equal ones
        answers.append(found(boxes, scores, kinds))
    return answers, truth


# ------------------------------------------------------------------------- average precision


def by_hand(answers, truth, classes, kind, tmp_path):
    """What its own documentation does: JSON files, `loadRes`, `summarize`."""
    ids = [(i, j) for i, t in enumerate(truth) for j in range(len(t.classes))]
    content = {
        "images": [
            {"id": i + 1, "height": t.size[0], "width": t.size[1]} for i, t in enumerate(truth)
        ],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)],
        "annotations": [
            {
                "id": n,
                "image_id": i + 1,
                "category_id": int(truth[i].classes[j]) + 1,
                "bbox": as_xywh(truth[i].boxes[j]).tolist(),
                "area": truth[i].areas[j],
                "iscrowd": int(truth[i].ignored[j]),
                "segmentation": truth[i].masks[j],
            }
            for n, (i, j) in enumerate(ids, start=1)
        ],
    }
    results = [
        {
            "image_id": i + 1,
            "category_id": int(k) + 1,
            "score": float(score),
            **({"bbox": as_xywh(box).tolist()} if kind == "bbox" else {"segmentation": mask}),
        }
        for i, f in enumerate(answers)
        for box, score, k, mask in zip(f.boxes, f.scores, f.classes, f.masks, strict=True)
    ]
    for name, value in (("truth", content), ("found", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    gt = COCO(tmp_path / "truth.json")
    evaluation = COCOeval(gt, gt.loadRes(str(tmp_path / "found.json")), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_figures_are_those_of_coco_s_program(kind, tmp_path, capsys):
    answers, truth = random_split()
    result = average_precision(answers, truth, 3, masks=kind == "segm")
    assert capsys.readouterr().out == ""  # the program is talkative
    stats = by_hand(answers, truth, 3, kind, tmp_path)
    sizes = ("small", "medium", "large")
    names = ["ap", "ap50", "ap75", *(f"ap_{size}" for size in sizes), "ar_1", "ar_10", "ar_100"]
    names += [f"ar_{size}" for size in sizes]
    values = [result.figures[name] for name in names]
    np.testing.assert_array_equal(np.nan_to_num(values, nan=-1), stats)
    np.testing.assert_allclose(result.recall.mean(axis=0), values[-3:])  # NaN: none is large
    assert result.sizes.sum() == result.truths.sum() and result.sizes[2] == 0
    assert 0 < result.figures["ap"] < result.figures["ap50"] < 1
    assert np.mean(result.per_class["ap"]) == pytest.approx(result.figures["ap"])
    assert result.truths.sum() == sum((~t.ignored).sum() for t in truth)
    assert result.found.sum() == sum(len(f.classes) for f in answers)


def test_perfect_detections_have_an_average_precision_of_one():
    boxes = [[0, 0, 10, 10], [50, 50, 99, 99]]
    truth = [true(boxes, [0, 1]), true([], [])]
    answers = [found(boxes, [0.9, 0.8], [0, 1]), found([], [], [])]
    for masks in (False, True):
        result = average_precision(answers, truth, 2, masks=masks)
        assert result.figures["ap"] == pytest.approx(1)
        assert result.figures["ar_10"] == 1
        assert np.isnan(result.figures["ap_large"])  # none is as large as that


def test_a_hit_a_miss_and_a_hit():
    """Precision 1 up to a recall of 1/2, 2/3 beyond: (51 + 50 * 2/3) / 101."""
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60]]
    answers = [found([boxes[0], [0, 50, 9, 60], boxes[1]], [0.9, 0.8, 0.7], [0, 0, 0])]
    result = average_precision(answers, [true(boxes, [0, 0])], 1)
    assert result.figures["ap50"] == pytest.approx((51 + 100 / 3) / 101)
    assert result.figures["ar_1"] == 0.5


def test_the_first_annotation_is_matched():
    """COCO's program takes the id 0 of a matched annotation for no match at all."""
    box = [[5, 5, 20, 20]]
    result = average_precision([found(box, [0.5], [0])], [true(box, [0])], 1)
    assert result.figures["ap"] == pytest.approx(1)


def test_an_ignored_object_is_neither_hit_nor_miss():
    truth = [true([[0, 0, 10, 10], [40, 40, 90, 90]], [0, 0], [False, True])]
    inside = [[0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80]]
    result = average_precision([found(inside, [0.5, 0.9, 0.8], [0, 0, 0])], truth, 1)
    assert result.figures["ap"] == pytest.approx(1)
    assert result.truths.tolist() == [1]


def test_more_than_a_hundred_detections_count_where_a_network_gives_them():
    """The last of 150 is the hit; by default none behind the hundredth is looked at."""
    boxes = np.tile([0.0, 0, 4, 4], (150, 1))
    boxes[-1] = [50, 50, 80, 80]
    answers, truth = [found(boxes, np.linspace(1, 0.5, 150), [0] * 150)], [true(boxes[-1:], [0])]
    assert average_precision(answers, truth, 1).figures["ap50"] == 0
    result = average_precision(answers, truth, 1, most=150)
    assert result.figures["ap50"] == pytest.approx(1 / 150)
    assert result.figures["ar_150"] == 1


def test_nothing_found_and_nothing_there():
    box = [[5, 5, 20, 20]]
    nothing = found([], [], [])
    result = average_precision([nothing], [true(box, [0])], 2)
    assert result.figures["ap"] == 0 and result.figures["ar_100"] == 0
    np.testing.assert_array_equal(result.per_class["ap"], [0, np.nan])
    result = average_precision([found(box, [0.9], [0])], [true([], [])], 1)
    assert all(np.isnan(value) for value in result.figures.values())
    assert result.found.tolist() == [1]


def test_masks_are_compared_where_there_are_masks():
    truth, answers = true([[5, 5, 20, 20]], [0]), found([[5, 5, 20, 20]], [0.9], [0])
    with pytest.raises(ValueError, match=r"image 0: got 0 masks of 1 found objects, need one for"):
        average_precision([answers._replace(masks=())], [truth], 1, masks=True)


# ---------------------------------------------------------------------------- masks and places


def by_loop(mask, box, size):
    """Each pixel of an image from the formula: hats of the elements over the pixel's middle."""
    x1, y1, x2, y2 = box
    whole = np.zeros(size)
    for i, j, a, b in np.ndindex(*size, *mask.shape):
        if x2 > x1 and y2 > y1:
            v = (i + 0.5 - y1) / (y2 - y1) * mask.shape[0] - 0.5
            u = (j + 0.5 - x1) / (x2 - x1) * mask.shape[1] - 0.5
            whole[i, j] += max(0, 1 - abs(v - a)) * max(0, 1 - abs(u - b)) * mask[a, b]
    return whole


def test_pasted_masks_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    masks = rng.random((6, 5, 5)).astype(np.float32)
    boxes = np.array(
        [
            [3.2, 4.1, 12.7, 9.9],
            [-4, -3, 6, 7.5],
            [10, 10, 40, 40],
            [5, 5, 5, 9],
            [30, 2, 39, 8],
            [7.6, 7.6, 7.9, 7.9],
        ],
        np.float32,
    )
    for mask, box in zip(masks, boxes.astype(float), strict=True):
        expected = by_loop(mask, box, (20, 24))
        found = decode_mask(encode_pasted(mask, box, (20, 24)))
        np.testing.assert_array_equal(found, expected > 0.5)
        (top, left), inside = paste_mask(mask, box, (20, 24))
        there = expected[top : top + inside.shape[0], left : left + inside.shape[1]]
        np.testing.assert_allclose(inside, there, atol=1e-5)


def test_runs_of_a_mask_are_read_back_and_fit_into_json():
    mask = np.random.default_rng(0).random((7, 9)) > 0.5
    runs = json.loads(json.dumps(encode_mask(mask)))
    np.testing.assert_array_equal(decode_mask(runs), mask)


def test_detections_are_brought_into_the_pixels_of_their_image():
    """An image of 50x40 at twice its width and three times its height."""
    rows = Detections(
        np.array([[20.0, 30, 40, 60], [60, 0, 100, 9], [0, 0, 0, 0], [90, 3, 95, 9], [4, 3, 8, 6]]),
        np.array([0.5, 0.9, 0.0, 0.8, 0.5]),
        np.array([1, 0, -1, 1, 0]),
        np.stack([np.ones((2, 2))] * 5),
    )
    place = Placement((50, 40), placed=(150, 80))
    answer = found_in(rows, place)
    # The one beyond the edge is gone, that over it is cut; equal scores by their class.
    np.testing.assert_array_equal(answer.boxes, [[30, 0, 40, 3], [2, 1, 4, 2], [10, 10, 20, 20]])
    assert answer.classes.tolist() == [0, 0, 1] and answer.scores.tolist() == [0.9, 0.5, 0.5]
    np.testing.assert_array_equal(np.argwhere(decode_mask(answer.masks[1])), [[1, 2], [1, 3]])
    # As arrays of one shape: the rows that are none in the end, masks those of the cut boxes.
    rows.masks[1] = np.array([[0.0, 1], [0, 1]])  # of a box whose left half is there
    moved: Any = in_image(rows, place)
    np.testing.assert_array_equal(moved.boxes[:3], answer.boxes[[2, 0, 1]])
    assert moved.classes.tolist() == [1, 0, 0, -1, -1] and not moved.boxes[3:].any()
    assert moved.masks.shape == (5, 2, 2) and (moved.masks[0] == 1).all()
    np.testing.assert_allclose(moved.masks[1], [[0, 0.25], [0, 0.25]])
    assert moved.above(0.6).classes.tolist() == [-1, 0, -1, -1, -1]


def test_truth_is_that_of_the_image_file_where_its_note_has_it():
    runs = encode_mask(np.ones((50, 40), bool))
    note = ImageNote("a.png", 1, (50, 40), (3.0, 2.0), areas=(7.0,), masks=(runs,))
    ids = np.zeros((150, 80), np.uint8)
    ids[30:60, 20:40] = 1
    truth = GroundTruth(
        np.array([[20.0, 30, 40, 60], [0, 0, 0, 0]]), np.array([1, -1]), np.zeros(2, bool), ids
    )
    noted = true_in(truth, note.placement, note)
    assert noted.boxes.tolist() == [[10, 10, 20, 20]] and noted.areas.tolist() == [7]
    assert decode_mask(noted.masks[0]).all()
    plain = true_in(truth, Placement((150, 80), (150, 80)))
    assert plain.areas.tolist() == [600] and plain.classes.tolist() == [1]
    np.testing.assert_array_equal(decode_mask(plain.masks[0]), ids == 1)


def test_overlaps_of_masks_and_of_nothing():
    a, b = true([[0, 0, 10, 10]], [0]), found([[0, 0, 10, 5]], [1], [0])
    assert overlaps(b, a)[0, 0] == overlaps(b, a, masks=True)[0, 0] == 0.5
    assert overlaps(found([], [], []), a).shape == (0, 1)


# ------------------------------------------------------------------------------------ mistakes


def test_each_kind_of_mistake():
    truth = true(
        [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10], [80, 0, 99, 20]],
        [0, 0, 0, 1, 1],
        [False, False, False, False, True],
    )
    rows = [
        ([0, 0, 10, 10], 0, HIT, 0),
        ([0, 0, 10, 9], 0, DUPLICATE, -1),
        ([20, 0, 30, 4], 0, PLACE, 1),
        ([40, 0, 50, 9], 1, CLASS, 2),
        ([60, 0, 70, 3], 0, BOTH, -1),
        ([0, 70, 10, 80], 1, BACKGROUND, -1),
        ([85, 5, 90, 10], 1, IGNORED, -1),
    ]
    boxes, classes, kinds, objects = zip(*rows, strict=True)
    scores = np.linspace(0.9, 0.6, len(rows))
    verdict = judge(found(boxes, scores, classes), truth)
    assert verdict.kinds.tolist() == list(kinds)
    assert verdict.objects.tolist() == list(objects)
    assert verdict.missed.tolist() == [False, False, False, True, False]

    result = mistakes([found(boxes, scores, classes)], [truth], 2)
    assert result.counts == dict.fromkeys(result.counts, 1) and result.hits == 1
    # Rows and columns: class 0, class 1, background.
    np.testing.assert_array_equal(result.confusion, [[1, 1, 1], [0, 0, 1], [3, 1, 0]])
    # What is less sure is not shown, and repairing it gains as much.
    hidden = mistakes([found(boxes, scores / 2, classes)], [truth], 2)
    assert hidden.counts["missed"] == 4 and sum(hidden.counts.values()) == 4
    assert hidden.gains == result.gains


def test_what_repairing_a_mistake_gains():
    """One object is hit, the other found in the wrong place: precision 1 up to 1/2, then 1."""
    truth = [true([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 0])]
    answers = [found([[0, 0, 10, 10], [20, 0, 30, 4]], [0.9, 0.8], [0, 0])]
    result = mistakes(answers, truth, 1)
    assert result.ap50 == pytest.approx(51 / 101)
    assert result.gains["place"] == pytest.approx(50 / 101)
    assert all(gain == 0 for name, gain in result.gains.items() if name != "place")
    missed = mistakes([answers[0].rows(np.array([True, False]))], truth, 1)
    assert missed.gains["missed"] == pytest.approx(50 / 101)


def test_the_average_precision_that_is_repaired_is_coco_s():
    for seed in range(3):
        answers, truth = random_split(seed)
        result = mistakes(answers, truth, 3)
        expected = average_precision(answers, truth, 3)
        assert result.ap50 == pytest.approx(expected.figures["ap50"], abs=1e-9)
        assert all(gain > -1e-9 for gain in result.gains.values())
        assert sum(result.gains.values()) > 0
        objects = result.confusion[:3].sum()
        assert objects == sum((~t.ignored).sum() for t in truth)


def test_nothing_has_no_mistakes():
    result = mistakes([found([], [], [])], [true([], [])], 2)
    assert result.ap50 == 0 and not any(result.counts.values()) and not result.confusion.any()
    assert interpolated_precision(np.zeros(0, bool), 3) == 0
