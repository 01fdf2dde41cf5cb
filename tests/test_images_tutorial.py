"""docs/tutorial.md: its data, its commands and what they print, with a smaller network."""

import re
import shlex
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
PYTHON, PRINTED = (
    re.findall(rf"```{kind}\n(.*?)```", TEXT, flags=re.DOTALL) for kind in ("python", "text")
)
COMMANDS = [shlex.split(line, comments=True) for line in re.findall(r"\n    (convax .*)", TEXT)]
SMALLER = """
    model={layers=[{type="conv",features=4,window=3,stride=2},{type="relu"},{type="flatten"},{type="dense",features=3}]}
    data.size=[16,16] input.size=[16,16] augment.translate=1 training.epochs=1
"""

# Data that is not made there, and configs for it.
ABSENT = {"PennFudanPed", "PennFudanPed.toml", "boxes.toml", "photos", "photos.toml"}


def words(line):
    """The words of a line, in any order, and of numbers only that there are some."""
    return sorted(re.sub(r"[\d.,e-]*\d", "0", line).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first-hour")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(PYTHON[0], {})
    return folder


def test_the_commands_run_as_they_stand(folder, command, monkeypatch):
    """In order, and print what is shown there: `new` to the letter, the others with other numbers."""
    monkeypatch.chdir(folder)
    first, *others = PRINTED
    smaller = [word for key in SMALLER.split() for word in ("--set", key)]
    said, done = {}, []
    for _, name, *arguments in COMMANDS:
        if name == "serve" or ABSENT & {*arguments}:  # the service is tested elsewhere
            continue
        code, said[name], problem = command(name, *arguments, *(smaller if name == "train" else ()))
        assert code == 0, problem
        done.append(name)
    assert {"new", "train", "report", "predict", "explain", "export"} <= set(done)
    assert said["new"] == first
    everything = [words(line) for text in said.values() for line in text.splitlines()]
    for line in "".join(others).splitlines():
        assert words(line) in everything, line
    assert Path("runs/my_photos/report.html").exists() and Path("my_bundle/load.py").exists()
