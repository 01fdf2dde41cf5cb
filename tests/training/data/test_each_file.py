"""All files that cannot be used are named at once, whatever source they are of."""

import numpy as np
import pytest
from PIL import Image

from convax.training.data import DataError, load_folder, load_masks
from convax.training.data.each_file import read_each


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
