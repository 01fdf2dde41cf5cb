"""Image folders: both layouts, in a fixed order, and every way to get them wrong."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, folder_classes, load_folder


def put(root, *names, size=(4, 3)):
    """Write images; their shades 10, 20, ... tell which is which."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        value = 10 * (i + 1) % 256
        form = {"tif": "TIFF", "jpg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:].upper())
        Image.new("RGB", size, (value,) * 3).save(path, form)
    return root


def shades(part):
    return part.images[:, 0, 0, 0].tolist()


def test_load_folder_takes_a_class_from_each_folder(tmp_path):
    put(tmp_path, "dog/b.png", "cat/z.png", "dog/a.PNG", "cat/.hidden.png", ".git/x.png")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "dog" / "notes.txt").write_text("about")
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape == (3, 3, 4, 3)
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels.dtype == np.int32
    assert dataset.train.labels.tolist() == [0, 1, 1]
    assert shades(dataset.train) == [20, 30, 10]
    assert len(dataset.validation.labels) == len(dataset.test.labels) == 0
    assert dataset.test.images.shape == (0, 3, 4, 3)


def test_folder_classes_decodes_no_image(tmp_path):
    put(tmp_path, "train/dog/b.png", "train/cat/z.png", "test/cat/z.png")
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"no image")
    assert folder_classes(tmp_path) == ("cat", "dog")
    with pytest.raises(DataError, match="missing: no such folder"):
        folder_classes(tmp_path / "missing")


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [
        ("train", "test", "validation"),
        ("train", "test", "val"),
        ("Train", "Test", "Valid"),
        ("training", "testing", "dev"),
        ("TRAIN", "TESTING", "Validation"),
    ],
)
def test_load_folder_reads_train_and_test_parts(tmp_path, train, test, val):
    put(
        tmp_path,
        f"{train}/a/1.png",
        f"{train}/b/1.png",
        f"{test}/b/1.png",
        f"{val}/b/1.png",
        f"{val}/a/1.png",
    )
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("a", "b")
    assert (shades(dataset.train), dataset.train.labels.tolist()) == ([10, 20], [0, 1])
    assert (shades(dataset.test), dataset.test.labels.tolist()) == ([30], [1])
    assert (shades(dataset.validation), dataset.validation.labels.tolist()) == ([50, 40], [0, 1])


def test_load_folder_reads_a_train_part_alone(tmp_path):
    dataset = load_folder(put(tmp_path, "train/a/1.png", "train/b/1.png"))
    assert dataset.classes == ("a", "b") and len(dataset.test.labels) == 0


def test_a_class_may_be_called_train(tmp_path):
    dataset = load_folder(put(tmp_path, "train/1.png", "car/1.png"))
    assert dataset.classes == ("car", "train")


def test_every_format_in_either_case(tmp_path):
    endings = ["png", "JPG", "jpeg", "bmp", "WebP", "gif", "TIF", "tiff"]
    dataset = load_folder(put(tmp_path, *(f"a/{i}.{e}" for i, e in enumerate(endings))))
    np.testing.assert_allclose(shades(dataset.train), np.arange(10, 90, 10), atol=3)


def test_folders_below_a_class_are_of_the_class(tmp_path):
    put(tmp_path, "cat/z.png", "dog/1.png", "cat/big/y.png", "cat/big/lion/x.png", "cat/a/1.png")
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert (shades(dataset.train), dataset.train.labels.tolist()) == (
        [10, 50, 30, 40, 20],
        [0, 0, 0, 0, 1],
    )
    assert dataset.notes == ("class cat: 3 of its 4 images are in folders below, such as cat/a",)
    several = load_folder(tmp_path, several=True)
    assert (several.train.count, several.train.labels.sum(axis=0).tolist()) == (5, [4, 1])


def skipping(root):
    """A folder in which there is something to pass over for every reason."""
    put(root, "train/a/1.png", "train/b/1.png", "test/a/1.png", "extra/a/1.png", "extra/2.png")
    put(root, "3.png", "train/@eaDir/a.png", "train/a/.ipynb_checkpoints/1.png", "train/a/._1.png")
    for name in ("README.md", "train/a/notes.txt", "train/b/2.txt", "test/a/x.PSD", "train/none"):
        (root / name).touch()
    (root / "train/a/gone.png").symlink_to(root / "nowhere.png")
    (root / "train/a/around").symlink_to(root / "train", target_is_directory=True)
    return root


def test_what_is_passed_over_is_counted_with_its_reason(tmp_path):
    dataset = load_folder(skipping(tmp_path))
    assert dataset.classes == ("a", "b")
    assert [dataset.train.count, dataset.test.count] == [2, 1]
    (line,) = dataset.notes
    assert line.startswith("13 files passed over: 3 hidden, or a system's, ")
    for reason in ("2 images in extra/, which is no split", "2 .txt", "1 .md", "3 others"):
        assert reason in line
    (tmp_path / "README.md").unlink()
    (tmp_path / "train/none").unlink()
    shutil.rmtree(tmp_path / "extra")
    (line,) = load_folder(tmp_path).notes
    for reason in (
        "1 link to nothing",
        "1 link to a folder",
        "1 image beside the splits' folders",
        "1 .psd (a format that is not read; save as PNG or JPEG)",
    ):
        assert reason in line
    streamed = load_folder(tmp_path, size=(3, 4), stream=True)
    assert streamed.notes == (line,)


def test_accents_and_bytes_in_names_of_classes(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    put(tmp_path, f"train/{composed}/1.png", "train/tea/1.png", f"test/{decomposed}/1.png")
    dataset = load_folder(tmp_path)
    assert (dataset.classes, dataset.notes) == ((composed, "tea"), ())
    assert dataset.test.labels.tolist() == [0]

    put(tmp_path, f"train/{decomposed}/2.png")
    dataset = load_folder(tmp_path)
    assert dataset.classes == (composed, "tea") and dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.notes == (
        f"two folders are class '{composed}': their accents are encoded differently",
    )


def test_a_class_folder_that_is_no_utf_8_is_written_out(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        put(tmp_path, f"{name}/1.png", "tea/1.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    for dataset in (load_folder(tmp_path), load_folder(pack(tmp_path, "tar"))):
        assert dataset.classes == (r"caf\xe9", "tea")
        (line,) = dataset.notes
        assert line == r"class caf\xe9: the name of its folder is not UTF-8 text; rename it"
        line.encode()
    stream = load_folder(tmp_path, size=(3, 4), stream=True).train.images
    assert len(stream.identity()) == 32


def test_load_folder_reads_gray_images(tmp_path):
    assert load_folder(put(tmp_path, "a/1.png"), channels=1).train.images.shape == (1, 3, 4, 1)


def test_size_resizes_all_images(tmp_path):
    put(tmp_path, "train/a/1.png")
    put(tmp_path, "train/b/1.png", size=(9, 9))
    put(tmp_path, "test/b/1.png", size=(2, 1))
    dataset = load_folder(tmp_path, size=(5, 6))
    assert dataset.train.images.shape == (2, 5, 6, 3) and dataset.test.images.shape[1:] == (5, 6, 3)


@pytest.mark.parametrize("odd", ["train/b/1.png", "test/a/1.png"])
def test_load_folder_names_images_of_different_sizes(tmp_path, odd):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")
    put(tmp_path, odd, size=(5, 2))
    message = rf"{odd} is 2x5 but \S*train/a/1\.png is 3x4; set data\.size = \[height, width\]"
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_load_folder_keeps_the_order_of_many_images(tmp_path):
    names = [f"{label}/{i:03}.png" for label in "abc" for i in range(40)]
    dataset = load_folder(put(tmp_path, *names))
    assert shades(dataset.train) == [10 * (i + 1) % 256 for i in range(120)]


@pytest.mark.parametrize("where", ["a/1.png", "a/3.png", "b/2.png"])
def test_unreadable_image_is_named(tmp_path, where):
    put(tmp_path, *(f"{label}/{i}.png" for label in "ab" for i in range(1, 5)))
    (tmp_path / where).write_bytes(b"not an image")
    with pytest.raises(DataError, match=rf"{where}: cannot be read as an image: not an image"):
        load_folder(tmp_path)


def test_the_first_of_several_bad_files_is_reported(tmp_path):
    put(tmp_path, *(f"a/{i}.png" for i in range(10, 40)))
    for i in (17, 25, 31):
        (tmp_path / f"a/{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/17\.png: cannot be read"):
        load_folder(tmp_path)


def _empty_class(root):
    put(root, "train/a/1.png")
    (root / "train" / "b").mkdir()
    (root / "train" / "b" / "notes.txt").touch()


def _file_as_part(root):
    put(root, "train/a/1.png")
    (root / "test").touch()


def _empty_test(root):
    put(root, "train/a/1.png")
    (root / "test").mkdir()


WRONG = {
    "no classes": (lambda root: None, r": no class folders in it; put each class's images"),
    "empty class": (_empty_class, r"train/b: a class folder without images \(png, .*add some"),
    "empty test": (_empty_test, r"test: no class folders in it"),
    "file as part": (_file_as_part, r"test: a file where a folder of class folders should be"),
    "stray": (
        lambda root: put(root, "train/a/1.png", "train/2.png"),
        r"train/2\.png: an image outside the class folders; put it into one",
    ),
    "loose": (lambda root: put(root, "1.png"), r"/1\.png: an image outside the class folders"),
    "new class in test": (
        lambda root: put(root, "train/a/1.png", "test/a/1.png", "test/b/1.png"),
        r"class 'b' is in test but not in train; put images of it into both",
    ),
    "parts without classes": (
        lambda root: put(root, "train/1.png", "test/1.png"),
        r": has test, train but no class folders in train; put the images into train/CLASS/",
    ),
    "no train": (lambda root: put(root, "test/a/1.png"), r": has test but no class folders"),
    "val twice": (
        lambda root: put(root, "train/a/1.png", "val/a/1.png", "validation/a/1.png"),
        r": has both val/ and validation/; merge them",
    ),
    "splits in a class": (
        lambda root: put(root, "a/train/1.png", "a/Val/1.png", "b/1.png"),
        r"a: has the splits (Val, train|train, Val) inside a class; need train/CLASS/ for",
    ),
    "split among classes": (
        lambda root: put(root, "a/1.png", "b/1.png", "valid/a/1.png", "valid/b/1.png"),
        r"valid: a split among class folders; put those beside it into train/",
    ),
}


@pytest.mark.parametrize(("build", "message"), WRONG.values(), ids=WRONG)
def test_load_folder_rejects_a_wrong_layout(tmp_path, build, message):
    build(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_folder(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_load_folder_rejects_a_root_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: a file; data\.path should be a folder of class"):
        load_folder(tmp_path / "file")
    with pytest.raises(DataError, match=r"gone: no such folder; data\.path should be .*or an arch"):
        load_folder(tmp_path / "gone")


# archives


def pack(folder, kind="gztar"):
    return shutil.make_archive(str(folder), kind, folder)


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
@pytest.mark.parametrize("above", ["", "images"], ids=["as it is", "in a folder"])
def test_load_folder_reads_an_archive_as_the_folder(tmp_path, kind, above):
    folder = tmp_path / "pets" / above
    names = [f"train/{label}/{i:02}.png" for i in (3, 1, 2) for label in "ba"]
    put(folder, *names, "train/a/.x.png", "test/b/9.png")
    (folder / "test/b/about.txt").write_text("about")
    plain = load_folder(folder)
    put(tmp_path / "pets", "__MACOSX/train/._1.png")
    packed = load_folder(pack(tmp_path / "pets", kind))
    assert packed.classes == plain.classes == ("a", "b")
    assert shades(packed.train) == [40, 60, 20, 30, 50, 10] and shades(packed.test) == [80]
    for part, same in zip(packed[:3], plain[:3], strict=True):
        np.testing.assert_array_equal(part.images, same.images)
        np.testing.assert_array_equal(part.labels, same.labels)


def test_an_archive_of_a_training_part_alone(tmp_path):
    put(tmp_path / "pets", "train/a/1.png", "train/b/1.png")
    assert load_folder(pack(tmp_path / "pets")).classes == ("a", "b")


@pytest.mark.parametrize(("build", "message"), WRONG.values(), ids=WRONG)
def test_load_folder_rejects_a_wrong_layout_in_an_archive(tmp_path, build, message):
    (tmp_path / "pets").mkdir()
    build(tmp_path / "pets")
    with pytest.raises(DataError, match=message.replace("/1", "1")) as caught:
        load_folder(pack(tmp_path / "pets"))
    assert str(caught.value).startswith(f"{tmp_path}/pets.tar.gz: ")


def test_unreadable_image_in_an_archive_is_named(tmp_path):
    put(tmp_path / "pets", "a/1.png", "a/2.png", "b/1.png")
    (tmp_path / "pets/a/2.png").write_bytes(b"not an image")
    message = r"pets\.zip: a/2\.png: cannot be read as an image: not an image"
    with pytest.raises(DataError, match=message):
        load_folder(pack(tmp_path / "pets", "zip"))


def test_load_folder_rejects_a_damaged_archive(tmp_path):
    (tmp_path / "pets.tar.gz").write_bytes(b"none")
    with pytest.raises(DataError, match=r"pets\.tar\.gz: damaged archive: .*; copy or download"):
        load_folder(tmp_path / "pets.tar.gz")


@pytest.mark.slow
def test_load_folder_reads_cifar10_from_its_archive(data_dir):
    """All 60,000 images, out of the real archive."""
    archive = data_dir / "cifar10-jpeg.tar.gz"
    if not archive.is_file():
        pytest.skip("no cifar10-jpeg.tar.gz in CONVAX_DATA")
    dataset = load_folder(archive)
    assert dataset.train.images.shape == (50_000, 32, 32, 3)
    assert dataset.test.images.shape == (10_000, 32, 32, 3)
    assert dataset.classes[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(dataset.train.labels).tolist() == [5_000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1_000] * 10
