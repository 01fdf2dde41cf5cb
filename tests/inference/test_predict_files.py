"""`convax predict`: files, folders and standard input; as lines, JSON, CSV and a page."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import convax
from convax.cli.predict_output import with_progress, write_results
from convax.inference.predict_files import PredictionResult
from convax.training import data
from convax.training.data import DataError, upright_size
from convax.training.tasks.task import Saying

ODD = "<img src=x onerror=alert(1)>"


def third(k, size=(60, 60)):
    """A picture of class k of the tiny experiment."""
    picture = np.full(size, 20, np.uint8)
    width = size[1] // 3
    picture[:, k * width : (k + 1) * width] = 200
    return Image.fromarray(picture)


@pytest.fixture
def folder(tmp_path):
    """Pictures two folders deep, one of them damaged."""
    (tmp_path / "in" / "b").mkdir(parents=True)
    third(2).save(tmp_path / "in" / "b" / "two.png")
    third(1, (6, 6)).convert("RGB").save(tmp_path / "in" / f"{ODD}.png")
    third(0).save(tmp_path / "in" / "zero.jpg")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "in"


def test_every_form_says_the_same(whole, folder, command):
    files = [str(folder / name) for name in (f"{ODD}.png", "zero.jpg", "b/two.png")]
    code, out, err = command("predict", whole.path, folder, "--json", "--batch", "2")
    assert code == 2
    assert (
        err == "note: 1 file passed over: 1 .txt\n"
        f"error: {folder / 'broken.png'}: cannot be read as an image: not an image, or "
        "damaged; need one of PNG, JPEG, BMP, WEBP, GIF, TIFF, AVIF\n"
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert [r["file"] for r in records] == files
    assert [r["class"] for r in records] == ["1", "0", "2"]
    predictor = convax.load(whole.path)
    expected = predictor([folder / name for name in files])
    for record, row in zip(records, expected, strict=True):
        for k, entry in enumerate(record["top"]):
            assert entry["probability"] == pytest.approx(float(np.sort(row)[::-1][k]), rel=1e-5)

    page = folder.parent / "page.html"
    code, out, _ = command("predict", whole.path, folder, "--format", "csv", "--html", page)
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 2
    assert list(rows[0]) == [
        "file",
        "class",
        "probability",
        *(f"{c}_{i}" for i in (2, 3) for c in ("class", "probability")),
    ]
    for row, record in zip(rows, records, strict=True):
        assert (row["file"], row["class"]) == (record["file"], record["class"])
        assert float(row["probability_3"]) == pytest.approx(
            record["top"][2]["probability"], rel=1e-5
        )

    code, out, _ = command("predict", whole.path, *files, "--top", "1")
    assert code == 0
    assert out.splitlines() == [
        f"{r['file']}: {r['class']} {r['probability']:.1%}" for r in records
    ]

    text = page.read_text()
    assert ODD not in text and "&lt;img src=x onerror" in text  # names are text
    assert text.count("<figure>") == text.count("data:image/") == 3
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|<script|<link", text)
    assert 'name="viewport"' in text and "default-src 'none'" in text
    assert "broken.png: cannot be read" in text and "1: 1, 0: 1, 2: 1" in text
    assert f"{records[0]['probability']:.1%}" in text
    assert [p.name for p in folder.parent.iterdir() if "page" in p.name] == ["page.html"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_size_of_a_picture_that_lies_on_its_side(form):
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("L", (60, 90)).save(content, format=form, exif=exif)
    assert upright_size(content.getvalue()) == (60, 90)
    assert data.read_image(content.getvalue(), size=None, channels=1).shape == (60, 90, 1)


def test_standard_input_and_orientation(whole, folder, command, monkeypatch):
    """A picture that lies on its side is turned upright, wherever it comes from."""
    upright, exif = third(2, (60, 90)), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    content = io.BytesIO()
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    lying.save(content, format="PNG", exif=exif)
    upright.save(folder / "upright.png")
    assert Image.open(content).size == (60, 90) and upright_size(content.getvalue()) == (60, 90)
    assert upright_size(folder / "upright.png") == (60, 90)

    def given(data):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    given(content.getvalue())
    code, out, err = command("predict", whole.path, "-", folder / "upright.png", "-", "--json")
    first, second = map(json.loads, out.splitlines())
    assert (code, err, first["file"]) == (0, "", "-")
    assert first["top"] == second["top"] and first["class"] == "2"
    page = folder.parent / "page.html"
    assert (
        command("predict", whole.path, folder / "upright.png", "--invert", "--html", page)[0] == 0
    )
    shown = base64.b64decode(re.findall(r"data:image/jpeg;base64,([^\"]*)", page.read_text())[0])
    np.testing.assert_allclose(
        Image.open(io.BytesIO(shown)).convert("L"), 255 - np.asarray(upright), atol=40
    )
    given(b"")
    code, out, err = command("predict", whole.path, "-")
    assert (code, out) == (2, "") and err.startswith("error: standard input: cannot be read as a")
    with pytest.raises(DataError, match="image: cannot be read as an image: not an image"):
        upright_size(b"")


def test_what_cannot_be_done(whole, folder, command, monkeypatch):
    good = folder / "zero.jpg"

    def refused(*arguments):
        code, _, err = command("predict", whole.path, *arguments)
        assert code == 2 and len(err.splitlines()) == 1
        return err

    assert "--format: got 'xml', need one of table, json, csv" in refused(good, "--format", "xml")
    assert "--json: got --format csv too; leave out" in refused(good, "--json", "--format", "csv")
    assert "--threshold: got 0.5, but classification finds no objects" in refused(
        good, "--threshold", "0.5"
    )
    assert "--coco: got r.json, but classification finds no objects, whose" in refused(
        good, "--coco", "r.json"
    )
    assert "--out: got x.csv, but classification writes no masks; leave it out: " in refused(
        good, "--out", "x.csv"
    )
    assert "missing.png: cannot be read as an image: no such" in refused(folder / "missing.png")
    assert "No such file or directory" in refused(good, "--html", folder / "no" / "page.html")
    (folder / "empty").mkdir()
    assert "empty: no images in this folder; their names end" in refused(folder / "empty")

    scandir = os.scandir

    def closed(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    (folder / "broken.png").unlink()
    code, out, err = command("predict", whole.path, folder, good)
    assert (code, err) == (
        2,
        f"error: {folder / 'b'}: Permission denied\nnote: 1 file passed over: 1 .txt\n",
    )
    assert len(out.splitlines()) == 3


def test_names_that_are_no_text(whole, tmp_path, command):
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsdecode(b"\xff\n.png")
    try:
        third(1).save(folder / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    page = tmp_path / "page.html"
    for form in ("table", "json", "csv"):
        code, out, err = command("predict", whole.path, folder, "--format", form, "--html", page)
        assert (code, err) == (0, "") and "\\udcff" in out
    assert "\\udcff" in page.read_text()
    assert json.loads(command("predict", whole.path, folder, "--json")[1])["file"].endswith(name)


def test_progress_where_nothing_else_is_seen(monkeypatch):
    """Standard error is a terminal, standard output is none."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for out, shown in ((io.StringIO(), True), (Terminal(), False)):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert list(with_progress(iter(range(3)), 3)) == [0, 1, 2]
        assert ("images" in sys.stderr.getvalue()) == shown and not out.getvalue()


def test_csv_has_its_heads_where_nothing_is_found(capsys):
    nothing = Saying({}, "", [], [], heads=("file", "class", "score"))
    one = nothing._replace(columns=[{"file": "b", "class": "cat", "score": 0.5}])
    results = [PredictionResult(Path(), each) for each in (nothing, one)]
    for given, rows in ((results[:1], []), (results, ["b,cat,0.5"])):
        assert list(write_results(given, "csv")) == given
        assert capsys.readouterr().out.splitlines() == ["file,class,score", *rows]


def test_a_reader_that_goes_away_is_no_error():
    """As in ``convax predict RUN photos | head -1``: the rest is answered, for the page, say."""
    code = """if True:
        from types import SimpleNamespace as Names
        from convax.cli.predict_output import write_results
        results = [Names(output=Names(text="a", record={}, columns={"file": "a"}, heads=()))] * 3
        assert all(len(list(write_results(results, form))) == 3 for form in ("table", "json", "csv"))
    """
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
