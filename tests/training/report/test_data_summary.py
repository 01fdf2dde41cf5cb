"""What `convax data` finds: counts, copies within and across splits, other labels, blank images."""

import json

import numpy as np
import pytest
from PIL import Image

from convax.training.config.schema import load_config
from convax.training.report.data_summary import Place, summarize_data
from tests.tiny import write_tiny


@pytest.fixture
def config(tmp_path):
    """The tiny experiment on images of which some are there twice."""
    path = write_tiny(tmp_path)
    with np.load(tmp_path / "tiny.npz") as arrays:
        arrays = dict(arrays)
    arrays["x_train"][1] = arrays["x_train"][0]
    arrays["y_train"][:2] = 0
    arrays["x_train"][3] = arrays["x_train"][2]
    arrays["y_train"][2:4] = 1, 2
    arrays["x_test"][0] = arrays["x_train"][0]
    arrays["y_test"][0] = 0
    arrays["x_test"][5] = 7
    np.savez(tmp_path / "tiny.npz", **arrays)
    path.write_text(path.read_text().replace("validation = 20", "validation = 0"))
    return path


def test_copies_are_found_and_told_apart(config):
    found = summarize_data(load_config(config))
    zero, one, two = (found.card.classes[k] for k in range(3))
    same = [Place("train", 0, zero), Place("train", 1, zero), Place("test", 0, zero)]
    other = [Place("train", 2, one), Place("train", 3, two)]
    assert found.copies == [same, other]
    assert found.leaks == [same] and found.contradictions == [other]
    assert [(place.split, place.index) for place in found.blank] == [("test", 5)]
    assert found.per_class is not None
    assert {name: sum(counts) for name, counts in found.per_class.items()} == found.card.counts


def test_the_command_says_it(config, tmp_path, command):
    code, out, err = command("data", config, "--sheet", tmp_path / "sheet.png")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith("npz: ") and lines[0].endswith(" images of 6x6, gray; 3 classes")
    assert lines[1].split() == ["train", "validation", "test"]
    assert lines[2].split()[0] == "images" and lines[3].startswith("'0'")
    assert lines[6] == (
        "same pixels in several splits, 1: train 0 ('0') = train 1 ('0') = test 0 ('0')"
    )
    assert lines[7] == "same pixels under several classes, 1: train 2 ('1') = train 3 ('2')"
    assert lines[8].startswith("same pixels, 2: ") and lines[9].startswith("a single value, 1: ")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 100
    code, out, _ = command("data", config, "--json")
    found = json.loads(out)
    assert code == 0 and len(found["copies"]) == 2 and found["blank"][0]["index"] == 5


def test_what_is_wrong_is_said_in_a_line(config, command):
    code, _, err = command("data", config, "--sheet", "a.jpg")
    assert code == 2 and "--sheet: got 'a.jpg', need a name that ends with .png" in err
    code, _, err = command("data", config, "--set", "data.path=nowhere.npz")
    assert code == 2 and len(err.splitlines()) == 1


def test_clean_data_without_classes_of_an_image(data_dir, command):
    code, out, _ = command("data", "fcn-pennfudan")
    assert code == 0
    assert out.splitlines()[-1] == "no image is there twice, and none is blank"
