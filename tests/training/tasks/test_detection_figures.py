"""What is drawn and said of detections: on a made-up split, in pixels of odd image files."""

import base64
import io
import json
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convax.model.detection.structures import Detections, GroundTruth
from convax.training.data import ImageNote, Split
from convax.training.data.detection.rle import encode_mask
from convax.training.data.placement import Placement, letterboxed
from convax.training.plots.fonts import MAIN, file_for
from convax.training.tasks.detection.answers import (
    coco_results,
    count_text,
    respond_with_objects,
    say_objects,
    table_rows,
)
from convax.training.tasks.detection.assessment import assess, row, worst_images
from convax.training.tasks.detection.drawing import LEAST, Mark, draw_marks
from convax.training.tasks.detection.figures import draw, overlay
from convax.training.tasks.detection.objects import FoundObjects, found_in
from convax.training.tasks.detection.page import page
from convax.training.tasks.task import Findings, Question

CLASSES = ("cat", "dog <b>", "kuh")
CANVAS = (48, 64)


def made_up(masks=True, images=6, M=3, D=5, seed=0):
    """Objects on noise, found but for the last of each image, with one found where none is."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 24, (images, M, 2))
    boxes = np.concatenate([corner, corner + rng.integers(12, 24, (images, M, 2))], axis=-1)
    classes = rng.integers(0, 3, (images, M))
    classes[0], boxes[0] = -1, 0  # an image without objects
    ids = np.zeros((images, *CANVAS), np.uint8)
    for n, m in np.ndindex(images, M):
        x1, y1, x2, y2 = boxes[n, m]
        ids[n, y1:y2, x1:x2] = m + 1
    truth = GroundTruth(
        boxes.astype(np.float32),
        classes.astype(np.int32),
        np.zeros((images, M), bool),
        ids if masks else np.zeros((images, 0, 0), np.uint8),
    )
    found = np.zeros((images, D, 4), np.float32)
    found[:, : M - 1] = boxes[:, : M - 1]
    found[:, M - 1] = [40, 30, 62, 46]
    named = np.full((images, D), -1)
    named[:, : M - 1], named[:, M - 1] = classes[:, : M - 1], 1
    scores = np.where(named >= 0, np.linspace(0.9, 0.6, D), 0)
    grids = np.full((images, D, 8, 8), 255, np.uint8) if masks else None
    collected = Detections(found, scores.astype(np.float32), named.astype(np.int32), grids)
    pixels = rng.integers(0, 255, (images, *CANVAS, 3), dtype=np.uint8)
    return collected, Split(pixels, truth)


def whole(size):
    """The placement of an image that is all that the network sees."""
    return Placement(size, size)


def findings_of(folder, **keywords):
    collected, examples = made_up(**keywords)
    found = assess(collected, examples, len(CLASSES))
    return Findings(folder, "a title", {}, found, {}, examples, CLASSES, None)


@pytest.mark.parametrize("masks", [True, False])
def test_figures_and_page_of_an_evaluation(tmp_path, masks):
    findings = findings_of(tmp_path, masks=masks)
    paths = draw(findings)
    assert [path.name for path in paths] == ["boxes.png", "precision_recall.png", "errors.png"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 200
    parts: Any = page(findings, None)
    sizes = ["AR small", "AR medium", "AR large"]
    assert list(parts.per_class.columns) == ["class", "AP", "AP50", *sizes, "objects"]
    assert len(parts.confusion.cells) == len(CLASSES) + 1
    assert parts.confusion.cells[-1][1].words == "background taken for dog <b>"
    assert len(parts.charts) == 4 and "missed +" in parts.charts[3].alt
    assert parts.charts[2].alt.startswith("Recall of objects by size: small 6")
    assert "large – at an IoU of 0.5, – over IoU, of 0 objects" in parts.charts[2].alt
    assert parts.examples.examples[0].caption == "2 of 3 found"


def test_figures_where_nothing_is_there_and_nothing_was_found(tmp_path):
    collected, examples = made_up(masks=False)
    nobody = np.full_like
    labels = examples.labels._replace(classes=nobody(examples.labels.classes, -1))
    collected = collected._replace(classes=nobody(collected.classes, -1))
    examples = examples._replace(labels=labels)
    found = assess(collected, examples, 3)
    findings = Findings(tmp_path, "none", {}, found, {}, examples, CLASSES, None)
    assert len(draw(findings)) == 3
    parts: Any = page(findings, None)
    assert parts.per_class.last == ("mean", *5 * ("–",), "")
    assert found.figures() == dict.fromkeys(("ap", "ap50", "ap75"), 0.0)


def test_figures_of_a_split_are_of_the_image_files():
    """At half the scale the objects are four times as large: medium ones in place of small."""
    collected, examples = made_up(masks=False)
    stored = assess(collected, examples, 3)
    notes = tuple(ImageNote(f"{i}.jpg", i, (96, 128), (0.5, 0.5)) for i in range(examples.count))
    filed = assess(collected, examples._replace(notes=notes), 3)
    assert filed.figures()["ap50"] == stored.figures()["ap50"] > 0.3
    assert "ap_small" in stored.figures() and "ap_medium" not in stored.figures()
    assert "ap_medium" in filed.figures()
    np.testing.assert_allclose(filed.found[1].boxes, 2 * stored.found[1].boxes)


def test_masks_have_figures_of_their_own():
    collected, examples = made_up()
    found = assess(collected, examples, 3)
    figures = found.figures()
    assert 0 < figures["mask_ap"] <= figures["mask_ap50"] and "ap_large" not in figures
    assert found.of_task is found.mask_precision
    assert found.per_class().unit == "objects" and found.per_class().support.sum() == 15


def test_the_worst_image_has_the_least_found_and_the_surest_mistake():
    collected, examples = made_up()
    collected.scores[4, 0] = 0.1  # no longer shown
    collected.scores[2, 2] = 0.99
    worst = worst_images(assess(collected, examples, 3), examples, 3)
    assert [image.number for image in worst[:2]] == [4, 2] and worst[0].hits == 1
    assert len(worst[0].found.classes) == 2 and len(worst[0].truth.masks) == 3


# ------------------------------------------------------------------------------------- drawing


def test_targets_are_drawn_where_they_are():
    _, examples = made_up()
    images = np.zeros_like(examples.images[:2])
    drawn = overlay(images, row(examples.labels, slice(2)), CLASSES)
    s = drawn.shape[2] // CANVAS[1]
    assert drawn.shape == (2, s * CANVAS[0], s * CANVAS[1], 3) and not drawn[0].any()
    seen = drawn[1].any(axis=-1)
    for x1, y1, x2, y2 in examples.labels.boxes[1].astype(int):
        assert seen[s * y1 : s * y2, s * x1].all() and seen[s * y2 - 1, s * x1 : s * x2].all()


def test_a_small_image_is_enlarged_and_its_box_is_drawn_at_its_edges():
    image = np.zeros((20, 30, 1), np.uint8)
    drawn = draw_marks(image, [Mark((10, 8, 20, 18), 0, "x")], 2)
    s = -(-LEAST // 30)
    assert drawn.shape == (20 * s, 30 * s, 3)
    there = drawn.any(axis=-1)
    rows, columns = there.any(axis=1).nonzero()[0], there[9 * s :].any(axis=0).nonzero()[0]
    assert rows[-1] == 18 * s - 1 and (columns[0], columns[-1]) == (10 * s, 20 * s - 1)
    assert not image.any()


def test_masks_are_tinted_and_boxes_over_the_edge_are_drawn():
    mask = np.zeros((20, 30), bool)
    mask[5, 5] = True
    marks = [
        Mark((-3, -2, 50, 40), 1, "a name wider than its image is, for sure", encode_mask(mask))
    ]
    drawn = draw_marks(np.full((20, 30, 3), 200, np.uint8), marks, 2)
    s = len(drawn) // 20
    assert (drawn[5 * s + s // 2, 5 * s + s // 2] != 200).any()
    assert (drawn[12 * s, 20 * s] == 200).all()


def test_a_font_is_chosen_by_what_it_has():
    assert "DejaVuSans" in file_for("Fußgänger") and MAIN == "DejaVu Sans"
    assert "DejaVuSans" in file_for("\U000e0001\U0010fffd")  # which none has


# ------------------------------------------------------------------------------------- answers


def found_objects():
    boxes = np.array([[4.0, 4, 40, 30], [50.123, 10, 60, 20]])
    masks = (encode_mask(np.ones((60, 80), bool)), encode_mask(np.zeros((60, 80), bool)))
    return FoundObjects(boxes, np.array([0.98, 0.2]), np.array([1, 0]), masks)


def test_what_is_said_of_an_image_is_in_its_own_pixels(tmp_path):
    """The file is 120x160, the canvas 48x64: boxes come back 2.5 times as large."""
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    collected, _ = made_up()
    answer = row(collected, 1)
    out = tmp_path / "out" / "p.png"
    asked = Question(tmp_path / "photo.jpg", "photo.jpg", answer, 3, out, threshold=0.8)
    said = say_objects(asked, CLASSES, (7, 1, 90), partial(letterboxed, canvas=CANVAS))
    assert said.text.startswith("photo.jpg: 1 cat") or "1 " in said.text.partition("\n")[0]
    record = json.loads(json.dumps(said.record))
    assert record["size"] == [120, 160] and len(record["detections"]) == 3
    first = record["detections"][0]
    np.testing.assert_allclose(first["box"], 2.5 * answer.boxes[0], atol=0.01)
    assert first["mask"]["size"] == [120, 160] and first["score"] == pytest.approx(0.9)
    # All are in the record and the table; those above the threshold in the text.
    assert len(said.columns) == 3 and len(said.lines) == 2
    assert tuple(said.columns[0]) == said.heads
    assert said.coco[0]["image_id"] == "photo" and said.coco[0]["category_id"] in (7, 1, 90)
    x1, y1, x2, y2 = first["box"]
    np.testing.assert_allclose(said.coco[0]["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=0.01)
    with Image.open(tmp_path / "out" / "p.png") as image:
        assert image.size == (480, 360)  # three times as large, to be read


def test_nothing_found_is_said(tmp_path):
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(tmp_path / "a.png")
    nothing = Detections(np.zeros((4, 4)), np.zeros(4), np.full(4, -1))
    asked = Question(tmp_path / "a.png", "a.png", nothing, 3, tmp_path / "b.png")
    said = say_objects(asked, CLASSES, (1, 2, 3), whole)
    assert said.text == f"a.png: nothing found   -> {tmp_path / 'b.png'}"
    assert said.columns == said.lines == said.record["detections"] == said.coco == []
    assert said.heads == ("file", "class", "score", "x1", "y1", "x2", "y2")


def test_results_of_coco_have_the_ids_of_the_data():
    results = coco_results(found_objects(), 139, (1, 90, 7))
    assert [r["category_id"] for r in results] == [90, 1] and results[0]["bbox"] == [4, 4, 36, 26]
    assert results[1]["bbox"][0] == 50.123 and results[0]["segmentation"]["size"] == [60, 80]
    assert "segmentation" not in coco_results(found_objects()._replace(masks=()), 1, (1, 2))[0]


def test_rows_of_a_table_and_counts():
    rows = table_rows("a.png", found_objects(), CLASSES)
    assert rows[1]["class"] == "cat" and rows[1]["x1"] == 50.12
    assert count_text(found_objects(), CLASSES) == "1 cat, 1 dog <b>"


def test_the_service_answers_with_masks_cut_to_their_box():
    collected, _ = made_up()
    said = json.loads(json.dumps(respond_with_objects(row(collected, 1), CANVAS, CLASSES, whole)))
    assert said["size"] == list(CANVAS) and len(said["detections"]) == 3
    first = said["detections"][0]
    x1, y1, x2, y2 = first["box"]
    with Image.open(io.BytesIO(base64.b64decode(first["mask"]))) as mask:
        assert mask.size == (x2 - x1, y2 - y1)
    without = found_in(row(collected, 1)._replace(masks=None), whole(CANVAS))
    assert without.masks == ()


def test_a_mask_of_the_service_has_a_pixel_however_narrow_its_box():
    collected, _ = made_up()
    one = row(collected, 1)
    one.boxes[0] = [63.999, 20, 64, 20.003]
    said = respond_with_objects(one, CANVAS, CLASSES, whole)["detections"]
    with Image.open(io.BytesIO(base64.b64decode(said[0]["mask"]))) as mask:
        assert mask.size == (1, 1)
