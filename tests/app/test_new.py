"""`convax new`: what it prints, what it writes, and what it refuses."""

import json
import os

import pytest

from convax.training.config.schema import load_config
from convax.training.pretrained import check_fits
from tests.training.scaffold.folders import write_classes


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_classes(tmp_path / "my photos", counts=(6, 2))


def test_new_says_what_it_found_and_chose(command, photos):
    (photos / "cat" / "0.png").write_bytes(b"no image")
    (photos / "cat" / "notes.txt").write_text("about")
    code, out, err = command("new", "my photos")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    kinds = {line[:7].strip() for line in lines}
    assert kinds == {"found", "", "note", "chose", "wrote", "next"}
    for line in (
        "found   images in class folders",
        "found   classes: 2: cat 6, dog 2",
        "found   unreadable files, left out: 1",
        'chose   data.unreadable = "skip": unreadable files: 1',
        "        cat/0.png: not an image, or damaged; need one of PNG, JPEG",
        "note    1 file passed over: 1 .txt",
        'chose   task = "classification": images in class folders',
        'chose   model.name = "resnet_cifar": for small images',
        "wrote   my photos.toml",
        "next    convax train 'my photos.toml'",
    ):
        assert any(said.startswith(line) for said in lines), line
    assert load_config("my photos.toml").data.path == "my photos"


def test_new_as_json(command, photos):
    record = json.loads(command("new", photos, "--out", "a.toml", "--json")[1])
    assert (record["path"], record["task"], record["classes"]) == (
        "a.toml",
        "classification",
        ["cat", "dog"],
    )
    assert record["counts"] == {"train": 8, "validation": 0, "test": 0}
    assert (record["unreadable"], record["notes"]) == ([], [])
    assert record["chosen"]["training.batch_size"]["value"] == 8
    assert load_config("a.toml").data.path == str(photos)  # absolute, as it was given


def test_new_begins_with_published_weights(command, photos):
    code, out, _ = command("new", "my photos", "--pretrained", "resnet18")
    assert code == 0
    for line in (
        'chose   init_from.pretrained = "resnet18": ImageNet\'s, top-1 69.758 %; a head of its own',
        'chose   input.normalize = "imagenet": as the weights were trained with',
        'chose   model.name = "resnet": resnet18 is of this network',
    ):
        assert line in out.splitlines()
    config = load_config("my photos.toml")
    check_fits("resnet18", config.model.model_dump())
    assert config.data.channels == 3 and list(config.input.size) == [96, 96]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["my photos", "--pretrained", "resnet"],
            "--pretrained: got 'resnet', need one of alexnet",
        ),
        (["no"], "error: no: no such folder; need a folder of images, or a .csv file"),
        (["my photos", "--task", "painting"], "--task: got 'painting', need one of"),
        (["my photos", "--out", "there.toml"], "there.toml: already there; write another --out"),
        (["no", "--out", "there.toml"], "there.toml: already there"),  # before data are read
        (["my photos", "--out", "a.txt"], "--out: got 'a.txt', need a name that ends with .toml"),
        (["my photos", "--out", "no/a.toml"], "--out: got no/a.toml, but there is no folder no"),
        (
            ["my photos", "--out", "my photos/a.toml"],
            "would lie in the data, and so would its runs",
        ),
        (["."], "would lie in the data"),
    ],
)
def test_new_refuses_in_a_line(command, photos, arguments, message):
    (photos.parent / "there.toml").write_text("seed = 0")
    before = sorted(os.walk(photos.parent))
    code, out, err = command("new", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert sorted(os.walk(photos.parent)) == before
