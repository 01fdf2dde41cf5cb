"""Every command in the docs is run as it stands, or it says here why not."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
# Whose commands are replayed in order, on their own data: test_tutorial, test_boxes_tutorial.
REPLAYED = ("tutorial.md", "detection.md")
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in REPLAYED),
]
# What a command has in it that is not run, and what it needs.
NEEDS = {
    "fetch": "a network connection",
    "resnet18": "a network connection: tests/training/test_pretrained.py",
    "serve": "a port, until it is stopped: tests/inference/serve",
    "doctor": "an installation of its own: tests/app",
    "new": "a folder of images: test_tutorial",
    "calibrate": "images that are not all right: tests/inference/test_ensemble.py",
    "--folds": "five trainings: tests/training/data/test_table_splits.py",
    "--calibrated": "a calibrated run: the same",
    "--resume": "a run that was stopped: tests/training/loop",
    "--extend": "a run of so many epochs: tests/training/loop/test_extend.py",
    "--seeds": "MNIST: tests/training/experiments",
    "--distributed": "several processes: tests/training/distributed",
    "--coordinator": "several processes: tests/training/distributed",
    "mesh.data=all": "several devices: tests/training/distributed",
    "STUDY": "a study: tests/inference",
    "--onnx": "packages that are optional: tests/inference/export",
    "--int8": "packages that are optional: tests/inference/export",
    "--sign": "a key: tests/inference/export",
    "--key": "a key: tests/inference/export",
    "--class": "a class of that name: tests/explain",
    "--layer": "a layer of that name: tests/explain",
    "--detection": "a detector: tests/explain",
    "resnet20-cifar10": "CIFAR-10: tests/configs/test_shipped.py",
    "lenet5-mnist": "MNIST: tests/configs/test_shipped.py",
    "my_photos.toml": "images: test_tutorial",
}
COMMANDS = {
    line.strip(): page.name
    for page in PAGES
    for line in re.findall(r"^    convax (.*)", page.read_text(), re.MULTILINE)
}


def without_comment(line):
    return (
        re.sub(r"\[[^\]]*\]", "", line)
        .partition("  #")[0]
        .replace("RUN...", "RUN runs/my")
        .replace("...", "")
        .strip()
    )


def needed(line):
    """What a command needs that is not there; None if it can be run."""
    words = without_comment(line).split()
    return next((why for word, why in NEEDS.items() if word in words), None)


def test_what_is_said_to_be_missing_is_in_a_command():
    words = {word for line in COMMANDS for word in without_comment(line).split()}
    assert not NEEDS.keys() - words


@pytest.fixture(scope="module")
def folder(whole, tmp_path_factory):
    """Runs and images of the names that the docs have."""
    folder = tmp_path_factory.mktemp("docs")
    for name in (
        "RUN",
        *(f"runs/{n}" for n in ("lenet5-mnist", "first", "second", "third", "pets", "my")),
    ):
        shutil.copytree(whole.path, folder / name)
    (folder / "photos").mkdir()
    for name in ("my.png", "IMAGE", "photos/1.png", "photos/2.png"):
        image = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6))
        image.save(folder / name, format="PNG")
    return folder


RUN = {line: page for line, page in COMMANDS.items() if needed(line) is None}


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN, ids=lambda line: f"{RUN[line]}: {without_comment(line)}")
def test_the_command_runs_as_it_stands(folder, command, monkeypatch, line):
    monkeypatch.chdir(folder)
    words = shlex.split(without_comment(line))
    words = words[: words.index(">")] if ">" in words else words
    words = [
        str(p) for word in words for p in (sorted(Path().glob(word)) if "*" in word else [word])
    ]
    if words[0] == "verify-bundle":
        shutil.rmtree("OUT", ignore_errors=True)
        assert command("export", "RUN", "OUT")[0] == 0
    elif words[0].startswith("export"):
        shutil.rmtree("OUT", ignore_errors=True)
    shorter = ["--set", "training.epochs=0.2"] if words[0] == "train" else []
    code, _, problem = command(*words, *shorter)
    assert code == 0, problem
