"""Regions proposed without learning: where, how many, the same each time, kept and read again."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from convax.training.data.dataset import Dataset, ImageNote, Split, fingerprint
from convax.training.data.detection.ground_truth import ground_truth
from convax.training.data.detection.proposals import (
    Proposing,
    propose,
    propose_batch,
    sliding,
    stand_ins,
)
from convax.training.data.detection.proposed import recall, with_proposals
from convax.training.data.errors import DataError
from convax.training.data.tree import leaves, rows

SEARCH = Proposing("selective_search", side=40)


def scene(box, size=(40, 60), channels=3):
    """A bright rectangle on a dark ground."""
    x1, y1, x2, y2 = box
    image = np.full((*size, channels), 30, np.uint8)
    image[y1:y2, x1:x2] = 220
    return image


def dataset(images, boxes, notes=()):
    """All in the training part but the last image, which is tested."""
    n = len(images)
    boxes = np.array(boxes, np.float32).reshape(n, -1, 4)
    classes = np.where(boxes[..., 2] > 0, 0, -1).astype(np.int32)
    truth = ground_truth(
        boxes, classes, np.zeros(classes.shape, bool), np.zeros((n, 0, 0), np.uint8)
    )
    parts = [
        Split(
            images[part],
            rows(truth, part),
            notes[part],
        )
        for part in (slice(n - 1), slice(0), slice(n - 1, n))
    ]
    return Dataset(*parts, ("object",))


def iou(a, boxes):
    common = np.maximum(np.minimum(a[2:], boxes[:, 2:]) - np.maximum(a[:2], boxes[:, :2]), 0).prod(
        1
    )
    return common / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (a[2:] - a[:2]).prod() - common)


def test_sliding_boxes_cover_the_image_half_over_each_other():
    found = sliding((40, 60), [20.0, 100.0], [1.0, 4.0])
    squares = found[(found[:, 2:] - found[:, :2] == 20).all(axis=1)]
    assert sorted({tuple(b[:2]) for b in squares.tolist()}) == [
        (float(x), float(y)) for x in range(0, 41, 10) for y in range(0, 21, 10)
    ]
    # 40 high and 10 wide: one row; and those longer than the image are cut to it
    assert {tuple(b[[1, 3]]) for b in found[found[:, 2] - found[:, 0] == 10]} == {(0, 40)}
    assert [0, 0, 60, 40] in found.tolist() and len(np.unique(found, axis=0)) == len(found)
    assert (found >= 0).all() and (found <= [60, 40, 60, 40]).all()
    np.testing.assert_array_equal(
        found,
        propose(
            np.zeros((40, 60, 3), np.uint8),
            Proposing("sliding", sides=[20.0, 100.0], ratios=[1.0, 4.0]),
        ),
    )


@pytest.mark.parametrize("method", ["selective_search", "quality"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_search_finds_what_stands_out(method, channels):
    pytest.importorskip("cv2.ximgproc", reason="no OpenCV with contributed modules")
    box = np.array([12, 8, 36, 28])
    image, how = scene(box, channels=channels), Proposing(method, side=120)
    found = propose(image, how)
    assert found.dtype == np.float32 and iou(box, found).max() > 0.85
    assert (found >= 0).all() and (found <= [60, 40, 60, 40]).all()
    for _ in range(3):  # whatever order OpenCV gives them in
        np.testing.assert_array_equal(propose(image, how), found)


def test_of_too_many_a_part_is_drawn_that_depends_on_the_image_alone(rng):
    pytest.importorskip("cv2.ximgproc", reason="no OpenCV with contributed modules")
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    found = propose(image, SEARCH)
    how = SEARCH._replace(most=2)
    few = propose(image, how)
    assert len(found) > 2 == len(few)
    assert {tuple(b) for b in few.tolist()} < {tuple(b) for b in found.tolist()}
    np.testing.assert_array_equal(few, propose(image.copy(), how))
    floating = propose_batch(np.stack([image, image]) / np.float32(255), how)
    np.testing.assert_array_equal(floating, np.stack([few, few]))


def test_the_margin_of_a_letterbox_is_not_searched(rng):
    pytest.importorskip("cv2.ximgproc", reason="no OpenCV with contributed modules")
    image = np.full((40, 60, 3), 114, np.uint8)
    image[:, :30] = rng.integers(0, 256, (40, 30, 3))
    found = propose(image, SEARCH._replace(letterbox=True))
    assert found[:, 2].max() == 30
    np.testing.assert_allclose(
        found, propose(image[:, :30], SEARCH), err_msg="as if there were none"
    )
    assert propose(image, SEARCH)[:, 2].max() > 30


def test_the_smallest_image_is_searched():
    pytest.importorskip("cv2.ximgproc", reason="no OpenCV with contributed modules")
    assert propose(np.zeros((1, 1, 3), np.uint8), SEARCH).shape[1] == 4


def test_without_opencv_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match=r'not installed; pip install "convax\[proposals\]", or wr'):
        propose(scene((1, 1, 9, 9)), SEARCH)
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace())
    with pytest.raises(DataError, match=r"cv2.ximgproc, which this OpenCV lacks: .*; uninstall"):
        propose(scene((1, 1, 9, 9)), SEARCH)


class Search:
    """In place of OpenCV: the box around what is bright, and of which images it was asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, image, how):
        self.asked += 1
        y, x = np.nonzero((image > 128).any(axis=2))
        return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)


@pytest.fixture
def search(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = Search()
    monkeypatch.setattr("convax.training.data.detection.proposals._searched", asked)
    return asked


BOXES = [(10, 10, 30, 30), (5, 5, 20, 15), (30, 8, 50, 36)]


def test_what_is_found_is_kept_whatever_the_split(search, capsys):
    images = np.stack([scene(box) for box in BOXES])
    found = with_proposals(dataset(images, BOXES), SEARCH)
    assert search.asked == 3 and "selective_search of 3 image(s)" in capsys.readouterr().err
    assert found.train.labels.proposals.shape == (2, 1000, 4)
    np.testing.assert_array_equal(found.train.labels.proposals[:, 0], BOXES[:2])
    np.testing.assert_array_equal(found.test.labels.proposals[0, 0], BOXES[2])
    assert not found.train.labels.proposals[:, 1:].any()
    again = with_proposals(dataset(images[::-1], BOXES[::-1]), SEARCH)
    assert search.asked == 3 and not capsys.readouterr().err
    np.testing.assert_array_equal(again.train.labels.proposals[0], found.test.labels.proposals[0])
    with_proposals(dataset(images, BOXES), SEARCH._replace(side=41))
    assert search.asked == 6
    assert fingerprint(found) != fingerprint(dataset(images, BOXES))


@pytest.mark.parametrize("damage", ["cut", "other boxes", "of other images", "no file"])
def test_what_is_kept_and_damaged_is_found_anew(search, capsys, tmp_path, damage):
    kept = tmp_path / "cache" / "convax" / "proposals"
    images = np.stack([scene(box) for box in BOXES])
    with_proposals(dataset(images, BOXES), SEARCH)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    capsys.readouterr()
    if damage == "cut":
        file.write_bytes(whole[:-30])
    elif damage == "other boxes":
        with np.load(file) as stored:
            arrays = dict(stored)
        arrays["boxes"][0, 0] += 1
        np.savez(file, **arrays)
    elif damage == "of other images":
        others = images[:, ::-1]
        with_proposals(dataset(others, BOXES), SEARCH)
        (other,) = set(kept.iterdir()) - {file}
        file.write_bytes(other.read_bytes())
    else:
        file.unlink()
        file.mkdir()
    before = search.asked
    found = with_proposals(dataset(images, BOXES), SEARCH)
    assert search.asked == before + 3
    np.testing.assert_array_equal(found.train.labels.proposals[:, 0], BOXES[:2])
    said = capsys.readouterr().err
    if damage == "no file":
        assert f"{file}: proposals cannot be kept: Is a directory" in said
    else:
        assert f"{file}: damaged: the proposals in it are found anew" in said
        assert file.read_bytes() == whole


def test_a_note_says_how_many_objects_are_met(search):
    images = np.stack([scene(box) for box in BOXES])
    # The first two objects overlap what is found by 1 and 0.6; the third is far.
    truth = [[BOXES[0], (0, 0, 0, 0)], [(5, 5, 20, 11), (40, 0, 60, 40)], [BOXES[2]] * 2]
    found = with_proposals(dataset(images, truth), SEARCH)
    assert recall(found.train, 0.5) == pytest.approx(2 / 3)
    assert recall(found.train, 0.7) == pytest.approx(1 / 3)
    (note,) = found.notes
    assert (
        "1 proposals an image; of the training objects they meet 66.7% with IoU 0.5, 33.3%" in note
    )
    ignored = found.train.labels._replace(ignored=np.array([[True, False]] * 2))
    assert recall(found.train._replace(labels=ignored), 0.5) == 0
    nothing = found.train.labels._replace(classes=np.full((2, 2), -1))
    assert recall(found.train._replace(labels=nothing), 0.5) == 1


def test_those_of_a_file_are_brought_to_the_canvas(tmp_path):
    notes = tuple(ImageNote(f"{i}.png", i, (80, 60), (0.5, 0.5)) for i in range(3))
    data = dataset(np.zeros((3, 40, 60, 3), np.uint8), BOXES, notes)
    file = tmp_path / "boxes.npz"
    np.savez(file, **{f"{i}.png": [[0, 0, 60, 80], [2, 4, 8, 10 + i]] for i in range(3)})
    how = Proposing("file", path=str(file), most=4)
    found = with_proposals(data, how._replace(letterbox=True)).train.labels.proposals
    assert found.shape == (2, 4, 4) and not found[:, 2:].any()
    np.testing.assert_allclose(found[1, :2], [[0, 0, 30, 40], [1, 2, 4, 5.5]])
    stretched = with_proposals(data, how._replace(most=1)).train.labels.proposals
    np.testing.assert_allclose(stretched[1], [[0, 0, 60, 40]])
    with pytest.raises(DataError, match=r"for its own images alone"):
        propose_batch(np.zeros((1, 40, 60, 3), np.uint8), how)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (None, r"boxes.npz: not an .npz file of boxes"),
        ({"0.png": [[0, 0, 1, 1]]}, r"no proposals of 1.png; add them"),
        ({"0.png": [0, 0, 1, 1], "1.png": []}, r"0.png: got int64 \(4,\), need numbers \(R, 4\)"),
        ({"0.png": [[0, 0, 1, np.inf]], "1.png": [[0, 0, 1, 1]]}, r"0.png: not finite"),
        ({"0.png": [[9, 9, 4, 4]], "1.png": [[0, 0, 1, 1]]}, r"0.png: x2 < x1 or y2 < y1: is it"),
    ],
)
def test_a_file_that_has_no_such_boxes_is_refused(tmp_path, stored, message):
    notes = tuple(ImageNote(f"{i}.png", i, (40, 60), (1.0, 1.0)) for i in range(2))
    data = dataset(np.zeros((2, 40, 60, 3), np.uint8), BOXES[:2], notes)
    file = tmp_path / "boxes.npz"
    if stored is None:
        file.write_text("boxes")
    else:
        np.savez(file, **stored)
    with pytest.raises(DataError, match=message):
        with_proposals(data, Proposing("file", path=str(file)))


def test_a_file_that_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch):
    notes = tuple(ImageNote(f"{i}.png", i, (40, 60), (1.0, 1.0)) for i in range(2))
    data = dataset(np.zeros((2, 40, 60, 3), np.uint8), BOXES[:2], notes)
    file = tmp_path / "boxes.npz"
    np.savez(file, **{"0.png": np.ones((9, 4)), "1.png": np.ones((9, 4))})
    monkeypatch.setenv("CONVAX_UNPACK_LIMITS", "total=800")
    with pytest.raises(DataError, match=r"proposals.path: .*boxes.npz: .* unpacked, need 800 at m"):
        with_proposals(data, Proposing("file", path=str(file)))


def test_two_images_of_one_name_cannot_share_a_file(tmp_path):
    images = np.zeros((2, 40, 60, 3), np.uint8)
    data = dataset(images, BOXES[:2], (ImageNote("a.png", 0, (40, 60), (1.0, 1.0)),) * 2)
    file = tmp_path / "boxes.npz"
    np.savez(file, **{"a.png": np.array([[0, 0, 9, 9]])})
    how = Proposing("file", path=str(file))
    assert with_proposals(data, how).train.labels.proposals.any()  # one image, twice
    images[1] = 255
    with pytest.raises(DataError, match=r"several images are named a\.png; rename all but one"):
        with_proposals(data, how)


def test_a_file_is_of_images_that_have_names():
    data = dataset(np.zeros((2, 40, 60, 3), np.uint8), BOXES[:2])
    with pytest.raises(DataError, match="these images have no names"):
        with_proposals(data, Proposing("file", path="boxes.npz"))


def test_labels_without_proposals_are_those_that_they_were():
    data = dataset(np.zeros((2, 4, 4, 3), np.uint8), BOXES[:2])
    assert [path for path, _ in leaves(data.train.labels)] == ["/0", "/1", "/2", "/3"]


@pytest.mark.parametrize("rows", [5, 500])
def test_what_stands_in_for_proposals_is_as_many_boxes_within_the_image(rows):
    boxes = stand_ins((24, 32), Proposing("file", most=rows))
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    assert boxes.shape == (rows, 4)
    assert there.sum() == min(rows, 3 * 5 + 7 * 10 + 15 * 21)  # of 12, 6 and 3 pixels
    assert (boxes >= 0).all() and (boxes <= [32, 24, 32, 24]).all()
    assert not boxes[~there].any()
