"""Names in any script in figures: fallback fonts, and a hint where there is none."""

import logging

import numpy as np
import pytest

from convax.training.plots import figures, fonts

CAT = "\u732b"


@pytest.fixture(autouse=True)
def _as_new(monkeypatch):
    monkeypatch.setattr(fonts, "_told", set())
    fonts.families.cache_clear()
    yield
    fonts.families.cache_clear()


def test_fonts_that_are_not_installed_are_not_asked_for(monkeypatch, caplog):
    monkeypatch.setattr(fonts, "FALLBACKS", ("No Such Font", "STIXGeneral"))
    assert fonts.families() == ["DejaVu Sans", "STIXGeneral"]
    with figures.style(), caplog.at_level(logging.WARNING):
        figure = figures.titled_figure(2, 1, "\U0001d49c", "")
        figure.canvas.draw()
    assert not caplog.records


def test_the_first_font_that_has_a_character_draws_it(monkeypatch):
    only_in_stix = "\u20dd"
    monkeypatch.setattr(fonts, "FALLBACKS", ())
    assert fonts.lacking(["caf\u00e9 \u0416", f"a{CAT}{only_in_stix}\n"]) == f"{only_in_stix}{CAT}"
    fonts.families.cache_clear()
    monkeypatch.setattr(fonts, "FALLBACKS", ("STIXGeneral",))
    assert fonts.lacking([f"a{CAT}{only_in_stix}"]) == CAT


def test_characters_without_a_font_are_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fonts, "FALLBACKS", ())
    for _ in range(2):
        with figures.style():
            figure = figures.mistakes(
                np.zeros((1, 4, 4, 1), np.uint8), [CAT], title="t", subtitle="s"
            )
            assert figures.write(figure, tmp_path / "x.png").is_file()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"figures: boxes in place of {CAT}, which no font here has"
    )
    assert "apt install fonts-noto-cjk), remove " in record.getMessage()


def test_the_hint_names_a_package_for_each_script():
    said = fonts.hint("\u0e04\ud55c\U0001f436")
    assert "apt install fonts-noto-cjk fonts-noto-core fonts-symbola)" in said


def test_names_that_are_no_text_can_be_drawn(tmp_path):
    bad = "caf\udce9"
    assert figures.shortened(bad, 20) == r"caf\xe9"
    with figures.style():
        figure = figures.titled_figure(2, 1, bad, bad)
        assert figures.write(figure, tmp_path / "x.png").is_file()
