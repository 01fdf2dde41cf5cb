"""[sweep]: its points, its errors, and what is trained of them."""

import json
import math

import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.experiments import batched_program
from convax.training.experiments.study import resume_study, train_study
from convax.training.experiments.sweep import keys_of, points
from convax.training.experiments.traced_hparams import program_of
from convax.training.loop.signals import InterruptedRun
from tests.training.loop.test_loop import Recorder, final_bytes

FEW = ["training.steps=8", 'training.evaluate_every="4 steps"', "training.log_every=4"]
GRID = """
[sweep]
method = "grid"
[sweep.keys]
optimizer.learning_rate = [0.01, 0.1]
training.batch_size = [8, 16]
"""
DRAWN = """
[sweep]
method = "random"
count = {count}
seed = {seed}
[sweep.keys]
optimizer.learning_rate = {{ log_uniform = [1e-4, 1e-1] }}
optimizer.weight_decay = {{ uniform = [0.25, 0.5] }}
model.activation = {{ choice = ["relu", "tanh"] }}
"""


def swept(tiny, text, *overrides):
    """The tiny config with a sweep."""
    file = tiny.with_name("sweep.toml")
    file.write_text(tiny.read_text() + text)
    return load_config(file, [*FEW, *overrides])


def test_grid_points_are_every_combination(tiny):
    assert points(swept(tiny, GRID)) == {
        "point-0": {"optimizer.learning_rate": 0.01, "training.batch_size": 8},
        "point-1": {"optimizer.learning_rate": 0.01, "training.batch_size": 16},
        "point-2": {"optimizer.learning_rate": 0.1, "training.batch_size": 8},
        "point-3": {"optimizer.learning_rate": 0.1, "training.batch_size": 16},
    }


def test_random_points_follow_distributions(tiny):
    found = list(points(swept(tiny, DRAWN.format(count=400, seed=0))).values())
    rates = [math.log10(p["optimizer.learning_rate"]) for p in found]
    decays = [p["optimizer.weight_decay"] for p in found]
    for values, low, high in ((rates, -4, -1), (decays, 0.25, 0.5)):
        assert low <= min(values)
        assert max(values) < high
        # Uniform: four equal parts with a hundred each, and five standard deviations of that.
        width = (high - low) / 4
        counts = [
            sum(low + i * width <= v < low + (i + 1) * width for v in values) for i in range(4)
        ]
        assert all(abs(count - 100) < 5 * math.sqrt(75) for count in counts)
    assert 150 < sum(p["model.activation"] == "tanh" for p in found) < 250


def test_random_points_depend_on_seed_and_index_alone(tiny):
    few, many, other = (
        points(swept(tiny, DRAWN.format(count=count, seed=seed)))
        for count, seed in ((3, 0), (9, 0), (3, 1))
    )
    assert few.items() <= many.items()
    assert few != other


def test_sweep_keys_may_have_dots_or_be_tables(tiny):
    tables = '[sweep]\nmethod = "grid"\n[sweep.keys]\n"training.batch_size" = [8]\n'
    tables += "[sweep.keys.optimizer]\nlearning_rate = [0.1]\n"
    found = keys_of(swept(tiny, tables).sweep)
    assert found == {"training.batch_size": [8], "optimizer.learning_rate": [0.1]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "optimizer.learnig_rate = [0.1]",
            r"sweep\.keys: optimizer\.learnig_rate: unknown key; did you mean 'learning_rate'\?",
        ),
        (
            "optimiser.eps = [0.1]",
            r"sweep\.keys: optimiser: unknown key; did you mean 'optimizer'\?",
        ),
        (
            "optimizer.learning_rate = 0.1",
            r"sweep\.keys\.optimizer\.learning_rate: should be a list of values such as \[1, 2\]; got 0\.1",
        ),
        (
            "optimizer.learning_rate = [-1.0, 0.1]",
            r"optimizer\.learning_rate: should be greater than 0; got -1\.0",
        ),
        ("seed.x = [1]", r"sweep\.keys\.seed\.x: 'seed' is a value, not a table"),
    ],
)
def test_grid_refuses_wrong_keys_and_values(tiny, keys, message, command):
    text = f'[sweep]\nmethod = "grid"\n[sweep.keys]\n{keys}\n'
    with pytest.raises(ConfigError, match=message):
        points(swept(tiny, text))
    code, _, err = command("train", tiny.with_name("sweep.toml"), "--out", tiny.with_name("out"))
    assert code == 2
    assert err.startswith("error: sweep.keys")
    assert not tiny.with_name("out").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("[0.1, 0.2]", r"should be one of \{ uniform = \[0\.0, 0\.1\] \}, .*; got \[0\.1, 0\.2\]"),
        (
            "{ log_uniform = [0.0, 1.0] }",
            r"log_uniform should be \[low, high\] with 0 < low < high",
        ),
        ("{ uniform = [1.0, 0.0] }", r"uniform should be \[low, high\] with low < high"),
        ("{ uniform = 1.0 }", r"uniform should be a list; got"),
        ("{ choice = [] }", r"choice should be a list; got"),
    ],
)
def test_random_sweep_refuses_wrong_distributions(tiny, how, message):
    text = '[sweep]\nmethod = "random"\ncount = 2\nseed = 0\n[sweep.keys]\n'
    with pytest.raises(ConfigError, match=rf"^sweep\.keys\.optimizer\.learning_rate: {message}"):
        points(swept(tiny, f"{text}optimizer.learning_rate = {how}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[sweep]\nmethod = "gird"\n',
            r"sweep\.method: should be one of \"grid\", \"random\"; got 'gird'; did you mean 'grid'",
        ),
        ('[sweep]\nmethod = "grid"\n', r"sweep\.keys: missing"),
        (
            '[sweep]\nmethod = "random"\ncount = 2\n[sweep.keys]\nseed = {choice=[1]}\n',
            r"sweep\.seed: missing",
        ),
    ],
)
def test_sweep_table_refuses_wrong_method_or_missing_keys(tiny, text, message):
    with pytest.raises(ConfigError, match=message):
        swept(tiny, text)


@pytest.mark.slow
def test_batch_sizes_make_programs_and_study_resumes_in_second(tiny, tmp_path):
    """Two batch sizes: two programs, of two learning rates each; stopped in the second."""
    config = swept(tiny, GRID, "training.steps=12")
    whole = train_study(config, tmp_path / "whole")
    assert len({program_of(whole.run(name).config()) for name in whole.members}) == 2

    class Stops(Recorder):
        def note(self, text):
            super().note(text)
            if text.startswith("program 2 of 2: point-1, point-3"):
                self.interrupt_at = 4

    with pytest.raises(InterruptedRun, match="at step 8 of 12"):
        train_study(config, tmp_path / "study", display=Stops())
    study = resume_study(tmp_path / "study")
    for name, keys in study.members.items():
        run = study.run(name)
        assert final_bytes(run) == final_bytes(whole.run(name))
        assert run.config().training.batch_size == keys["training.batch_size"]
        assert run.config().sweep is None
    results = json.loads((study.path / "results.json").read_text())
    assert results == json.loads((whole.path / "results.json").read_text())
    assert [row["status"] for row in results["members"]] == ["finished"] * 4
    best = max(results["members"], key=lambda row: row["validation"]["accuracy"])
    assert results["best"] in [
        row["name"]
        for row in results["members"]
        if row["validation"]["accuracy"] == best["validation"]["accuracy"]
    ]
    head, *lines = (study.path / "results.csv").read_text().splitlines()
    assert head.startswith("name,optimizer.learning_rate,training.batch_size,status,step,")
    assert lines[3].startswith("point-3,0.1,16,finished,12,")
    for key in ("optimizer.learning_rate", "training.batch_size"):
        assert (study.path / "plots" / f"{key}.png").read_bytes().startswith(b"\x89PNG")


def test_train_command_runs_sweep(tiny, tmp_path, command):
    swept(tiny, GRID)
    out = tmp_path / "out"
    few = [word for override in FEW for word in ("--set", override)]
    code, said, err = command("train", tmp_path / "sweep.toml", "--out", out, *few)
    assert (code, err) == (0, "")
    assert "point-2  0.1" in said
    assert "best by validation:  point-" in said
    assert f"study: {out}" in said
    code, _, err = command("train", "--resume", out)
    assert code == 2
    assert "this study is finished" in err


def test_train_command_runs_seeds(tiny, tmp_path, command):
    few = [word for override in FEW for word in ("--set", override)]
    code, said, err = command(
        "train", tiny, "--out", tmp_path / "out", "--seeds", "2", "--batching", "vmap", *few
    )
    assert (code, err) == (0, "")
    assert "2 networks in one program (vmap)" in said
    assert sorted(p.name for p in (tmp_path / "out").glob("seed-*")) == ["seed-3", "seed-4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "x"], "--seeds x: write how many, --seeds 8, or which, --seeds 0,1,5"),
        (["--seeds", "0"], "--seeds 0: should be from 1 to 1000"),
        (["--seeds", "1,2,1"], "--seeds 1,2,1: 1 is there twice"),
        (["--seeds", "1,4294967296"], "seeds should be below 2**32"),
        (["--batching", "map"], "--batching: is for several networks"),
        (
            ["--seeds", "2", "--batching", "pmap"],
            "--batching: got 'pmap', need one of auto, map, vmap",
        ),
    ],
)
def test_train_command_refuses_wrong_seeds_and_batching(
    tiny, tmp_path, command, arguments, message
):
    code, _, err = command("train", tiny, "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_train_study_refuses_seeds_beside_sweep(tiny, tmp_path):
    config = swept(tiny, GRID)
    with pytest.raises(ConfigError, match=r"name the seeds in the sweep, e\.g\. keys\.seed"):
        train_study(config, tmp_path / "out", seeds=[0, 1])
    with pytest.raises(ConfigError, match=r"sweep: this config makes several runs"):
        convax.train(config, tmp_path / "out")
    with pytest.raises(ConfigError, match="a study needs seeds or a"):
        train_study(load_config(tiny), tmp_path / "out")


def test_members_of_one_seed_share_images(tiny, tmp_path, monkeypatch):
    made = []
    make = batched_program.make_batched_steps

    def remember(experiment, batching, shared):
        made.append(shared)
        return make(experiment, batching, shared)

    monkeypatch.setattr(batched_program, "make_batched_steps", remember)
    one = '[sweep]\nmethod = "grid"\n[sweep.keys]\noptimizer.learning_rate = [0.01, 0.1]\n'
    train_study(swept(tiny, one), tmp_path / "one")
    train_study(swept(tiny, f"{one}seed = [0, 1]\n"), tmp_path / "seeds")
    assert made == [True, False]
