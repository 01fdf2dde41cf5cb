"""Images with masks: both layouts, folders and archives, and every way to get them wrong."""

import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, load, load_masks
from convax.training.data.image import decode_mask
from convax.training.data.masks import _nearest
from convax.training.tasks.segmentation.figures import palette, write_mask


def put(root, stem, *, image=(4, 6), mask=(4, 6), value=1, suffix="", folder="masks"):
    """A photograph of one shade and a mask with `value` in its right half."""
    for name in ("images", folder):
        (root / name).mkdir(parents=True, exist_ok=True)
    if image:
        Image.new("RGB", image[::-1], (10, 20, 30)).save(root / "images" / f"{stem}.png")
    if mask:
        numbers = np.zeros(mask, np.uint8)
        numbers[:, mask[1] // 2 :] = value
        Image.fromarray(numbers).save(root / folder / f"{stem}{suffix}.png")
    return root


def read(root, **changes):
    options = {"images": "images", "masks": "masks", "mask_kind": "classes", "classes": ["a", "b"]}
    return load_masks(root, **(options | {"size": (4, 6)} | changes))


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_load_masks_pairs_images_with_masks(tmp_path, suffix):
    for stem in ("y", "x"):
        put(tmp_path, stem, suffix=suffix)
    put(tmp_path, "z", image=(8, 12), mask=(8, 12), suffix=suffix)
    (tmp_path / "images" / "notes.txt").write_text("about")
    dataset = read(tmp_path)
    assert dataset.classes == ("a", "b")
    assert dataset.train.images.shape == (3, 4, 6, 3)
    assert dataset.train.images[0, 0, 0].tolist() == [10, 20, 30]
    assert dataset.train.labels.shape == (3, 4, 6) and dataset.train.labels.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train.labels, [[[0, 0, 0, 1, 1, 1]] * 4] * 3)
    assert dataset.test.images.shape == (0, 4, 6, 3) and dataset.test.labels.shape == (0, 4, 6)
    assert read(tmp_path, channels=1).train.images.shape == (3, 4, 6, 1)


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar"])
def test_load_masks_reads_an_archive_as_the_folder(tmp_path, ending, monkeypatch):
    for stem in ("y", "x"):
        put(tmp_path / "data" / "Photos", stem)
    kind = {"zip": "zip", "tar.gz": "gztar", "tar": "tar"}[ending]
    shutil.make_archive(str(tmp_path / "Photos"), kind, tmp_path / "data")
    packed, plain = read(tmp_path / f"Photos.{ending}"), read(tmp_path / "data" / "Photos")
    for one, other in zip(packed.train, plain.train, strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.chdir(tmp_path)  # where a config's path finds it without its ending
    options = {"classes": ["a", "b"], "size": (4, 6), "seed": 0, "test": 1}
    found = load("masks", path="Photos", mask_kind="classes", **options)
    assert len(found.train.labels) == len(found.test.labels) == 1


def test_instances_are_one_class_and_255_is_no_class(tmp_path):
    put(tmp_path, "x", value=7)
    assert set(read(tmp_path, mask_kind="instances").train.labels.ravel()) == {0, 1}
    put(tmp_path, "x", value=255)
    assert set(read(tmp_path).train.labels.ravel()) == {0, 255}
    assert set(read(tmp_path, mask_kind="instances").train.labels.ravel()) == {0, 1}


def test_masks_keep_their_classes_at_another_size(tmp_path):
    """The middle of each new pixel falls into the old one whose number it takes."""
    mask = np.array([[0, 1, 2, 3]], np.uint8)
    np.testing.assert_array_equal(_nearest(mask, (2, 8)), [[0, 0, 1, 1, 2, 2, 3, 3]] * 2)
    np.testing.assert_array_equal(_nearest(mask, (1, 2)), [[1, 3]])
    np.testing.assert_array_equal(_nearest(mask, (1, 3)), [[0, 2, 3]])
    put(tmp_path, "x", value=1)
    labels = read(tmp_path, size=(2, 3)).train.labels
    np.testing.assert_array_equal(labels, [[[0, 1, 1]] * 2])


def test_a_written_mask_is_read_as_it_was(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(mask, tmp_path / "new" / "mask.png")
    np.testing.assert_array_equal(decode_mask(tmp_path / "new" / "mask.png"), mask)
    with Image.open(tmp_path / "new" / "mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[0, :3], palette(3))


def broken_mask(root):
    (root / "masks" / "x.png").write_bytes(b"none")


def colored_mask(root):
    Image.new("RGB", (6, 4)).save(root / "masks" / "x.png")


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (
            lambda root: put(root, "y", mask=None), {},
            r"y.png: no mask for this image: need y.png or y_mask.png in masks; add it, or take",
        ),
        (
            lambda root: put(root, "x", image=None, suffix="_mask"), {},
            "x.png: two masks for this image, .*x.png and .*x_mask.png; keep one",
        ),
        (
            lambda root: put(root, "x", mask=(4, 5)), {},
            r"masks/x.png is 4x5 but .*images/x.png is 4x6; a mask needs one number for each pixel",
        ),
        (
            lambda root: put(root, "x", value=2), {},
            "masks/x.png: class 2 where data.classes names 2, 0 to 1 .and 255 for no class.; name",
        ),
        (broken_mask, {}, "masks/x.png: cannot be read as a mask: not an image, or damaged; need"),
        (colored_mask, {}, "masks/x.png: not a mask: its pixels are RGB colors, need one whole nu"),
        (
            lambda root: (root / "images" / "x.png").write_bytes(b""), {},
            "images/x.png: cannot be read as an image",
        ),
        (
            lambda root: None, {"images": "photos"},
            "no images in a folder photos; data.images and data.masks should name the two folders",
        ),
        (
            lambda root: (root / "masks" / "x.png").unlink(), {},
            "no images in a folder masks; data.images and",
        ),
        (
            lambda root: None, {"mask_kind": "instances", "classes": ["a", "b", "c"]},
            "data.classes: masks of instances have two classes, the background and the object: got 3",
        ),
    ],
)  # fmt: skip
def test_load_masks_names_the_file_that_is_wrong(tmp_path, spoil, changes, message):
    put(tmp_path, "x")
    spoil(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_load_masks_rejects_what_is_no_folder_and_no_archive(tmp_path):
    with pytest.raises(DataError, match=r"gone: no such folder; data.path should be a folder, or"):
        read(tmp_path / "gone")
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(DataError, match=r"file.txt: a file; data.path should be"):
        read(tmp_path / "file.txt")
    for name in ("bad.zip", "bad.tar.gz"):
        (tmp_path / name).write_bytes(b"none")
        with pytest.raises(DataError, match=f"{name}: damaged archive: .*; copy or download it"):
            read(tmp_path / name)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(DataError, match=r"empty.tar: no images in a folder images"):
        read(tmp_path / "empty.tar")


def test_load_masks_reads_penn_fudan(data_dir):
    archive = data_dir / "PennFudanPed.tar.gz"
    if not archive.exists():
        pytest.skip(f"no PennFudanPed.tar.gz in {data_dir}")
    dataset = read(
        archive, images="PNGImages", masks="PedMasks", mask_kind="instances", size=(32, 32)
    )
    assert dataset.train.images.shape == (170, 32, 32, 3)
    assert set(dataset.train.labels.ravel()) == {0, 1}
    assert 0.1 < dataset.train.labels.mean() < 0.3
