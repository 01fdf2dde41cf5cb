"""Configs and sweeps that are too large: a line, at once."""

import time

import pytest

from convax.training.config import limits
from convax.training.config.errors import ConfigError
from convax.training.config.limits import MOST_DEPTH, MOST_PARTS, MOST_POINTS, MOST_VALUES
from convax.training.config.schema import load_config, to_toml
from convax.training.experiments.seeds import parse_seeds
from convax.training.experiments.sweep import points
from tests.tiny import TINY

PLAIN = TINY.format(path="x.npz")
NO_MODEL = PLAIN.partition("[model]")[0] + "[loss]" + PLAIN.partition("[loss]")[2] + "[model]\n"
TOO_LARGE = {
    "layers": (NO_MODEL + '[[model.layers]]\ntype = "relu"\n' * 100_000, "500,000 bytes"),
    "layers in a line": (NO_MODEL + f"layers = [{'{},' * 20_000}]", "10,000 values"),
    "a key of many parts": ("a." * 20_000 + "a = 1\n" + PLAIN, "100 parts"),
    "a quoted key": ('"a, = \\"b".' * 20_000 + "a = 1\n" + PLAIN, "100 parts"),
    "keys of two parts": ("".join(f"a{i}.b = 1\n" for i in range(20_000)), "10,000 values"),
    "a table within a table": ("a." * 50 + "a = 1\n" + PLAIN, "32 tables or lists in one"),
    "lists within lists": (f"a = {'[' * 40}{']' * 40}\n{PLAIN}", "32 tables or lists in one"),
    "a list of numbers": (PLAIN.replace("[16]", f"[{'16,' * 100_000}]"), "10,000 values"),
    "a comment": (PLAIN + "#" + "x" * 10**6, "500,000 bytes"),
}


@pytest.fixture
def at_once():
    """Fail unless the test is over within a second of CPU time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 1


def refused(file, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_config_that_is_too_large_is_a_line_at_once(name, tmp_path, at_once):
    text, what = TOO_LARGE[name]
    file = tmp_path / "c.toml"
    file.write_text(text)
    said = refused(file)
    assert said.startswith(f"{file}: too large for a config: ")
    assert f"more than {what}" in said


def test_keys_of_the_command_line_count_too(tmp_path, at_once):
    file = tmp_path / "c.toml"
    file.write_text(PLAIN)
    many = [f"model.x{i}=1" for i in range(MOST_VALUES)]
    assert "more than 10,000 values; take fewer" in refused(file, many)
    assert "more than 32 tables" in refused(file, ["a." * 20_000 + "a=1"])


def test_an_endless_file_is_read_as_far_as_it_may_be(at_once):
    assert "/dev/zero: too large for a config: more than 500,000 bytes" in refused("/dev/zero")


def test_what_is_not_too_large_is_a_config(tmp_path):
    file = tmp_path / "c.toml"
    rates = ", ".join(["0.5"] * 300)
    file.write_text(f"{NO_MODEL}layers = [{'{type = "relu"},' * 100}]\n# {rates}\r\n")
    assert len(load_config(file).model.layers) == 100
    assert MOST_PARTS > 8 and MOST_DEPTH > 8


def test_what_a_run_keeps_can_be_read_again(tmp_path, monkeypatch):
    """Every default is written out, so that a short file may become one that is too large."""
    file = tmp_path / "c.toml"
    file.write_text(f"{NO_MODEL}layers = [{'{type = "batch_norm"},' * 50}]")
    config = load_config(file)
    kept = tmp_path / "kept.toml"
    kept.write_text(to_toml(config))
    assert kept.read_text().count(".") > 100 and load_config(kept) == config
    monkeypatch.setattr(limits, "MOST_VALUES", 200)
    assert "c.toml, with every default: too large for a config: more than 200" in refused(file)


@pytest.mark.parametrize(
    ("sweep", "count"),
    [
        (
            f'method = "grid"\nkeys.seed = {list(range(1000))}\n'
            f"keys.optimizer.learning_rate = {[i / 1e6 for i in range(1, 1001)]}",
            "1,000,000",
        ),
        (
            'method = "grid"\n' + "".join(f"keys.model.x{i} = [1, 2, 3]\n" for i in range(500)),
            "more than 1,000,000,000",
        ),
        ('method = "random"\ncount = 1001\nseed = 0\nkeys.seed = {choice = [1, 2]}', "1,001"),
    ],
)
def test_a_sweep_of_too_many_points_is_a_line_at_once(sweep, count, tmp_path, at_once):
    file = tmp_path / "c.toml"
    file.write_text(f"{PLAIN}[sweep]\n{sweep}")
    config = load_config(file)
    with pytest.raises(ConfigError, match=f"^sweep: {count} points, need at most 1,000, each"):
        points(config)


def test_a_list_of_too_many_seeds_is_a_line_at_once(at_once):
    text = ",".join(map(str, range(100_000)))
    with pytest.raises(ConfigError, match=f"should be from 1 to {MOST_POINTS}") as caught:
        parse_seeds(text, first=0)
    assert len(str(caught.value)) < 200
