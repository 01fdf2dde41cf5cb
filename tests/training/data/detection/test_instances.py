"""Masks whose numbers are objects, and what all readers of boxes check, by its message."""

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, Notes, Rules, load, split
from convax.training.data.detection.ground_truth import read_annotated
from convax.training.data.detection.objects import Annotated, Object
from convax.training.data.detection.rle import decode_runs, encode_mask, polygons_mask


def put(root, stem, numbers, *, mode=np.uint8, image=None, **options):
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    size = numbers.shape if image is None else image
    Image.new("RGB", size[::-1], (10, 20, 30)).save(root / "images" / f"{stem}.png", **options)
    Image.fromarray(numbers.astype(mode)).save(root / "masks" / f"{stem}.png", **options)


def two_objects(h=16, w=24):
    numbers = np.zeros((h, w), int)
    numbers[2:7, 3:9] = 5
    numbers[10, 20] = 9
    return numbers


def read(root, *, labels="instances", classes=("thing",), size=(16, 24), **changes):
    places = {"path": str(root), "images": "images", "masks": "masks"}
    kind = {"mask_kind": "instances", "classes": list(classes), "size": list(size)}
    return load("masks", **places, **kind, labels=labels, seed=0, **changes)


def test_each_number_is_an_object_with_a_tight_box(tmp_path):
    put(tmp_path, "a", two_objects())
    train = read(tmp_path).train
    boxes, classes, ignored, masks, _ = train.labels
    assert boxes.tolist() == [[[3, 2, 9, 7], [20, 10, 21, 11]]]  # one pixel is one pixel wide
    assert classes.tolist() == [[0, 0]] and not ignored.any()
    np.testing.assert_array_equal(
        masks[0], np.select([two_objects() == 5, two_objects() == 9], [1, 2])
    )
    (note,) = train.notes
    assert (note.file, note.size, note.scale, note.areas) == ("a.png", (16, 24), (1, 1), (30, 1))
    decoded = decode_runs(note.masks[0]["counts"], (16, 24), "")
    np.testing.assert_array_equal(decoded, two_objects() == 5)
    assert read(tmp_path, labels="boxes").train.labels.masks.shape == (1, 0, 0)


def test_boxes_and_masks_go_to_the_canvas(tmp_path):
    put(tmp_path, "a", two_objects())
    put(tmp_path, "b", np.ones((30, 10), int))
    for letterbox, second in ((True, [0, 0, 11, 32]), (False, [0, 0, 32, 32])):
        train = read(tmp_path, size=(32, 32), letterbox=letterbox).train
        sy = 21 / 16 if letterbox else 2
        expected = np.array([3 * 32 / 24, 2 * sy, 9 * 32 / 24, 7 * sy], np.float32)
        np.testing.assert_allclose(train.labels.boxes[0, 0], expected, rtol=1e-6)
        assert train.labels.boxes[1, 0].tolist() == second
        assert train.labels.classes.tolist() == [[0, 0], [0, -1]]
        rows = np.flatnonzero((train.labels.masks[0] == 1).any(axis=1))
        assert abs(rows[0] - 2 * sy) <= 0.5 and abs(rows[-1] + 1 - 7 * sy) <= 0.5
        assert (train.labels.masks[1][:, second[2] :] == 0).all()
        assert train.notes[0].scale == (sy, 32 / 24)


def test_the_smaller_object_lies_on_top_and_crowds_below(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    whole, part = np.ones((8, 8), bool), np.zeros((8, 8), bool)
    part[:4, :4] = True
    objects = [
        Object("small", (0, 0, 4, 4), 0, mask=part),
        Object("large", (0, 0, 8, 8), 0, mask=whole),
    ]
    train = annotated(tmp_path, objects, masks=True).train
    assert (train.labels.masks[0] == np.where(part, 1, 2)).all()
    crowd = [objects[0]._replace(ignored=True), objects[1]]
    dataset = annotated(tmp_path, crowd, masks=True)
    assert (dataset.train.labels.masks == 2).all()
    assert dataset.train.labels.ignored.tolist() == [[True, False]]
    assert "1 object ignored" in dataset.notes[0]


def test_a_mask_is_turned_upright_with_its_image(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    put(tmp_path, "a", two_objects(), exif=exif)
    train = read(tmp_path, size=(24, 16)).train
    assert train.labels.boxes[0].tolist() == [[9, 3, 14, 9], [5, 20, 6, 21]]
    assert train.notes[0].size == (24, 16)


def test_splits_take_objects_and_notes_with_the_images(tmp_path):
    for i in range(6):
        numbers = np.zeros((8, 8), int)
        numbers[: i + 1, 0] = 1
        put(tmp_path, f"{i}", numbers)
    done = split(read(tmp_path, size=(8, 8)), validation=2, test=1, seed=0)
    for part in done[:3]:
        assert part.labels.boxes[:, 0, 3].tolist() == [int(n.file[0]) + 1 for n in part.notes]


def annotated(root, found, classes=("a", "b"), part="train", **rules):
    """The dataset of one image, and of one without objects to train on."""
    one = Annotated(root / "a.png", 1, lambda size: found)
    none = Annotated(root / "a.png", 2, lambda size: [])
    parts = {"train": [none], part: [one]} if part != "train" else {"train": [one]}
    return read_annotated(".", parts, classes, Rules((8, 8), **rules), Notes())


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("box", "match"),
    [
        ((5, 1, 3, 4), r"x, annotation 7: box 5 1 3 4: x2 < x1; is it x, y, width, height where"),
        ((1, 5, 3, 4), r"x, annotation 7: box 1 5 3 4: y2 < y1"),
        ((1, 1, np.nan, 4), r"x, annotation 7: box 1 1 nan 4: not finite"),
        ((1, 1, 9.5, 4), r"reaches out of its image of 8x8 by more than a pixel; .*data.clip"),
        ((-1.5, 1, 3, 4), r"reaches out of its image"),
    ],
)
def test_what_is_no_box_of_its_image_is_named(image, box, match):
    with pytest.raises(DataError, match=match):
        annotated(image, [Object("x, annotation 7", box, 0)])


def test_a_box_is_clipped_up_to_a_pixel_and_further_where_that_is_asked(image):
    objects = [Object("x", (-1, 0, 4, 9), 0)]
    assert annotated(image, objects).train.labels.boxes.tolist() == [[[0, 0, 4, 8]]]
    objects = [Object("x", (-20, 0, 4, 90), 0), Object("y", (20, 20, 30, 30), 0)]
    dataset = annotated(image, objects, clip=True)
    assert dataset.train.labels.boxes.tolist() == [[[0, 0, 4, 8]]]
    assert dataset.notes == (
        "1 object left out: a side below data.smallest = 1, or no pixel",
        "1 object clipped: the box reached out of its image by more than a pixel",
    )


def test_small_objects_are_left_out_and_counted(image):
    objects = [Object("x", (1, 1, 1, 4), 0), Object("y", (1, 1, 3, 4), 1)]
    dataset = annotated(image, objects)
    assert (
        dataset.train.labels.classes.tolist() == [[1]] and "1 object left out" in dataset.notes[0]
    )
    assert "data.smallest = 2.5" in annotated(image, objects, smallest=2.5).notes[0]


def test_objects_that_are_there_twice_and_masks_beside_their_boxes_are_counted(image):
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True
    one = Object("x", (0, 0, 4, 4), 0, mask=mask)
    beside = one._replace(box=(3, 3, 8, 8))
    dataset = annotated(image, [one, one._replace(name="y"), beside], masks=True)
    assert dataset.train.labels.classes.tolist() == [[0, 0, 0]]
    assert dataset.notes == (
        "1 object repeated: the class and the box of another in the image",
        "1 object whose box and mask disagree: less than half of them is in both",
    )


def test_an_image_without_objects_is_kept(image):
    dataset = annotated(image, [], masks=True)
    assert dataset.train.labels.classes.tolist() == [[-1]]
    assert dataset.notes == ("1 image without objects",)


def test_more_objects_than_there_is_room_for(image):
    objects = [Object(f"{i}", (0, 0, i + 1, i + 1), i % 2) for i in (0, 3, 2)]
    with pytest.raises(
        DataError,
        match=r"a.png: 3 objects where data.objects = 2; write data.obj.*"
        r'= 3, or data.crowded = "largest"',
    ):
        annotated(image, objects, objects=2)
    dataset = annotated(image, objects, objects=2, crowded="largest")
    assert dataset.train.labels.classes.tolist() == [[1, 0]]
    assert "1 object left out: the smallest where an image has" in dataset.notes[0]
    assert annotated(image, objects, objects=5).train.labels.classes.shape == (1, 5)


def test_more_masked_objects_than_a_byte_tells_apart(image):
    one = np.ones((8, 8), bool)
    objects = [Object("x", (0, 0, 8, 8), 0, mask=one)] * 255
    with pytest.raises(DataError, match=r"255 objects with masks, need 254 at most"):
        annotated(image, objects, masks=True)
    assert annotated(image, objects).train.labels.classes.shape == (1, 255)


def test_a_mask_of_more_objects_than_a_byte_tells_apart(tmp_path):
    numbers = np.arange(16 * 18).reshape(16, 18) % 256
    put(tmp_path, "a", numbers * 200, mode=np.uint16)
    with pytest.raises(DataError, match=r"a.png: 255 objects with masks, need 254 at most"):
        read(tmp_path)
    few = read(tmp_path, objects=254, crowded="largest")
    assert few.train.labels.classes.shape == (1, 254)


def test_an_object_without_a_mask_where_masks_are_needed(image):
    with pytest.raises(DataError, match=r"x: an object without a mask"):
        annotated(image, [Object("x", (0, 0, 8, 8), 0)], masks=True)


def test_a_crowd_alone_is_kept_and_ignored(image):
    labels = annotated(image, [Object("x", (0, 0, 8, 8), 1, ignored=True)]).train.labels
    assert labels.ignored.tolist() == [[True]] and labels.classes.tolist() == [[1]]


def test_a_class_of_which_train_has_crowds_alone_is_not_trained_on(image):
    crowd = Annotated(image / "a.png", 1, lambda _: [Object("x", (0, 0, 8, 8), 0, ignored=True)])
    one = Annotated(image / "a.png", 2, lambda _: [Object("y", (0, 0, 8, 8), 0)])
    with pytest.raises(DataError, match=r"test has objects of 'a', train has none"):
        read_annotated(".", {"train": [crowd], "test": [one]}, ("a",), Rules((8, 8)), Notes())


def test_a_class_that_is_not_trained_on_is_named(image):
    with pytest.raises(DataError, match=r"validation has objects of 'b', train has none"):
        annotated(image, [Object("x", (0, 0, 8, 8), 1)], part="validation")


def test_masks_of_objects_have_one_class_and_no_background(tmp_path):
    put(tmp_path, "a", two_objects())
    with pytest.raises(DataError, match=r"the background is none: got 2; write classes = \[\"obj"):
        read(tmp_path, classes=("background", "thing"))


def test_a_mask_of_another_size_than_its_image(tmp_path):
    put(tmp_path, "a", two_objects(), image=(16, 20))
    with pytest.raises(DataError, match=r"a.png is 16x24 but .*a.png is 16x20"):
        read(tmp_path)


# runs of pixels


@pytest.mark.parametrize("shape", [(4, 7), (33, 20)])
def test_runs_are_those_of_pycocotools(shape):
    mask = np.random.default_rng(0).random(shape) < 0.4
    runs = encode_mask(mask)
    assert runs["size"] == list(shape)
    np.testing.assert_array_equal(decode_runs(runs["counts"], shape, ""), mask)
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
    numbers = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    np.testing.assert_array_equal(decode_runs(numbers, shape, ""), mask)


@pytest.mark.parametrize(
    "counts", ["", "zzzz", "0", "o" * 40, "é", [3], [-1, 17], [1.5, 14.5], [True, 15]]
)
def test_damaged_runs_are_named(counts):
    with pytest.raises(
        DataError, match=r"x.json, annotation 3: its runs of pixels are not those of"
    ):
        decode_runs(counts, (4, 4), "x.json, annotation 3")


def test_polygons_are_drawn_together():
    mask = polygons_mask([[1, 1, 3, 1, 3, 3, 1, 3], [5, 5, 7, 5, 7, 7, 5, 7]], (8, 8))
    expected = np.zeros((8, 8), bool)
    expected[1:3, 1:3] = expected[5:7, 5:7] = True
    np.testing.assert_array_equal(mask, expected)
