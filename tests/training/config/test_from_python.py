"""A config as a Python object: where it comes from, what is put into it, and its errors."""

from pathlib import Path

import numpy as np
import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from tests.tiny import TINY


def test_values_of_python_are_put_in_by_dotted_keys():
    made = convax.config(
        "lenet5-digits", **{"training.epochs": 3, "seed": np.int64(4), "input.size": (32, 32)}
    )
    assert made == load_config("lenet5-digits", ["training.epochs=3", "seed=4"])
    steps = convax.config(made, **{"training.epochs": None, "training.steps": 5}).training
    assert (steps.epochs, steps.steps, made.training.epochs) == (None, 5, 3.0)


def test_a_file_a_dict_and_a_config_give_the_same(tiny):
    from_file = convax.config(tiny)
    tables = from_file.model_dump(exclude_none=True)
    assert convax.config(tables) == convax.config(from_file) == from_file == load_config(tiny)
    tables["seed"] = 9
    assert from_file.seed == 3


def test_paths_beside_the_file_are_absolute(tiny):
    Path(tiny).write_text(TINY.format(path="tiny.npz"))
    assert convax.config(tiny).data.path == str(tiny.parent / "tiny.npz")


def test_a_notebook_shows_its_toml():
    shown = convax.config("lenet5-digits")._repr_html_()
    assert shown.startswith("<pre>seed = ") and "name = &quot;lenet5&quot;" in shown


@pytest.mark.parametrize(
    ("source", "changes", "said"),
    [
        ("lenet5-digits", {"training.epoch": 3}, "training.epoch: unknown key; did you mean"),
        ("lenet5-digits", {"training.epochs": "x"}, "training.epochs: should be a valid number"),
        ("lenet5-digits", {"training..x": 1}, r"config: training\.\.x=1: write keys with dots"),
        ("lenet5-digits", {"seed.a": 1}, r"config: seed\.a=1: 'seed' is a value, not a table"),
        ("lenet5-digit", {}, "no such file or shipped config; did you mean 'lenet5-digits'"),
        (3, {}, "config: got int; need the name of a shipped config, a file, a dict"),
        ({"seed": 1}, {}, "config: data: missing; add a table"),
    ],
)
def test_what_is_wrong_is_said_as_of_the_command_line(source, changes, said):
    with pytest.raises(ConfigError, match=said):
        convax.config(source, **changes)
