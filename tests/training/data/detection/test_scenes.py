"""Made-up scenes: each a pure function of seed, split and number; boxes and masks are exact."""

import numpy as np
import pytest

from convax.training.data import DataError, Scenes, fingerprint, load, load_scenes
from convax.training.data.detection.rle import decode_runs
from convax.training.data.detection.scenes import INK, draw_scene


@pytest.fixture
def digits(tmp_path):
    """An .npz file of 40 squares, of which the class says how bright they are."""
    images = np.zeros((40, 8, 8), np.uint8)
    labels = np.arange(40) % 2
    images[:, 2:6, 1:7] = np.where(labels, 250, 120)[:, None, None]
    path = tmp_path / "squares.npz"
    np.savez(path, images=images, labels=labels, classes=["dim", "bright"])
    return path


def made(path, *, train=6, **changes):
    return load_scenes(
        path, Scenes((40, 32), **{"masks": True, **changes}), train=train, validation=3, test=2
    )


def test_scenes_have_the_shapes_and_counts_that_are_asked(digits):
    dataset = made(digits, objects=5)
    assert [part.count for part in dataset[:3]] == [6, 3, 2]
    assert dataset.classes == ("dim", "bright")
    boxes, classes, ignored, masks, _ = dataset.train.labels
    assert dataset.train.images.shape == (6, 40, 32, 1) and boxes.shape == (6, 5, 4)
    assert (boxes.dtype, classes.dtype, masks.dtype) == (np.float32, np.int32, np.uint8)
    assert classes.shape == ignored.shape == (6, 5) and masks.shape == (6, 40, 32)
    assert made(digits, masks=False).train.labels.masks.shape == (6, 0, 0)


def test_boxes_are_tight_and_masks_exact(digits):
    train = made(digits, scale=(1.0, 1.0), noise=0, objects=6, overlap=0.0).train
    for i, note in enumerate(train.notes):
        there = train.labels.classes[i] >= 0
        assert there.any() and len(note.masks) == there.sum()
        for row in np.flatnonzero(there):
            x1, y1, x2, y2 = train.labels.boxes[i, row].astype(int)
            mask = train.labels.masks[i] == row + 1
            assert (x2 - x1, y2 - y1) == (6, 4) and mask[y1:y2, x1:x2].all() and mask.sum() == 24
            runs = decode_runs(note.masks[row]["counts"], (40, 32), "x")
            np.testing.assert_array_equal(runs, mask)
            bright = train.images[i, y1, x1, 0]
            assert bright == (250 if train.labels.classes[i, row] else 120)
        np.testing.assert_array_equal(train.images[i, ..., 0] >= INK, train.labels.masks[i] > 0)


def test_no_box_overlaps_another_by_more_than_is_asked(digits):
    for part in made(digits, objects=8, overlap=0.1, train=20)[:2]:
        for boxes, classes in zip(part.labels.boxes, part.labels.classes, strict=True):
            here = boxes[classes >= 0]
            for i, a in enumerate(here):
                for b in here[:i]:
                    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
                    both = np.prod(np.maximum(high - low, 0))
                    smaller = min(np.prod(x[2:] - x[:2]) for x in (a, b))
                    assert both <= 0.1 * smaller + 1e-3


def test_a_scene_is_a_function_of_seed_split_and_number(digits):
    few, many = made(digits, train=3), made(digits, train=6)
    np.testing.assert_array_equal(few.train.images, many.train.images[:3])
    assert few.train.notes == many.train.notes[:3]
    assert fingerprint(made(digits)) == fingerprint(many)
    assert fingerprint(made(digits, seed=1)) != fingerprint(many)
    source, scenes = few.train._replace(labels=few.train.labels.classes[:, 0]), Scenes((90, 90))
    drawn = [draw_scene(source, scenes, stream, i)[0] for stream in (0, 1) for i in (0, 1)]
    assert len({canvas.tobytes() for canvas in drawn}) == 4


def test_load_makes_scenes_whatever_the_seed_of_the_run(digits):
    how = {"path": str(digits), "size": [40, 32], "objects": 3, "train": 2, "labels": "boxes"}
    both = [load("scenes", **how, validation=1, test=1, seed=seed) for seed in (0, 1)]
    assert fingerprint(both[0]) == fingerprint(both[1]) and both[0].test.count == 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scale": (0.5, 5.0)}, r"images become 40x40 where scenes are 40x32; write a larger"),
        ({"objects": 300}, r"data.objects: got 300, need 254 at most with masks"),
    ],
)
def test_what_does_not_fit_is_refused(digits, changes, match):
    with pytest.raises(DataError, match=match):
        made(digits, **changes)


def test_images_of_several_channels_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((30, 8, 8, 3), np.uint8), labels=np.arange(30) % 2)
    with pytest.raises(DataError, match=r"several channels, where scenes need one"):
        made(tmp_path / "a.npz")
