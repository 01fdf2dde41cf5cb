"""The examples run, and show what they say they show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import as_users_compile

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def printed(name, folder, *arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=folder,
        env=as_users_compile() | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, text
    return float(found.group(1))


def test_a_new_layer_learns(tmp_path):
    text = printed("new_layer.py", tmp_path)
    assert number(r"unseen digits: ([\d.]+)%", text) > 80


def test_xavier_stalls_where_he_learns(tmp_path):
    text = printed("initialization.py", tmp_path, "--depth", "16", "--seeds", "2", "--steps", "100")
    assert number(r"Xavier: loss ([\d.]+)", text) > 2.2
    assert number(r"He: loss ([\d.]+)", text) < 1.9
    assert (tmp_path / "initialization.png").stat().st_size > 10_000


def test_fine_tuning_beats_learning_from_scratch(tmp_path):
    text = printed("own_pictures.py", tmp_path)
    tuned, scratch = (
        number(rf"{name}: ([\d.]+)%", text) for name in ("fine-tuned", "from scratch")
    )
    assert tuned > scratch
    assert tuned > 80


def test_classic_kernels_draw_a_photograph(tmp_path):
    text = printed("classic_kernels.py", tmp_path)
    assert number(r"Sobel, across: 3x3, its weights add up to ([\d.]+)", text) == 0
    assert number(r"box blur: 5x5, its weights add up to ([\d.]+)", text) == 1
    assert (tmp_path / "classic_kernels.png").stat().st_size > 100_000
