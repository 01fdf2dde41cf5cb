"""Test which files readers other than that of class folders take, and names in any form."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convax.inference.image_inputs import iter_files
from convax.training.data import DataError, Notes, load, load_masks, load_table

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 2).save(path)
    return root


def masked(root, **changes):
    options = {"images": "images", "masks": "masks", "classes": ["a", "b"], "size": (3, 4)}
    return load_masks(root, **(options | {"mask_kind": "classes"} | changes))


@pytest.mark.parametrize("packed", [False, True])
def test_masks_are_found_in_folders_below(tmp_path, packed):
    root = put(tmp_path / "data", "images/x.png", "images/s/x.png", "images/s/t/y.png")
    put(root, "masks/x.png", "masks/s/x_mask.png", "masks/s/t/y.png", "masks/s/z.png", "u/x.png")
    (root / "images/about.txt").touch()
    (root / "images/gone.png").symlink_to("nowhere")
    place = root
    if packed:
        shutil.make_archive(str(root), "tar", root)
        place = tmp_path / "data.tar"
    dataset = masked(place)
    assert dataset.train.count == 3
    link = "1 link in the archive" if packed else "1 link to nothing"
    (line,) = dataset.notes
    assert line.startswith("3 files passed over: ")
    assert all(reason in line for reason in (link, "1 .txt", "1 mask without an image"))
    shutil.rmtree(root / "masks/s/t")
    with pytest.raises(
        DataError, match=r"y\.png: no mask for this image: need s/t/y\.png, s/t/y_mask"
    ):
        masked(root)


def test_a_folder_of_masks_within_that_of_images(tmp_path):
    put(tmp_path, "x.png", "s/y.png", "masks/x.png", "masks/s/y.png")
    assert masked(tmp_path, images=".").train.count == 2


def test_names_are_equal_whichever_way_accents_are_encoded(tmp_path):
    root = put(tmp_path / COMPOSED, f"images/{COMPOSED}.png", f"masks/{DECOMPOSED}_mask.png")
    assert masked(root).train.count == 1
    found = load(
        "masks",
        path=DECOMPOSED,
        classes=["a", "b"],
        size=(3, 4),
        seed=0,
        config_dir=tmp_path,
    )
    assert found.train.count == 1
    table = root / "table.csv"
    lines = ["file,age", rf"images\{DECOMPOSED}.png,1", f"images/{COMPOSED}.png,2"]
    table.write_text("\n".join(lines), encoding="utf-8")
    assert load_table(table, columns=["age"]).train.count == 2
    put(root, f"images/{unicodedata.normalize('NFD', 'ü')}.png")
    table.write_text(f"file,{DECOMPOSED}\nimages/ü.png,1", encoding="utf-8")
    assert load_table(table, columns=[COMPOSED]).train.count == 1


@pytest.mark.parametrize("packed", [False, True])
def test_the_folders_of_images_and_masks_are_found_in_either_encoding(tmp_path, packed):
    place = put(tmp_path / "data", f"{DECOMPOSED}/x.png", "masks/x.png")
    if packed:
        place = shutil.make_archive(str(place), "zip", place)
    assert masked(Path(place), images=COMPOSED).train.count == 1


def test_images_for_inference_are_found_likewise(tmp_path):
    put(tmp_path, "b/2.png", "1.jpg", "b/@eaDir/2.png", ".x/3.png")
    (tmp_path / "b/c.csv").touch()
    (tmp_path / "a").symlink_to(tmp_path / "b", target_is_directory=True)
    notes = Notes()
    found = [file.relative_to(tmp_path).as_posix() for file in iter_files([tmp_path], notes)]
    assert found == ["1.jpg", "b/2.png"]
    assert notes.lines() == (
        "4 files passed over: 2 hidden, or a system's, 1 link to a folder, 1 .csv",
    )
