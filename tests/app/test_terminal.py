"""Names from elsewhere do not control a terminal, whichever command prints them."""

import ast
import csv
import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convax.cli import options
from convax.training.common.text import printable
from convax.training.loop.progress import Lines
from tests.tiny import untrained, write_tiny
from tests.training.plots.test_attempt import warn_of

NASTY = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202ecat"


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A run whose classes have escapes in their names, and an image with one in its name."""
    folder = tmp_path_factory.mktemp("nasty")
    config = write_tiny(folder)
    data = dict(np.load(folder / "tiny.npz"))
    np.savez(folder / "tiny.npz", **data, classes=[NASTY, f"{NASTY}2", f"{NASTY}3"])
    run, _ = untrained(config, folder / "run")
    image = folder / "a\x1b[31m.png"
    Image.fromarray(data["x_test"][0]).save(image)
    return run.path, image


def controls(text):
    """The characters of a text that control a terminal, but for line ends."""
    return [c for c in text if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_predict_prints_no_escapes(nasty, command, form):
    code, out, err = command("predict", *nasty, "--format", form)
    assert (code, err) == (0, "")
    assert not controls(out) and "1b" in out
    if form == "json":
        assert json.loads(out)["file"] == str(nasty[1])
    if form == "csv":
        (row,) = csv.DictReader(io.StringIO(out))
        assert "\\x1b[31m" in row["file"]


def test_evaluate_prints_no_escapes(nasty, command):
    code, out, _ = command("evaluate", nasty[0], "--per-class")
    assert code == 0 and not controls(out) and "\\x1b]0;owned" in out


def test_errors_and_progress_print_no_escapes(capsys):
    options.warn(NASTY)
    options.say(NASTY)
    Lines().note(NASTY)
    printed = capsys.readouterr()
    assert not controls(printed.out + printed.err)
    assert printed.out.count("\\x1b]0;owned\\x07") == 2


def test_text_in_any_script_is_printable():
    for text in (
        "caf\u00e9",
        "\u4e2d\u6587",
        "\u0645\u06cc\u200c\u062e",
        "a\tb\nc",
        "\U0001f469\u200d\U0001f680",
    ):
        assert printable(text) == text


def test_commands_print_through_one_function():
    """But for JSON, which writes control characters out itself."""
    folder = Path(options.__file__).parent
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                said = ast.unparse(node.args[0])
                assert said.startswith(("json.dumps(", "printable(")), f"{file.name}: {said}"


def test_warnings_of_figures_print_no_escapes(caplog):
    with caplog.at_level(logging.WARNING):
        warn_of(NASTY, ValueError(NASTY))
    assert not controls(caplog.text.replace("\n", ""))
