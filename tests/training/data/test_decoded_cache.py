"""Decoded images on disk: the same as decoded anew, and decoded anew whenever anything differs."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFile

from convax.training.data import DataError, decoded_cache, fingerprint, image, load
from convax.training.data.decoded_cache import limit
from tests.training.data.detection.box_files import write_coco


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of what is kept, however fast it was decoded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CONVAX_DATA_CACHE")
    monkeypatch.setattr(decoded_cache, "_LEAST_SECONDS", 0.0)
    return tmp_path / "cache" / "convax" / "decoded"


@pytest.fixture
def decoded(monkeypatch):
    """The number of image files decoded by now, in a list of one."""
    count, opened = [0], image._open

    def counting(source):
        count[0] += 1
        return opened(source)

    monkeypatch.setattr(image, "_open", counting)
    return count


def folder(root, seed=0):
    rng = np.random.default_rng(seed)
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        file = root / "images" / f"{name}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 8), np.uint8)).save(file)
    return root / "images"


def read(root, source="folder", **changes):
    how = {"size": (4, 4), "channels": 1, "seed": 0} | changes
    return load(source, path=str(root), **how)


def test_the_second_reading_decodes_nothing_and_is_the_same(tmp_path, kept, decoded):
    first = read(folder(tmp_path))
    assert decoded == [4] and kept.stat().st_mode & 0o777 == 0o700
    second = read(tmp_path / "images")
    assert decoded == [4] and fingerprint(second) == fingerprint(first)
    second.train.images[:] = 0  # they are the caller's own
    shutil.move(tmp_path / "images", tmp_path / "moved")
    assert fingerprint(read(tmp_path / "moved")) == fingerprint(first) and decoded == [4]
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "moved")
    assert fingerprint(read(tmp_path / "packed.zip")) == fingerprint(first) and decoded == [4]
    read(tmp_path / "moved", channels=3)
    assert decoded == [8] and len(list(kept.iterdir())) == 2


def test_other_pixels_with_the_same_length_and_times_are_seen(tmp_path, kept, decoded):
    before, file = fingerprint(read(folder(tmp_path))), tmp_path / "images" / "cat" / "1.bmp"
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(read(tmp_path / "images")) != before and decoded == [8]


def test_what_pillow_is_told_is_part_of_the_key(tmp_path, kept, decoded, monkeypatch):
    read(folder(tmp_path))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    read(tmp_path / "images")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    read(tmp_path / "images")
    assert decoded == [12]


def test_files_that_change_while_they_are_decoded_are_not_kept(tmp_path, kept, monkeypatch):
    root, opened = folder(tmp_path), image._open

    def changing(content):
        for file in root.rglob("*.*"):
            file.touch()
        return opened(content)

    monkeypatch.setattr(image, "_open", changing)
    read(root)
    assert not kept.exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "header", "another"])
def test_a_damaged_entry_is_said_and_made_anew(tmp_path, kept, decoded, capsys, damage):
    first = read(folder(tmp_path))
    (entry,) = kept.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "cut":
        del content[-3:]
    elif damage == "flip":
        content[-3] ^= 1
    elif damage == "header":
        content[:20] = b"x" * 20
    else:
        read(folder(tmp_path / "other", seed=1))
        (other,) = set(kept.iterdir()) - {entry}
        content[:] = other.read_bytes()
    entry.write_bytes(content)
    decoded[0] = 0
    assert fingerprint(read(tmp_path / "images")) == fingerprint(first) and decoded == [4]
    assert capsys.readouterr().err == f"{entry}: damaged: images are decoded anew\n"
    read(tmp_path / "images")
    assert decoded == [4] and capsys.readouterr().err == ""


def test_it_is_turned_off_and_bounded(tmp_path, kept, decoded, capsys, monkeypatch):
    root = folder(tmp_path)
    monkeypatch.setenv("CONVAX_DATA_CACHE", "off")
    read(root)
    assert not kept.exists()
    monkeypatch.setenv("CONVAX_DATA_CACHE", "much")
    with pytest.raises(DataError, match="CONVAX_DATA_CACHE: got 'much', need 'off' or how many"):
        read(root)
    monkeypatch.setenv("CONVAX_DATA_CACHE", str(100 / 2**30))
    assert limit() == 100
    for channels in (1, 3):  # 64 bytes, and 192
        read(root, channels=channels)
    assert len(list(kept.iterdir())) == 1
    assert (
        "decoded images are not kept: 0.0 GiB, where CONVAX_DATA_CACHE" in capsys.readouterr().err
    )
    (first,) = kept.iterdir()
    left = kept / ".of-a-killed-process.1"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    read(root, size=(4, 3))
    assert [file != first for file in kept.iterdir()] == [True]


def test_what_is_left_out_is_kept_with_it(tmp_path, kept, decoded):
    file = folder(tmp_path) / "dog" / "1.bmp"
    file.write_bytes(b"no image")
    for stream in (False, True):
        decoded[0] = 0
        both = [read(tmp_path / "images", unreadable="skip", stream=stream) for _ in range(2)]
        assert decoded == [4] and both[0].unreadable == both[1].unreadable
        assert both[1].train.labels.tolist() == [0, 0, 1] and both[1].notes == both[0].notes
        np.testing.assert_array_equal(*(np.asarray(one.train.images) for one in both))


def test_masks_are_decoded_once(tmp_path, kept, decoded):
    for i in range(2):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(np.full((6, 6), i, np.uint8)).save(tmp_path / part / f"{i}.png")
    how = {
        **{"images": "images", "masks": "masks", "mask_kind": "classes", "labels": "mask"},
        "classes": ("ground", "thing"),
    }
    both = [read(tmp_path, "masks", **how) for _ in range(2)]
    assert decoded == [4] and fingerprint(both[0]) == fingerprint(both[1])


@pytest.mark.parametrize("changes", [{}, {"labels": "instances"}, {"stream": True}])
def test_boxes_are_read_anew_for_images_decoded_once(tmp_path, kept, decoded, changes):
    root = write_coco(tmp_path / "data")
    (file,) = root.rglob("b.png")
    file.write_bytes(b"no image")
    how = {"annotations": "train.json", "unreadable": "skip", "size": (16, 16), "channels": 3}
    how |= {"labels": "boxes"} | changes
    both = [read(root, "coco", **how) for _ in range(2)]
    assert decoded == [3] and fingerprint(both[0]) == fingerprint(both[1])
    assert [note.file for note in both[1].train.notes] == ["a.png", "c.png"]
    text = (root / "train.json").read_text()
    (root / "train.json").write_text(text.replace('"bbox": [2,', '"bbox": [3,'))
    assert fingerprint(read(root, "coco", **how)) != fingerprint(both[0]) and decoded == [3]
