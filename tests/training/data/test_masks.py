"""Images with masks: both layouts, folders and archives, and every way to get them wrong."""

import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, find_mask_folders, load, load_masks
from convax.training.data.color_table import color_table
from convax.training.data.mask_file import decode_mask, resize_nearest
from convax.training.tasks.segmentation.figures import write_mask
from convax.training.tasks.segmentation.overlay import palette


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


@pytest.mark.parametrize("suffix", ["", "_mask", "_label"])
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


def test_letterbox_keeps_the_aspect_and_pixels_beside_are_of_no_class(tmp_path):
    put(tmp_path, "x", image=(4, 8), mask=(4, 8))
    put(tmp_path, "y", image=(8, 2), mask=(8, 2))
    train = read(tmp_path, size=(8, 8), letterbox=True).train
    wide, high = train.labels
    assert (wide[:4, :4] == 0).all() and (wide[:4, 4:] == 1).all() and (wide[4:] == 255).all()
    assert (high[:, 0] == 0).all() and (high[:, 1] == 1).all() and (high[:, 2:] == 255).all()
    assert (train.images[0, :4] == (10, 20, 30)).all() and (train.images[0, 4:] == 114).all()
    put(tmp_path, "x", value=0)
    put(tmp_path, "y", value=0)
    with pytest.raises(DataError, match=r"all pixels are 0, where 255 .* from 0 to 1"):
        read(tmp_path, size=(8, 8), letterbox=True)


def test_instances_are_one_class_and_255_is_no_class(tmp_path):
    put(tmp_path, "x", value=7)
    assert set(read(tmp_path, mask_kind="instances").train.labels.ravel()) == {0, 1}
    put(tmp_path, "x", value=255)
    assert set(read(tmp_path, mask_kind="instances").train.labels.ravel()) == {0, 1}
    put(tmp_path, "y", value=1)
    assert set(read(tmp_path).train.labels.ravel()) == {0, 1, 255}


def test_masks_of_the_first_class_alone_are_refused(tmp_path):
    put(tmp_path, "x", value=255)
    why = "no mask has a pixel of 'b': all pixels are 0 and 255, where 255 is no class; "
    with pytest.raises(DataError, match=f'{why}write data.mask_kind = "instances" if 255 is'):
        read(tmp_path)
    with pytest.raises(DataError, match=r"pixel of 'b', 'c': .* number the classes .* from 0 to 2"):
        read(tmp_path, classes=["a", "b", "c"])


def gray(numbers, bits, kind):
    """A gray image of 1, 2, 4 or 8 bits a pixel as the bytes of a PNG or TIFF file."""
    height, width = numbers.shape
    digits = (numbers[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    lines = np.packbits(digits.reshape(height, -1).astype(np.uint8), axis=1)
    if kind == "tiff":
        tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
        tags |= {279: lines.size}
        entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, n, 0) for tag, n in tags.items())
        head = b"II*\0" + struct.pack("<I", 8 + lines.size) + lines.tobytes()
        return head + struct.pack("<H", len(tags)) + entries + bytes(4)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines)),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_masks_of_few_bits_are_the_numbers_that_are_stored(kind, bits):
    numbers = (np.arange(64).reshape(4, 16) % 2**bits).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(gray(numbers, bits, kind)), numbers)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "1"])
def test_a_mask_is_turned_as_its_own_orientation_says(tmp_path, mode):
    numbers = np.array([[0, 1, 1], [1, 0, 0]], np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(numbers > 0 if mode == "1" else numbers)
    orientation = Image.Exif()
    orientation[274] = 6  # to be turned clockwise
    for ending in ("png", "tiff"):
        path = tmp_path / f"mask.{ending}"
        (image.convert("P") if mode == "P" else image).save(path, exif=orientation)
        np.testing.assert_array_equal(decode_mask(path), np.rot90(numbers, -1))


@pytest.mark.parametrize(
    ("ending", "options", "called"),
    [
        ("jpg", {}, "JPEG"),
        ("webp", {}, "WEBP"),
        ("tif", {"compression": "jpeg"}, "TIFF with JPEG in it"),
    ],
)
def test_masks_in_lossy_formats_are_refused(tmp_path, ending, options, called):
    put(tmp_path, "x", mask=None)
    path = tmp_path / "masks" / f"x.{ending}"
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (6, 4), 1).save(path, **options)
    why = f"not a mask: saved as {called}, which need not keep .* each pixel; make it again"
    with pytest.raises(DataError, match=f"x.{ending}: {why}"):
        read(tmp_path, mask_kind="instances")


@pytest.mark.parametrize(
    ("ending", "options"), [("gif", {}), ("bmp", {}), ("tif", {"compression": "tiff_lzw"})]
)
def test_masks_in_lossless_formats_are_read(tmp_path, ending, options):
    numbers = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(numbers).save(tmp_path / f"x.{ending}", **options)
    np.testing.assert_array_equal(decode_mask(tmp_path / f"x.{ending}"), numbers)


def test_masks_keep_their_classes_at_another_size(tmp_path):
    """The middle of each new pixel falls into the old one whose number it takes."""
    mask = np.array([[0, 1, 2, 3]], np.uint8)
    np.testing.assert_array_equal(resize_nearest(mask, (2, 8)), [[0, 0, 1, 1, 2, 2, 3, 3]] * 2)
    np.testing.assert_array_equal(resize_nearest(mask, (1, 2)), [[1, 3]])
    np.testing.assert_array_equal(resize_nearest(mask, (1, 3)), [[0, 2, 3]])
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
            r"y.png: no mask for this image: need y.png, y_mask.png or y_label.png in masks; a",
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


COLORS = {"colors": [[0, 0, 0], [128, 0, 64]], "ignored_colors": [[224, 224, 192]]}


def put_colors(root, stem, pixels=None, mode="RGB"):
    """A photograph and a mask of colors: the first row of no class, then both classes."""
    put(root, stem)
    rows = np.zeros((4, 6, 3), np.uint8) if pixels is None else pixels
    if pixels is None:
        rows[0], rows[1:, 3:] = (224, 224, 192), (128, 0, 64)
    image = Image.fromarray(rows)
    image = image.quantize(3) if mode == "P" else image.convert(mode)
    image.save(root / "masks" / f"{stem}.png")
    return rows


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_of_colors_are_looked_up(tmp_path, mode):
    put_colors(tmp_path, "x", mode=mode)
    labels = read(tmp_path, **COLORS).train.labels[0]
    np.testing.assert_array_equal(labels, [[255] * 6, *[[0, 0, 0, 1, 1, 1]] * 3])


def test_a_color_that_is_in_no_table_is_named(tmp_path):
    put_colors(tmp_path, "a")
    rows = put_colors(tmp_path, "x")
    rows[2, 4], rows[3, 1] = (128, 0, 65), (1, 1, 1)
    put_colors(tmp_path, "x", rows)
    said = (
        r"masks/x.png: the pixel in row 2 and column 4, counted from 0, is \[128, 0, 65\], which is "
        r"not among data.colors and data.ignored_colors; so are 1 more color\(s\); add it"
    )
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, **COLORS)
    assert "\n" not in str(caught.value)
    (tmp_path / "masks" / "x.png").unlink()
    Image.fromarray(rows).convert("CMYK").save(tmp_path / "masks" / "x.tiff")
    with pytest.raises(DataError, match=r"not a mask of colors: its pixels are CMYK, need red"):
        read(tmp_path, **COLORS)
    (tmp_path / "masks" / "x.tiff").unlink()
    Image.new("RGBA", (6, 4)).save(tmp_path / "masks" / "x.png")
    with pytest.raises(DataError, match=r"masks/x.png: .* it has transparent pixels"):
        read(tmp_path, **COLORS)
    Image.fromarray(rows).save(tmp_path / "masks" / "x.png", format="JPEG")
    with pytest.raises(DataError, match=r"masks/x.png: not a mask: saved as JPEG, which need not"):
        read(tmp_path, **COLORS)


def test_masks_of_colors_that_are_all_of_the_first_class_are_refused(tmp_path):
    put_colors(tmp_path, "x", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DataError, match=r"no mask has a pixel of 'b': .* write in data.colors the"):
        read(tmp_path, **COLORS)


@pytest.mark.parametrize(
    ("colors", "message"),
    [([[0, 0, 300]], "has .0, 0, 300., need three"), ([[1, 2]], "has .1, 2., need three"),
     ([[1, 2, 3], [1, 2, 3]], "has .1, 2, 3. twice; write another")],
)  # fmt: skip
def test_color_table_refuses_what_is_no_table(colors, message):
    with pytest.raises(DataError, match=f"data.colors: colors {message}"):
        color_table(colors, classes=len(colors))


def test_masks_have_a_color_for_each_class(tmp_path):
    put_colors(tmp_path, "x")
    with pytest.raises(
        DataError, match=r"data.colors: colors has 1 and classes 2: write one color"
    ):
        read(tmp_path, colors=COLORS["colors"][:1])


@pytest.mark.parametrize("ending", ["_mask", "_label"])
@pytest.mark.parametrize("inside", [".", "both"])
def test_masks_may_be_beside_their_images(tmp_path, ending, inside):
    """In one folder, where the endings tell them apart; `convax new` finds them."""
    put(tmp_path / "put", "x", suffix=ending)
    put(tmp_path / "put", "y", suffix=ending)
    folder = tmp_path / "data" / inside
    folder.mkdir(parents=True)
    for file in (tmp_path / "put").rglob("*.png"):
        shutil.copy(file, folder / file.name)
    dataset = read(tmp_path / "data", images=inside, masks=inside)
    np.testing.assert_array_equal(dataset.train.labels, [[[0, 0, 0, 1, 1, 1]] * 4] * 2)
    assert dataset.notes == ()
    assert find_mask_folders(tmp_path / "data") == (".", ".")
    (folder / f"y{ending}.png").unlink()
    assert find_mask_folders(tmp_path / "data") is None
    with pytest.raises(DataError, match=r"y.png: no mask for this image: need y_mask.png or y_lab"):
        read(tmp_path / "data", images=inside, masks=inside)


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
