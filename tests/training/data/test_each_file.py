"""All files that cannot be used are named at once, whatever source they are of."""

import pickle

import numpy as np
import pytest
from PIL import Image

from convax.training.config.schema import load_config
from convax.training.config_data import load_data
from convax.training.data import DataError, load, load_folder, load_masks
from convax.training.data.each_file import read_each
from convax.training.data.errors import UnreadableError
from convax.training.data.image import read_image
from convax.training.experiment import dataset_card, reopen
from convax.training.loop.resume import check_unchanged
from convax.training.run.directory import RunError
from tests.tiny import untrained
from tests.training.data.detection.box_files import write_coco, write_voc, write_yolo


def test_results_are_in_order_and_errors_a_line_each():
    def read(i):
        if i in bad:
            raise DataError(f"{i}: damaged")
        return i * i

    bad: set[int] = set()
    assert read_each(read, 5) == [0, 1, 4, 9, 16]
    bad = {3}
    with pytest.raises(DataError) as one:
        read_each(read, 5)
    assert str(one.value) == "3: damaged"
    bad = set(range(4, 1004))
    with pytest.raises(DataError) as many:
        read_each(read, 2000)
    first, *lines, last = str(many.value).split("\n  ")
    assert first == "1,000 files cannot be used:" and last == "and 980 more"
    assert lines == [f"{i}: damaged" for i in range(4, 24)]


def write(file, size=(8, 8)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size, np.uint8)).save(file)


def test_class_folders_with_bad_files_and_one_of_another_size(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        write(tmp_path / name)
    write(tmp_path / "dog/4.png", (9, 7))
    (tmp_path / "cat" / "1.png").write_bytes(b"no image")
    (tmp_path / "cat" / "2.png").write_bytes((tmp_path / "cat" / "2.png").read_bytes()[:40])
    with pytest.raises(DataError) as told:
        load_folder(tmp_path, channels=1)
    lines = str(told.value).split("\n  ")
    assert [line.partition(": ")[0].partition(" is")[0][-9:] for line in lines[1:]] == [
        *("cat/1.png", "cat/2.png", "dog/4.png")
    ]
    assert "dog/4.png is 9x7 but " in lines[3] and "dog/3.png is 8x8; set data.size" in lines[3]
    with pytest.raises(DataError, match="2 files cannot be used"):
        load_folder(tmp_path, size=(4, 4), channels=1)


def test_photographs_and_masks(tmp_path):
    for i in range(3):
        write(tmp_path / "images" / f"{i}.png")
        write(tmp_path / "masks" / f"{i}.png", (8, 8) if i else (8, 9))
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 files cannot be used:(?s:.*)0\.png(?s:.*)2\.png"):
        load_masks(
            tmp_path, images="images", masks="masks", mask_kind="binary",
            classes=("ground", "thing"), size=(8, 8), channels=1,
        )  # fmt: skip


BOXES = {"size": (16, 16), "channels": 3, "labels": "boxes", "unreadable": "skip", "seed": 0}


def folder(root):
    for name in ("train/cat/1", "train/cat/2", "train/dog/1", "test/cat/1", "test/dog/1"):
        write(root / f"{name}.png")
    return root


def damage(*files):
    for file in files:
        file.write_bytes(file.read_bytes()[:40])


def skipping(root, **changes):
    return load("folder", path=str(root), size=(8, 8), channels=1, seed=0, **changes)


@pytest.mark.parametrize("stream", [False, True])
def test_unreadable_images_are_left_out_named_and_noted(tmp_path, stream):
    folder(tmp_path)
    damage(tmp_path / "train" / "cat" / "1.png", tmp_path / "test" / "dog" / "1.png")
    with pytest.raises(DataError, match="2 files cannot be used"):
        skipping(tmp_path)
    found = skipping(tmp_path, unreadable="skip", stream=stream)
    assert [part.labels.tolist() for part in found[:3]] == [[0, 1], [], [0]]
    assert [np.asarray(part.images).shape[0] for part in found[:3]] == [2, 0, 1]
    assert [left.file for left in found.unreadable] == ["train/cat/1.png", "test/dog/1.png"]
    with pytest.raises(UnreadableError) as told:
        read_image(tmp_path / "train" / "cat" / "1.png", size=None, channels=1)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
    assert {left.reason for left in found.unreadable} == {told.value.reason}
    assert found.notes == (
        '2 of 5 images left out (data.unreadable = "skip"): train/cat/1.png, test/dog/1.png',
    )


def test_a_class_or_part_without_any_image_left_is_an_error(tmp_path):
    folder(tmp_path)
    damage(tmp_path / "train" / "cat" / "1.png", tmp_path / "train" / "dog" / "1.png")
    with pytest.raises(
        DataError, match=r"no training image of 'dog' .*out is \S*dog/1\.png \(.*mend"
    ):
        skipping(tmp_path, unreadable="skip")
    damage(*tmp_path.glob("test/*/*.png"))
    message = r"none of the 2 image\(s\) of test can be read, the first is \S*test/cat/\d\.png \("
    with pytest.raises(DataError, match=message):
        skipping(tmp_path, unreadable="skip")


def test_what_is_no_damage_is_no_reason_to_leave_out(tmp_path):
    write(folder(tmp_path) / "train" / "dog" / "2.png", (9, 7))
    with pytest.raises(DataError, match=r"2\.png is 9x7 but"):
        load("folder", path=str(tmp_path), channels=1, unreadable="skip", seed=0)
    (tmp_path / "no image").mkdir()
    for file in (tmp_path / "none.png", tmp_path / "no image"):
        with pytest.raises(DataError) as told:
            read_image(file, size=None, channels=1)
        assert not isinstance(told.value, UnreadableError)


def test_a_table_with_classes(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png")
    table = tmp_path / "table.csv"
    table.write_text("file,cat,dog\n0.png,1,0\n1.png,1,1\n2.png,0,1\n")
    damage(tmp_path / "1.png")
    how = {"path": str(table), "columns": ["cat", "dog"], "labels": "classes", "channels": 1}
    found = load("csv", **how, unreadable="skip", seed=0)
    assert found.train.labels.tolist() == [[1, 0], [0, 1]]
    assert found.unreadable[0].file == "1.png"
    damage(tmp_path / "2.png")
    with pytest.raises(DataError, match="no training image of 'dog'"):
        load("csv", **how, unreadable="skip", seed=0)


@pytest.mark.parametrize("bad", ["images", "masks"])
def test_an_image_and_its_mask_go_together(tmp_path, bad):
    for i in range(3):
        write(tmp_path / "images" / f"{i}.png")
        Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), i // 2, np.uint8)).save(tmp_path / "masks" / f"{i}.png")
    how = {
        **{"path": str(tmp_path), "images": "images", "masks": "masks", "mask_kind": "classes"},
        **{"classes": ("ground", "thing"), "labels": "mask", "size": (8, 8), "channels": 1},
    }
    damage(tmp_path / bad / "1.png")
    found = load("masks", **how, unreadable="skip", seed=0)
    assert found.train.images[:, 0, 0, 0].tolist() == [0, 0]
    assert found.train.labels[:, 0, 0].tolist() == [0, 1]
    assert [left.file for left in found.unreadable] == [f"{bad}/1.png"]
    damage(tmp_path / "images" / "2.png")
    with pytest.raises(DataError, match="no training image of 'thing'"):
        load("masks", **how, unreadable="skip", seed=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("source", ["coco", "voc", "yolo"])
def test_boxes_go_with_their_image(tmp_path, source, stream):
    {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}[source](tmp_path)
    how = {"coco": {"annotations": "train.json"}, "voc": {}, "yolo": {}}[source]
    whole = load(source, path=str(tmp_path), **how, **BOXES)
    (file,) = tmp_path.rglob("b.png")
    damage(file)
    found = load(source, path=str(tmp_path), **how, **BOXES, stream=stream)
    assert [note.file for note in found.train.notes] == ["a.png", "c.png"]
    for one, other in zip(found.train.labels[:3], whole.train.labels[:3], strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other)[[0, 2]][:, : one.shape[1]])
    np.testing.assert_array_equal(np.asarray(found.train.images), whole.train.images[[0, 2]])
    (file,) = tmp_path.rglob("a.png")
    damage(file)
    with pytest.raises(DataError, match="no training image of 'cat', 'dog' can be read"):
        load(source, path=str(tmp_path), **how, **BOXES, stream=stream)


def test_a_run_remembers_and_is_refused_where_others_are_left_out(tmp_path):
    root = folder(tmp_path / "data")
    damage(root / "train" / "cat" / "1.png")
    data = f'data={{source="folder",path="{root}",channels=1,validation=0,unreadable="skip"}}'
    model = 'model={name="mlp",hidden=[2],activation="relu"}'
    config = load_config("lenet5-digits", [data, model, "input.size=[8,8]"])
    run, experiment = untrained(config, tmp_path / "run")
    assert run.dataset().unreadable == experiment.card.unreadable
    assert reopen(run.path)[1].card == experiment.card
    write(root / "train" / "cat" / "1.png")
    damage(root / "test" / "dog" / "1.png")
    now = experiment._replace(card=dataset_card(config, load_data(config)))
    for refuse in (lambda: reopen(run.path), lambda: check_unchanged(run, now, force=False)):
        with pytest.raises(RunError) as told:
            refuse()
        assert "1 image(s) now left out as unreadable: test/dog/1.png" in str(told.value)
        assert "1 image(s) now read and not left out: train/cat/1.png" in str(told.value)
