"""Masks of colors: how they are known, named and ordered, which are ignored, and what is refused."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from convax.training.data import DataError, find_mask_folders
from convax.training.scaffold.class_names import names_beside
from convax.training.scaffold.draft import draft_config
from convax.training.scaffold.mask_colors import _voc_colors
from tests.training.scaffold.folders import (
    ROAD,
    SKY,
    VOID,
    painted,
    save,
    write_classes,
    write_masks,
    write_painted,
)

CAMVID = "128 128 128\tSky\n128 64 128\tRoad\n64 128 64\tAnimal\n0 0 0\t\tVoid\n"


def drafted(root):
    draft = draft_config(root, root.parent / "new.toml")
    return draft, tomllib.loads(draft.text)["data"]


def own_palettes(root):
    """Save each mask with a palette whose order is its own, as programs that make one do."""
    for i, file in enumerate(sorted((root / "masks").iterdir())):
        pixels = np.array(Image.open(file))
        colors = np.roll(np.array([SKY, ROAD, VOID]), i, axis=0)
        numbers = (pixels[..., None, :] == colors).all(axis=-1).argmax(axis=-1)
        image = Image.fromarray(numbers.astype(np.uint8))
        image.putpalette(colors.ravel().tolist())
        image.save(file)


@pytest.mark.parametrize("palettes", [False, True])
def test_colors_without_names_are_called_by_their_numbers(tmp_path, palettes):
    root = write_painted(tmp_path / "data", lambda i: painted(i, (SKY, SKY, ROAD, VOID)))
    if palettes:
        own_palettes(root)
    draft, data = drafted(root)
    assert data["classes"] == ["color_000000", "color_808080", "color_804080"]
    assert data["colors"] == [[0, 0, 0], [128, 128, 128], [128, 64, 128]]
    assert "ignored_colors" not in data
    assert draft.choices["data.classes"].why == "those of the colors: rename them"
    assert draft.remarks == ("3 class(es) are called by their colors: rename them",)
    assert draft.layout.what == "images in images/ with masks in masks/, in colors"
    shares = dict(zip(data["classes"], draft.found.pixels, strict=True))
    assert shares["color_808080"] == pytest.approx(0.5, abs=0.02)


def test_levels_of_gray_that_number_nothing_are_colors(tmp_path):
    _, data = drafted(write_masks(tmp_path / "data", (0, 90, 200), count=3))
    assert data["colors"] == [[0, 0, 0], [90, 90, 90], [200, 200, 200]]


def test_palettes_that_agree_are_numbers(tmp_path):
    root = write_masks(tmp_path / "data", (0, 1, 2), count=4)
    for file in (root / "masks").iterdir():
        with Image.open(file) as image:
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            image.save(file)
    _, data = drafted(root)
    assert "colors" not in data and data["classes"] == ["background", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_colors.txt", CAMVID),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nSky:128,128,128::\nRoad:128,64,128::\n"
            "Animal:64,128,64::\nVoid:0,0,0::\n",
        ),
        (
            "masks/class_dict.csv",
            "name,r,g,b\nSky,128,128,128\nRoad,128,64,128\nAnimal,64,128,64\nVoid,0,0,0\n",
        ),
    ],
)
def test_names_of_colors_come_from_a_file(tmp_path, name, text):
    draft, data = drafted(write_painted(tmp_path / "data", texts={name: text}))
    file = Path(name).name
    assert (data["classes"], data["colors"]) == (["Sky", "Road"], [list(SKY), list(ROAD)])
    assert data["ignored_colors"] == [list(VOID)]
    why = draft.choices["data.ignored_colors"].why
    assert why == f"of no class: called Void in {file}"
    assert f"in {file}, but in no mask: Animal" in draft.remarks


def test_colors_that_a_file_lacks_are_said(tmp_path):
    root = write_painted(tmp_path / "data", texts={"label_colors.txt": "128 128 128 Sky\n"})
    draft, data = drafted(root)
    assert data["classes"] == ["Sky", "color_804080", "color_000000"]
    assert draft.choices["data.classes"].why.endswith(
        "it lacks those called color_...: rename them"
    )


def bordered(i):
    """Two regions of VOC's colors on black, each with a line of its own around."""
    image = Image.new("RGB", (64, 56))
    pen = ImageDraw.Draw(image)
    pen.rectangle((8 + i, 8, 30, 40), fill=(128, 0, 0), outline=(224, 224, 192), width=3)
    pen.ellipse((34, 8, 60, 40 + i), fill=(0, 128, 0), outline=(224, 224, 192), width=3)
    return np.array(image)


def white_bordered(i):
    mask = bordered(i)
    mask[(mask == (224, 224, 192)).all(axis=-1)] = 255
    mask[(mask == (0, 128, 0)).all(axis=-1)] = (10, 20, 30)
    return mask


def test_borders_are_of_no_class(tmp_path):
    names = {"classes.txt": "background\naeroplane\nbicycle\n"}
    draft, data = drafted(write_painted(tmp_path / "voc", bordered, texts=names))
    assert data["classes"] == ["background", "aeroplane", "bicycle"]  # by VOC's palette
    assert data["ignored_colors"] == [[224, 224, 192]]
    draft, data = drafted(write_painted(tmp_path / "white", white_bordered, texts=names))
    assert data["ignored_colors"] == [[255, 255, 255]]
    why = draft.choices["data.ignored_colors"].why
    assert why.endswith("[255, 255, 255] is everywhere a thin line between two others")
    said = "classes.txt has names without colors, so it does not say which is of which"
    assert said in draft.remarks


def test_white_regions_are_a_class(tmp_path):
    colors = ((0, 0, 0), (255, 255, 255), ROAD)
    _, data = drafted(write_painted(tmp_path / "data", lambda i: painted(i, colors, (48, 40))))
    assert [255, 255, 255] in data["colors"] and "ignored_colors" not in data


def test_the_palette_of_pascal_voc():
    colors = _voc_colors()
    assert colors[:4] == [0x000000, 0x800000, 0x008000, 0x808000]
    assert (colors[20], colors[255], len(set(colors))) == (0x004080, 0xE0E0C0, 256)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ({"classes.txt": "sky\nroad\nsea\n"}, ["sky", "road", "sea"]),
        ({"classes.txt": "road\nsea\n"}, ["background", "road", "sea"]),
        (
            {"_classes.csv": "Pixel Value, Class\n0, none\n2, sea\n1, road\n"},
            ["none", "road", "sea"],
        ),
    ],
)
def test_names_of_numbers_come_from_a_file(tmp_path, text, classes):
    root = write_masks(tmp_path / "data", (0, 1, 2), count=4)
    for name, its in text.items():
        (root / name).write_text(its)
    draft, data = drafted(root)
    assert (data["classes"], draft.remarks) == (classes, ())


def test_more_names_than_numbers_are_to_be_checked(tmp_path):
    root = write_masks(tmp_path / "data", (0, 1, 2), count=4)
    (root / "classes.txt").write_text("cat\ndog\nbird\nhorse\n")
    draft, data = drafted(root)
    assert data["classes"] == ["cat", "dog", "bird", "horse"]
    assert draft.remarks == ("classes.txt names 4, and no background: check that 0 is cat",)
    (root / "classes.txt").write_text("Background\ncat\n")
    assert drafted(root)[1]["classes"] == ["background", "class 1", "class 2"]


@pytest.mark.parametrize(
    "text",
    ["", "a\na\n", "3, a\n5, b\n", "1 2 300 a\n2 9 4 b\n", "1 2 3 a\nb\n4 5 6 c\nd\n1 2 3 e"],
)
def test_a_file_of_names_that_is_none_is_said(tmp_path, text):
    (tmp_path / "label_colors.txt").write_text(text)
    named, problem = names_beside(tmp_path, "masks")
    if text.startswith("1 2 3 "):  # lines of any text are names
        assert named is not None and named.colors == ()
    else:
        assert (named, problem) == (
            None,
            "label_colors.txt is not understood: write the names of the classes",
        )


# --------------------------------------------------------------------------------- what is refused


def smoothed(i):
    mask = painted(i, size=(64, 80))
    return np.array(Image.fromarray(mask).rotate(5 + i, Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("paint", "how", "message"),
    [
        (painted, {"ending": ".jpg"}, "saved as JPEG, which need not keep the number of each pixel"),
        (smoothed, {}, "their edges are smoothed (anti-aliased), or they were saved as JPEG or"),
        (smoothed, {"mode": "L"}, "their edges are smoothed (anti-aliased), or they were saved as"),
        (lambda i: painted(0, (SKY,)), {}, "the masks have one color alone"),
    ],
)  # fmt: skip
def test_masks_that_are_none_are_refused_in_a_line(tmp_path, paint, how, message):
    root = write_painted(tmp_path / "data", paint, **how)
    with pytest.raises(DataError) as refused:
        drafted(root)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert "masks" in str(refused.value)


def test_class_folders_of_any_name_are_no_masks(tmp_path):
    """Photographs of the same names, of which one folder is called as masks are."""
    for name in ("other", "target"):
        for i in range(3):
            save(tmp_path / "data" / name / f"{i}.png", (32, 40))
    assert find_mask_folders(tmp_path / "data") is None
    write_classes(tmp_path / "small", counts=(3, 3), names=("a", "b"))
    assert find_mask_folders(tmp_path / "small") is None
