"""Boxes and masks of images that stay in their files: the same as those in memory."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import convax
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import (
    CocoFiles,
    DataError,
    Rules,
    Streamed,
    fingerprint,
    load_coco,
    load_voc,
    load_yolo,
    read_batches,
)
from convax.training.data.dataset import eval_batches
from convax.training.data.detection.painted import Painted
from convax.training.data.tree import leaves
from tests.training.data.detection.box_files import (
    coco_content,
    write_coco,
    write_images,
    write_voc,
    write_yolo,
)

HELD = Rules((32, 32), letterbox=True)
READERS = {
    "coco": (write_coco, lambda root, rules: load_coco(root, CocoFiles("train.json"), rules)),
    "voc": (write_voc, lambda root, rules: load_voc(root, (), rules)),
    "yolo": (
        lambda root: write_yolo(root, polygons=True),
        lambda root, rules: load_yolo(root, (), rules),
    ),
}


def both(root, name="coco", **rules):
    _, load = READERS[name]
    held = HELD._replace(**rules)
    return load(root, held), load(root, held._replace(stream=True, num_workers=1))


def test_images_in_the_top_folder_are_known_where_it_moves(tmp_path):
    before = tmp_path / "before"
    write_images(before)
    (before / "train.json").write_text(json.dumps(coco_content()))
    after = shutil.copytree(before, tmp_path / "after")
    assert fingerprint(both(before)[1]) == fingerprint(both(after)[1])


@pytest.mark.parametrize(
    ("name", "masks"), [("coco", False), ("coco", True), ("voc", False), ("yolo", True)]
)
def test_streamed_objects_are_those_in_memory(tmp_path, name, masks):
    held, streamed = both(READERS[name][0](tmp_path), name, masks=masks)
    assert isinstance(streamed.train.images, Streamed)
    assert isinstance(streamed.train.labels.masks, Painted if masks else np.ndarray)
    np.testing.assert_array_equal(streamed.train.images, held.train.images)
    for (_, one), (_, other) in zip(
        leaves(streamed.train.labels), leaves(held.train.labels), strict=True
    ):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one[1], other[1])
    assert streamed.train.notes == held.train.notes
    assert (streamed.classes, streamed.notes) == (held.classes, held.notes)


def test_batches_from_files_equal_those_in_memory(tmp_path):
    pytest.importorskip("grain")
    held, streamed = (data.train for data in both(write_coco(tmp_path), masks=True))
    asked = {"seed": 1, "batch_size": 2, "start": 1, "stop": 4}
    batches = [list(read_batches(split, **asked)) for split in (streamed, held)]
    evaluated = [list(eval_batches(split, 2)) for split in (streamed, held)]
    for found, wanted in (batches, evaluated):
        assert len(found) == len(wanted) > 1
        for one, other in zip(found, wanted, strict=True):
            for (_, a), (_, b) in zip(leaves(one), leaves(other), strict=True):
                assert isinstance(a, np.ndarray)
                np.testing.assert_array_equal(a, b)


def test_the_fingerprint_changes_with_masks_and_boxes(tmp_path):
    text = write_coco(tmp_path).joinpath("train.json").read_text()
    found = {fingerprint(both(tmp_path, masks=True)[1]), fingerprint(both(tmp_path)[1])}
    assert fingerprint(both(tmp_path, masks=True)[1]) in found
    (tmp_path / "train.json").write_text(text.replace("[2, 3, 12, 3,", "[2, 3, 9, 3,"))
    found.add(fingerprint(both(tmp_path, masks=True)[1]))
    assert len(found) == 3


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_sizes_are_of_upright_images_and_checked_when_they_are_decoded(tmp_path, kind):
    write_voc(tmp_path)
    (path,) = tmp_path.rglob("a.png")
    exif = Image.Exif()
    exif[0x112] = 6
    lying = Image.open(path).transpose(Image.Transpose.ROTATE_90)
    path.unlink()
    lying.save(path.with_suffix(f".{kind}"), exif=exif)
    held, streamed = both(tmp_path, "voc")
    assert streamed.train.notes == held.train.notes and streamed.train.notes[0].size == (24, 32)
    np.testing.assert_array_equal(streamed.train.images, held.train.images)
    lying.save(path.with_suffix(f".{kind}"))
    match = rf"a.{kind}: is 32x24, and was 24x32 when its annotations were read; leave it as it is"
    with pytest.raises(DataError, match=match):
        streamed.train.images[0]


def test_what_is_wrong_is_named_without_decoding(tmp_path):
    write_voc(tmp_path)
    (path,) = tmp_path.rglob("a.png")
    Image.new("RGB", (24, 32)).save(path)
    with pytest.raises(DataError, match=r"a.xml: says that a.png is 24x32, but .* is 32x24"):
        both(tmp_path, "voc")[1]
    path.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff")
    path.unlink()
    with pytest.raises(DataError, match=r"a.jpg: cannot be read as an image"):
        both(tmp_path, "voc")[1]


def test_an_archive_of_boxes_is_not_streamed(tmp_path):
    write_coco(tmp_path / "top")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "top")
    with pytest.raises(DataError, match=r"packed.zip: an archive cannot be streamed: unpack"):
        READERS["coco"][1](packed, HELD._replace(stream=True))


DATA = """{{source="coco", path="{}", annotations="train.json", validation_annotations="train.json",
size=[32, 32], channels=3, validation=0{}}}"""


def test_config_of_streamed_boxes_rejects_workers_without_stream():
    with pytest.raises(ConfigError, match=r"num_workers is for stream = true; write that"):
        load_config("fasterrcnn-scenes", [f"data={DATA.format('x', ', num_workers=1')}"])


@pytest.mark.slow
def test_a_streamed_run_of_masks_ends_with_the_bytes_of_one_in_memory(tmp_path):
    pytest.importorskip("grain")
    from tests.training.tasks.test_detection import CONFIG

    write_coco(tmp_path)
    file = tmp_path / "boxes.toml"
    file.write_text(CONFIG.format(path="x"))
    ends = []
    for name, more in (("held", ""), ("streamed", ", stream=true, num_workers=1")):
        data = DATA.format(tmp_path, more).replace("\n", " ")
        config = load_config(file, [f"data={data}", "training.batch_size=2"])
        run = convax.train(config, tmp_path / name)
        states = sorted(run.checkpoints.glob("step-00000006/*.safetensors"))
        ends.append(([s.read_bytes() for s in states], run.info()["result"]["step"]))
    assert ends[0] == ends[1] and ends[0][0]
