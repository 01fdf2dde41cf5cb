"""Keys and values under the names of an earlier version: what to write instead."""

import copy
import tomllib

import pytest
import tomli_w

import convax
from convax.training.config.errors import OldConfigError
from convax.training.config.files import shipped_configs
from convax.training.config.renamed import KEYS, VALUES
from convax.training.config.schema import load_config, validate
from convax.training.run.directory import Run, RunError
from convax.training.run.study_directory import Study

STEP = {"name": "step", "milestones": [0.5], "gamma": 0.1}
# Tables in which the new keys stand, where the default config has others, or none.
TABLES = {
    "augment.policy": {"policy": {"num_ops": 1, "magnitude": 9}},
    "augment": {"translate": 1, "padding_mode": "reflect"},
    "data.mask_kind": {
        **{"source": "masks", "path": "x", "images": "i", "masks": "m", "mask_kind": "classes"},
        **{"classes": ["a", "b"], "size": [8, 8], "channels": 1, "validation": 0, "test": 0},
    },
    "data.num_workers": {
        **{"source": "folder", "path": "x", "channels": 1, "validation": 0},
        **{"size": [8, 8], "stream": True, "num_workers": 1},
    },
    "init_from": {"path": "x", "target": "backbone"},
    "model.layers": {"layers": [{"type": "maxout", "num_pieces": 2}]},
    "model.widen_factor": {"name": "wide_resnet", "depth": 16, "widen_factor": 4},
    "loss": {"name": "cross_entropy_dice", "label_smoothing": 0.0, "dice_weight": 1.0},
    "mesh": {"model": 2},
    "logging": {"tensorboard": True},
    "early_stopping": {"patience": 3},
    "schedule.milestones": STEP,
    "schedule.gamma": STEP,
    "schedule.decay_steps": {
        "name": "exponential", "rate": 0.5, "decay_steps": 0.5, "staircase": False
    },
    "schedule.t_mult": {"name": "cosine_restarts", "cycles": 2, "t_mult": 2.0, "end": 0.0},
    "schedule.pct_final": {
        **{"name": "linear_onecycle", "warmup": 0.2, "pct_final": 0.8},
        **{"div_factor": 25.0, "final_div_factor": 1e4},
    },
    "training.grad_accum_steps": {"batch_size": 64, "steps": 1, "grad_accum_steps": 2},
}  # fmt: skip


def raw() -> dict:
    return tomllib.loads(shipped_configs()["lenet5-digits"])


def with_old_key(old: str, new: str) -> dict:
    """The default config with a table that has a key by its old name."""
    config = raw()
    head, _, _ = new.partition(".")
    known = (new, new.rpartition(".")[0], head)
    found = next((TABLES[name] for name in known if name in TABLES), None)
    if found is not None:
        config[head] = copy.deepcopy(found)
    if head == "loss" or new == "data.mask_kind":
        config["task"] = "segmentation"
        config["data"] = copy.deepcopy(TABLES["data.mask_kind"])
        config["loss"] = copy.deepcopy(TABLES["loss"])
    *path, key = new.split(".")
    table = config
    for name in path:
        table = table[name][0] if name == "layers" else table[name]
    table[old.rpartition(".")[2]] = table.pop(key)
    return config


@pytest.mark.parametrize(("old", "new"), KEYS.items(), ids=KEYS)
def test_an_old_key_gets_one_error_that_names_the_new_one(old, new):
    with pytest.raises(OldConfigError) as caught:
        validate(with_old_key(old, new), "my.toml")
    name = new.rpartition(".")[2]
    line = str(caught.value).splitlines()[0].replace(".layers.0.", ".layers.")
    assert line == f"my.toml: {old}: is called {name}; write {new}"
    assert "missing" not in str(caught.value)


def test_an_old_key_of_a_part_of_a_schedule_is_named_with_its_place():
    config = raw()
    part = {"name": "constant", "until": 0.5}
    last = {"name": "step", "milestones": [0.5], "factor": 0.1}
    config["schedule"] = {"name": "sequence", "parts": [part, last]}
    message = r"^my.toml: schedule.parts.1.factor: is called gamma; write schedule.parts.1.gamma$"
    with pytest.raises(OldConfigError, match=message):
        validate(config, "my.toml")


@pytest.mark.parametrize(
    ("key", "old", "new"), [(*old, new) for old, new in VALUES.items()], ids=str
)
def test_an_old_value_gets_an_error_that_names_the_new_one(key, old, new):
    config = raw()
    table, _, name = key.partition(".")
    config[table][name] = old
    with pytest.raises(OldConfigError) as caught:
        validate(config, "my.toml")
    assert str(caught.value).splitlines()[0] == f"my.toml: {key}: {old!r} is called {new}"


def test_every_new_name_is_one_that_a_config_takes():
    for new in KEYS.values():
        assert validate(with_old_key(new, new), "my.toml")


def test_a_key_that_never_was_is_no_old_one():
    with pytest.raises(convax.training.config.errors.ConfigError) as caught:
        load_config("lenet5-digits", ["stopp.patience=3"])
    assert not isinstance(caught.value, OldConfigError)


def test_an_old_run_says_which_convax_to_resume_it_with(whole, tmp_path):
    old = Run(tmp_path / "old")
    old.path.mkdir()
    config = tomllib.loads((whole.path / "config.toml").read_text())
    config["stop"] = config.pop("early_stopping")
    (old.path / "config.toml").write_text(tomli_w.dumps(config))
    about = '{"versions": {"convax": "0.0.9"}, "git": "abc123"}'
    (old.path / "run.json").write_text(about)
    message = (
        r"config.toml: stop: is called early_stopping; write early_stopping\n.*old: written by an "
        "earlier convax; resume it with that version: convax 0.0.9, git revision abc123"
    )
    with pytest.raises(RunError, match=message):
        convax.resume(old.path)
    study = Study(tmp_path / "old")
    (study.path / "study.toml").write_text(tomli_w.dumps(config))
    (study.path / "study.json").write_text(about)
    with pytest.raises(RunError, match=r"with that version: convax 0\.0\.9, git revision abc123"):
        study.config()
