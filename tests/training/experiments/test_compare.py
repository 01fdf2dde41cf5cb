"""Runs side by side."""

import json

import pytest

from convax.training.config.schema import load_config
from convax.training.experiments.compare import compare, differing_keys, table
from convax.training.experiments.study import train_study
from convax.training.run.directory import RunError

FEW = ["training.steps=6", 'training.evaluate_every="3 steps"']


def test_compare_puts_run_and_study_side_by_side(whole, tiny, tmp_path, command):
    other = load_config(tiny, [*FEW, "model.hidden=[8]", "optimizer.clip_norm=1.0"])
    study = train_study(other, tmp_path / "study", seeds=[0, 1])
    rows = compare([whole.path, study.path])
    assert [row.name for row in rows] == ["run", "seed-0", "seed-1"]
    assert [row.step for row in rows] == [60, 6, 6]
    assert [row.parameters for row in rows] == [65 * 16 + 17 * 3, *[65 * 8 + 9 * 3] * 2]
    assert rows[0].test == whole.info()["result"]["test"]
    assert rows[0].keys["model.hidden"] == [16]
    assert rows[0].keys["optimizer.clip_norm"] is None
    assert rows[1].keys == {
        **rows[2].keys,
        "seed": 0,
    }
    assert "optimizer.learning_rate" not in rows[0].keys

    image = tmp_path / "compared.png"
    code, out, err = command("compare", whole.path, study.path, "--out", image)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[:7] == [
        "run",
        "status",
        "steps",
        "parameters",
        "time",
        "validation",
        "test",
    ]
    assert lines[2].split()[:4] == ["seed-0", "finished", "6", "547"]
    assert lines[-1] == str(image)
    assert image.read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("compare", study.path, "--json", "--out", image)
    assert [row["keys"] for row in json.loads(out)] == [{"seed": 0}, {"seed": 1}]


def test_compare_takes_run_that_has_just_begun(whole, copied, tmp_path):
    for entry in copied.checkpoints.iterdir():
        if entry.is_file():
            entry.unlink()
    (copied.path / "metrics.jsonl").unlink()
    copied.update_info(status="running", result={})
    row = compare([whole.path, copied.path])[1]
    assert (row.status, row.step, row.parameters, row.validation) == ("running", 0, None, None)
    assert row.keys == {}
    assert table([row, row])[1].split() == ["copied", "running", "0", "-", "0.0", "s", "-", "-"]


def test_compare_counts_no_damaged_weights(copied, whole):
    for file in copied.checkpoints.glob("*/params.safetensors"):
        file.write_bytes(b"damaged")
    assert [row.parameters for row in compare([whole.path, copied.path])][1] is None


def test_differing_keys_look_into_tables_and_lists(tiny):
    groups = 'optimizer.groups=[{match=".*/bias", weight_decay=0.0}]'
    configs = [
        load_config(tiny),
        load_config(tiny, [groups, 'loss={name="mse", label_smoothing=0.1}']),
    ]
    assert differing_keys(configs) == [
        {
            "loss.name": "softmax_cross_entropy",
            "loss.label_smoothing": 0.0,
            "optimizer.groups": [],
            "optimizer.groups.0.match": None,
            "optimizer.groups.0.weight_decay": None,
        },
        {
            "loss.name": "mse",
            "loss.label_smoothing": 0.1,
            "optimizer.groups": None,
            "optimizer.groups.0.match": ".*/bias",
            "optimizer.groups.0.weight_decay": 0.0,
        },
    ]


@pytest.mark.parametrize("again", [False, True], ids=["one", "the same twice"])
def test_compare_refuses_one_run(whole, command, again):
    with pytest.raises(RunError, match="got one run; name two or more, or a study"):
        compare([whole.path] * (1 + again))
    code, _, err = command("compare", whole.path / "nothing")
    assert code == 2
    assert "no such run directory" in err
