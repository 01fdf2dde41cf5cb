"""A figure that cannot be drawn is a warning, and the run is finished all the same."""

import ast
from pathlib import Path

import pytest

import convax
from convax.training.config.schema import load_config
from convax.training.loop import loop
from convax.training.plots import attempt, svg
from convax.training.tasks import classification

warn_of = attempt.warn_of  # before a fixture of all tests replaces it


@pytest.fixture
def warned(monkeypatch, caplog):
    """What is logged of figures that fail, as outside of tests."""
    monkeypatch.setattr(attempt, "warn_of", warn_of)
    return caplog


def broken(*_):
    raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")


def test_one_figure_that_fails_does_not_take_the_others(warned, tmp_path):
    good = tmp_path / "good.png"
    written = attempt.draw_each({"bad.png": broken, "good.png": lambda: good, "no.png": lambda: []})
    assert written == [good]
    (record,) = warned.records
    assert record.getMessage().startswith("figures: bad.png could not be drawn: UnicodeEncodeError")


def test_a_run_is_finished_before_its_figures_are_drawn(warned, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "draw_experiment", broken)
    run = convax.train(load_config(tiny, ["training.steps=2"]), tmp_path / "run")
    assert run.info()["status"] == "finished" and "test" in run.info()["result"]
    assert "could not be drawn" in warned.text


def test_a_chart_that_fails_says_so_in_its_place(warned):
    chart = svg.chart_of("loss", broken, "the loss")
    assert (chart.title, chart.alt) == ("loss", "the loss")
    assert "could not be drawn" in chart.svg and "loss could not be drawn" in warned.text


def test_every_task_draws_its_figures_one_by_one():
    tasks = Path(str(classification.__file__)).parents[1]
    files = sorted(tasks.glob("*/figures.py"))
    assert len(files) >= 6
    for file in files:
        functions = ast.parse(file.read_text()).body
        (draw,) = (f for f in functions if isinstance(f, ast.FunctionDef) and f.name == "draw")
        last = draw.body[-1]
        assert isinstance(last, ast.Return) and ast.unparse(last).startswith("return draw_each(")
