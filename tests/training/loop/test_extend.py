"""A finished run that is trained for longer, as a new one: as if it had been longer all along."""

import json
import shutil

import numpy as np
import pytest

from convax.training.config.schema import load_config
from convax.training.loop.extend import extend
from convax.training.loop.loop import resume, train
from convax.training.run import checkpoint
from convax.training.run.directory import Run, RunError
from tests.tiny import write_tiny

STEADY = ["schedule={name='constant'}", "checkpoints.keep_last=9"]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """20 steps at a constant learning rate; the config lies beside it."""
    folder = tmp_path_factory.mktemp("extend")
    config = load_config(write_tiny(folder), [*STEADY, "training.steps=20"])
    return train(config, folder / "short")


def learned(run):
    """Every array of its last checkpoint, and what it logged, without what a clock said."""
    name = checkpoint.pointed(run.checkpoints, "last")
    files = sorted((run.checkpoints / name).glob("*.safetensors"))
    logged = [{**record, "images_per_second": 0} for record in run.metrics()]
    return name, [file.read_bytes() for file in files], logged


def test_it_ends_as_a_run_that_was_longer_all_along(short, tmp_path):
    before = {file: file.read_bytes() for file in short.path.rglob("*") if file.is_file()}
    longer = extend(short.path, tmp_path / "longer", ["training.steps=40"])
    config = load_config(short.path.parent / "tiny.toml", [*STEADY, "training.steps=40"])
    whole = train(config, tmp_path / "whole")
    assert learned(longer) == learned(whole) and longer.info()["status"] == "finished"
    about = longer.info()["extends"]
    assert about["run"] == str(short.path) and about["step"] == 20 and len(about["sha256"]) == 64
    assert before == {file: file.read_bytes() for file in short.path.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match="this run is finished; nothing to resume"):
        resume(longer.path)


def test_the_command_says_with_what_learning_rate(short, tmp_path, command):
    halved = "schedule={name='cosine',warmup=0,end=0.0}"
    arguments = ["--extend", short.path, "--set", "training.steps=40", "--set", halved]
    code, out, err = command("train", *arguments, "--out", tmp_path / "longer", "--json")
    assert code == 0 and json.loads(out)["result"]["step"] == 40
    said = f"extends {short.path}, from step 20 with a learning rate of 0.005; it ended with 0.01"
    assert said in err
    code, _, err = command("train", "lenet5-mnist", "--extend", short.path)
    assert code == 2 and "--extend takes the config of RUN: leave out CONFIG" in err
    code, _, err = command("train", "--resume", short.path, "--extend", short.path)
    assert code == 2 and "leave out CONFIG, --out, --seeds, --folds, --batching, --tensor" in err


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.steps=20", "has taken 20 steps, and is to take 20 in all; ask for more"),
        ("training.batch_size=8", r"--extend: training.batch_size: 16 -> 8: the steps taken"),
        ("model.hidden=[3]", r"--extend: model.hidden: .* leave it out: what may be other is"),
        ("data.validation=10", r"--extend: data.validation: 20 -> 10"),
    ],
)
def test_what_would_be_another_run_is_refused(short, tmp_path, override, problem):
    with pytest.raises(RunError, match=problem):
        extend(short.path, tmp_path / "longer", ["training.steps=40", override])
    assert not (tmp_path / "longer").exists()


def test_a_run_that_cannot_be_extended_says_why(short, tmp_path):
    run = Run(shutil.copytree(short.path, tmp_path / "copy"))
    longer = (tmp_path / "longer", ["training.steps=40"])
    with pytest.raises(RunError, match="exists already"):
        extend(run.path, run.path, ["training.steps=40"])
    result = run.info()["result"]
    run.update_info(result=result | {"stopped_early": "target accuracy 0.9 reached"})
    with pytest.raises(
        RunError, match=r"stopped early \(target accuracy 0.9 reached\), as a longer"
    ):
        extend(run.path, *longer)
    run.update_info(status="running", result=result)
    with pytest.raises(RunError, match=r"not finished, .*continue it with: convax train --resume"):
        extend(run.path, *longer)
    run.update_info(status="finished")
    manifest = run.checkpoints / checkpoint.pointed(run.checkpoints, "last") / "manifest.json"
    values = json.loads(manifest.read_text())
    values["memory"]["finalized_from"] = 20
    values["checksum"] = checkpoint.checksum(values)
    manifest.write_text(json.dumps(values))
    with pytest.raises(RunError, match="ends with what is fitted once"):
        extend(run.path, *longer)


def changed(short, folder):
    """A copy of the run that was made by other code, and was forced before."""
    run = Run(shutil.copytree(short.path, folder / "copy"))
    run.update_info(
        provenance=run.info()["provenance"] | {"code": "other"},
        forced=[{"step": 7, "changes": ["device"]}],
    )
    return run


def test_what_has_changed_is_refused_as_on_resume_or_noted(short, tmp_path, command):
    run, out = changed(short, tmp_path), tmp_path / "longer"
    arguments = ["train", "--extend", run.path, "--out", out, "--set", "training.steps=21"]
    code, _, err = command(*arguments)
    assert code == 2 and f"{run.path}: changed since this run began:\n  convax: " in err
    words = " ".join(map(str, arguments))
    assert f"or continue to a different result with: convax {words} --force\n" in err
    assert not out.exists()
    assert command(*arguments, "--force")[0] == 0
    before, now = Run(out).info()["forced"]
    assert before == {"step": 7, "changes": ["device"]}
    assert now["step"] == 20 and now["changes"][0].startswith('convax: "other" -> ')


def test_a_config_changed_by_hand_is_a_change_and_comes_back_once_it_is_gone(short, tmp_path):
    run = Run(shutil.copytree(short.path, tmp_path / "copy"))
    config = run.config()
    run.write_config(config.model_copy(update={"seed": 4}))
    with pytest.raises(
        RunError, match=r"(?s)\n  config.toml.seed: 3 -> 4\n.*restore it \(without config"
    ):
        extend(run.path, tmp_path / "longer", ["training.steps=40"])
    (run.path / "config.toml").unlink()
    with pytest.raises(RunError, match="has taken 20 steps"):
        extend(run.path, tmp_path / "longer")
    assert run.config() == config


def test_other_data_are_a_change(short, tmp_path):
    with np.load(short.path.parent / "tiny.npz") as held:
        np.savez(tmp_path / "other.npz", **{**held, "x_train": 255 - held["x_train"]})
    overrides = ["training.steps=40", f"data.path={tmp_path}/other.npz"]
    with pytest.raises(RunError, match=r"changed since this run began:\n  data: "):
        extend(short.path, tmp_path / "longer", overrides)


def test_a_path_of_data_is_written_absolute(short, tmp_path, monkeypatch):
    monkeypatch.chdir(short.path.parent)
    path = ["training.steps=21", "data.path=tiny.npz"]
    longer = extend(short.path, tmp_path / "longer", path)
    assert longer.config().data.path == str(short.path.parent / "tiny.npz")


def test_nothing_is_left_where_the_parent_is_damaged(short, tmp_path):
    run = Run(shutil.copytree(short.path, tmp_path / "copy"))
    best = run.checkpoints / checkpoint.pointed(run.checkpoints, "best")
    (best / "params.safetensors").write_bytes(b"damaged")
    with pytest.raises(checkpoint.CheckpointError):
        extend(run.path, tmp_path / "longer", ["training.steps=40"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["copy"]
