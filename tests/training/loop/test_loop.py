"""The training loop: what it leaves behind, when it stops, and that resuming changes nothing."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.data import DataError
from convax.training.experiment import count_steps, prepare
from convax.training.loop import chunk_loop, single_program
from convax.training.loop.chunks import ChunkSizer
from convax.training.loop.nonfinite import NonFiniteError
from convax.training.loop.signals import InterruptedRun
from convax.training.run.directory import RunError, open_run
from convax.training.run.metrics_log import TIMINGS
from convax.training.tasks.classification.losses import one_hot_mse


class Recorder:
    """A display that remembers, and can interrupt."""

    def __init__(self, interrupt_at=None, signum=signal.SIGTERM):
        self.notes, self.steps = [], []
        self.interrupt_at, self.signum = interrupt_at, signum

    def note(self, text):
        self.notes.append(text)

    def step(self, step, total, record):
        self.steps.append(step)
        if self.interrupt_at is not None and step >= self.interrupt_at:
            os.kill(os.getpid(), self.signum)
            self.interrupt_at = None

    def close(self):
        pass


class Metronome(ChunkSizer):
    """Chunks of one length, whatever the clock says; can interrupt behind a step."""

    def __init__(self, steps, interrupt_at=None):
        self.steps, self.taken, self.interrupt_at = steps, 0, interrupt_at

    def update(self, count, seconds):
        self.taken += count
        if self.taken == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGTERM)


def final_bytes(run):
    """Every file of the last checkpoint, and of the best."""
    found = {}
    for pointer in ("last", "best"):
        name = (run.checkpoints / pointer).read_text().strip()
        for file in sorted((run.checkpoints / name).iterdir()):
            found[f"{pointer}/{file.name}"] = file.read_bytes()
    return found


def without_timings(run):
    """Every record of the metrics, but for what the clock said."""
    return [{k: v for k, v in r.items() if k not in TIMINGS} for r in run.metrics()]


def test_train_learns_and_writes_whole_run(whole):
    records = whole.metrics()
    assert [r["step"] for r in records if r["kind"] == "validation"] == [20, 40, 60]
    assert [r["step"] for r in records if r["kind"] == "train"] == [
        7,
        14,
        20,
        27,
        34,
        40,
        47,
        54,
        60,
    ]
    for record in records:
        assert math.isfinite(record["loss"])
    first = next(r for r in records if r["kind"] == "train")
    keys = {"accuracy", "learning_rate", "grad_norm", "update_norm", "param_norm", "epoch"}
    assert keys <= first.keys()

    info = whole.info()
    assert info["status"] == "finished"
    assert info["result"]["test"]["count"] == 53
    assert info["result"]["test"]["accuracy"] > 0.9
    assert {"jax", "numpy", "convax", "python"} <= info["versions"].keys()
    card = whole.dataset()
    assert card.counts == {"train": 110, "validation": 20, "test": 53}
    assert card.classes == ("0", "1", "2")
    assert sorted(p.name for p in whole.checkpoints.iterdir() if p.is_file()) == ["best", "last"]
    assert whole.config() == load_config(whole.path / "config.toml")


def test_train_is_bit_identical_for_same_config(whole, tiny, tmp_path):
    again = convax.train(load_config(tiny), tmp_path / "again")
    assert final_bytes(again) == final_bytes(whole)
    other = convax.train(load_config(tiny, ["seed=4"]), tmp_path / "other")
    assert final_bytes(other) != final_bytes(whole)


@pytest.mark.parametrize("interrupt_at", [7, 20, 34], ids=["early", "at an evaluation", "later"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_resume_after_signal_is_bit_identical(whole, tiny, tmp_path, interrupt_at, signum):
    out = tmp_path / "interrupted"
    handler = signal.getsignal(signum)
    with pytest.raises(InterruptedRun, match=r"--resume .*interrupted") as caught:
        convax.train(load_config(tiny), out, display=Recorder(interrupt_at, signum))
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is handler
    resumed = convax.resume(out)
    assert final_bytes(resumed) == final_bytes(whole)
    assert without_timings(resumed) == without_timings(whole)


@pytest.mark.slow
def test_resume_after_two_sigkills_is_bit_identical(whole, tiny, tmp_path):
    """SIGKILL in the middle of the run, and in the middle of its continuation."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "convax", "train"]
    arguments = [str(tiny), "--out", str(out)]
    for reports in (5, 2):
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        with process:
            for line in process.stdout or ():
                reports -= line.startswith("step ")
                if not reports:
                    process.kill()
                    break
        assert process.returncode == -signal.SIGKILL
        assert open_run(out).info()["status"] == "running"
        arguments = ["--resume", str(out)]
    subprocess.run([*command, *arguments], check=True, capture_output=True)
    assert final_bytes(open_run(out)) == final_bytes(whole)


def test_resume_refuses_finished_run(whole):
    with pytest.raises(RunError, match="this run is finished; nothing to resume"):
        convax.resume(whole.path)


def test_resume_refuses_changed_data(tiny, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny), tmp_path / "run", display=Recorder(20))
    data = tmp_path / "tiny.npz"
    arrays = dict(np.load(data))
    arrays["x_train"][0, 0, 0] ^= 1
    np.savez(data, **arrays)
    with pytest.raises(RunError, match=r"changed since this run began:\n  data: .* -> "):
        convax.resume(tmp_path / "run")


def test_train_leaves_existing_directory_alone(whole, tiny):
    before = final_bytes(whole)
    with pytest.raises(RunError, match=r"exists already; choose another --out, or continue it"):
        convax.train(load_config(tiny, ["data.path=not/read"]), whole.path)
    assert final_bytes(whole) == before


def test_diverging_run_keeps_last_finite_checkpoint(tiny, tmp_path):
    config = load_config(
        tiny, ["optimizer.learning_rate=1e30", "schedule.warmup=0.5", "optimizer.eps=1e-30"]
    )
    with pytest.raises(
        NonFiniteError, match=r"is (nan|inf) at step \d+; .*\nlower optimizer.learning"
    ):
        convax.train(config, tmp_path / "diverged")
    run = open_run(tmp_path / "diverged")
    assert run.info()["status"] == "diverged"
    assert run.info()["diverged_at_step"] >= 1
    for record in run.metrics():
        assert math.isfinite(record["loss"])


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("early_stopping.target=0.5", "target reached: .* is at least 0.5, at step 20"),
        ("early_stopping.patience=1", "no improvement in 1 evaluation"),
        ("early_stopping.min_update=0.5", "every update is below 0.5: the largest was"),
    ],
)
def test_early_stopping_ends_run_with_reason(tiny, tmp_path, override, reason):
    overrides = [override, "training.steps=400"]
    display = Recorder()
    run = convax.train(load_config(tiny, overrides), tmp_path / "run", display=display)
    stopped = run.info()["result"]["stopped_early"]
    assert stopped is not None
    assert re.match(reason, stopped)
    assert f"stopped early: {stopped}" in display.notes
    assert run.info()["result"]["step"] < 400


def test_best_checkpoint_without_validation_is_last(tiny, tmp_path):
    run = convax.train(load_config(tiny, ["data.validation=0"]), tmp_path / "run")
    best, last = ((run.checkpoints / p).read_text() for p in ("best", "last"))
    assert best == last == "step-00000060\n"
    assert not [r for r in run.metrics() if r["kind"] == "validation"]


def test_train_accepts_optax_optimizer(tiny, tmp_path, monkeypatch):
    ours = convax.train(load_config(tiny), tmp_path / "ours")
    monkeypatch.setattr(
        "convax.training.experiment.make_optimizer", lambda config, schedule: optax.adam(schedule)
    )
    with jax.numpy_dtype_promotion("standard"):  # optax needs it
        theirs = convax.train(load_config(tiny), tmp_path / "theirs")
    losses = [[r["loss"] for r in run.metrics() if r["kind"] == "train"] for run in (ours, theirs)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.slow
def test_train_learns_with_mean_squared_error(tiny, tmp_path):
    file = tmp_path / "mse.toml"
    text = tiny.read_text().replace('"softmax_cross_entropy"\nlabel_smoothing = 0.0', '"mse"')
    file.write_text(text)
    run = convax.train(load_config(file, ["training.steps=200"]), tmp_path / "run")
    assert run.info()["result"]["test"]["accuracy"] > 0.9


def test_one_hot_mse_smooths_labels():
    """One image of class 1 of 4: q is 0.1, 0.7, 0.1, 0.1."""
    loss = partial(one_hot_mse, label_smoothing=0.4)
    found = loss(jnp.array([[0.1, 0.7, 0.1, 0.5]]), jnp.array([1]))
    np.testing.assert_allclose(found, [0.4**2 / 4], 1e-6)
    plain = one_hot_mse(jnp.array([[0.0, 1.0, 0.0, 0.5]]), jnp.array([1]))
    np.testing.assert_allclose(plain, [0.25 / 4], 1e-6)


def test_train_steps_are_compiled_once(tiny, tmp_path, monkeypatch):
    made = []
    make = single_program.make_train_steps

    def remember(*arguments, **more):
        made.append(make(*arguments, **more))
        return made[-1]

    monkeypatch.setattr(single_program, "make_train_steps", remember)
    run = convax.train(load_config(tiny), tmp_path / "run")
    assert [steps._cache_size() for steps in made] == [0]  # only ahead of time
    assert run.info()["compile_seconds"] > 0


@pytest.mark.parametrize("size", [1, 3, 1000], ids="chunks of {}".format)
def test_chunk_length_changes_no_bit(whole, tiny, tmp_path, monkeypatch, size):
    """Whatever the clock says: with the loop's own report and evaluation in between, or not."""
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(size))
    run = convax.train(load_config(tiny), tmp_path / "run")
    assert final_bytes(run) == final_bytes(whole)
    assert without_timings(run) == without_timings(whole)


def test_resume_within_metric_window_is_bit_identical(whole, tiny, tmp_path, monkeypatch):
    """Evaluations at 20, 40, 60, reports of at most 7 steps, and a stop at 23."""
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(3, interrupt_at=23))
    with pytest.raises(InterruptedRun, match="at step 23 of 60"):
        convax.train(load_config(tiny), tmp_path / "run")
    assert [r["step"] for r in open_run(tmp_path / "run").metrics()] == [7, 14, 20, 20]
    monkeypatch.undo()
    resumed = convax.resume(tmp_path / "run")
    assert final_bytes(resumed) == final_bytes(whole)
    assert without_timings(resumed) == without_timings(whole)


def test_log_every_changes_no_bit(whole, tiny, tmp_path):
    run = convax.train(load_config(tiny, ["training.log_every=1"]), tmp_path / "run")
    assert (
        final_bytes(run)["last/params.safetensors"]
        == (final_bytes(whole)["last/params.safetensors"])
    )
    assert len([r for r in run.metrics() if r["kind"] == "train"]) == 60


def test_min_update_stops_at_very_step(tiny, tmp_path, monkeypatch):
    """A step later the state would be another: with this condition, each is looked at."""
    config = load_config(tiny, ["early_stopping.min_update=0.009", "training.steps=400"])
    run = convax.train(config, tmp_path / "run")
    last = [r for r in run.metrics() if r["kind"] == "train"][-1]
    assert last["step"] == run.info()["result"]["step"]
    assert (run.checkpoints / "last").read_text() == f"step-{last['step']:08d}\n"


def test_nonfinite_step_is_named_in_chunk_of_any_length(tiny, tmp_path, monkeypatch):
    """Also in the middle of a chunk, where later steps have been taken already."""
    overrides = ["optimizer.learning_rate=1e30", "schedule.warmup=0.5", "optimizer.eps=1e-30"]
    named = []
    for size in (1, 7):
        monkeypatch.setattr(chunk_loop, "ChunkSizer", partial(Metronome, size))
        with pytest.raises(NonFiniteError) as caught:
            convax.train(load_config(tiny, overrides), tmp_path / f"chunks-of-{size}")
        named.append(str(caught.value).partition(": ")[2].partition(" --resume")[0])
    assert named[0] == named[1]


def test_train_reports_memory(tiny, tmp_path):
    display = Recorder()
    run = convax.train(load_config(tiny), tmp_path / "run", display=display)
    parameters = 4 * (65 * 16 + 17 * 3)
    batches = 7 * 16 * (6 * 6 + 4)
    assert run.info()["step_bytes"] > 3 * parameters + batches  # Adam keeps two moments
    assert run.info()["result"]["peak_bytes"]["process"] > run.info()["step_bytes"]
    assert re.match(r"compiled in [\d.]+ s; a training step works in \d+ MiB", display.notes[1])
    assert any(re.match(r"peak memory:  process [\d.]+ [MG]iB", note) for note in display.notes)


def test_count_steps_takes_epochs_and_steps(tiny):
    config = load_config(tiny)
    training = config.training.model_copy(update={"epochs": 2.0, "steps": None})
    assert count_steps(config.model_copy(update={"training": training}), 110) == math.ceil(220 / 16)
    for steps, expected in ((3, 3), (99, math.ceil(220 / 16))):  # with both, what ends first
        both = config.model_copy(update={"training": training.model_copy(update={"steps": steps})})
        assert count_steps(both, 110) == expected


def test_prepare_writes_nothing(tiny, tmp_path):
    before = sorted(tmp_path.iterdir())
    experiment = prepare(load_config(tiny))
    assert sorted(tmp_path.iterdir()) == before
    assert experiment.total_steps == 60
    assert json.dumps(experiment.card.counts)


def test_best_checkpoint_ignores_min_delta(tiny, tmp_path):
    """`min_delta` is for patience: a small gain still makes a better network."""
    run = convax.train(load_config(tiny, ["early_stopping.min_delta=0.9"]), tmp_path / "run")
    looked = [(r["accuracy"], r["step"]) for r in run.metrics() if r["kind"] == "validation"]
    assert max(looked)[1] > min(step for _, step in looked)  # the first was not the best
    assert (run.checkpoints / "best").read_text() == f"step-{max(looked)[1]:08d}\n"


def test_resume_before_first_checkpoint_begins_anew(whole, tiny, tmp_path):
    class Dies(Recorder):
        def step(self, step, total, record):
            raise MemoryError

    with pytest.raises(MemoryError):
        convax.train(load_config(tiny), tmp_path / "run", display=Dies())
    assert final_bytes(convax.resume(str(tmp_path / "run"))) == final_bytes(whole)


@pytest.mark.parametrize("key", ["target=0.5", "patience=1"])
def test_early_stopping_needs_validation_images(tiny, tmp_path, key):
    config = load_config(tiny, ["data.validation=0", f"early_stopping.{key}"])
    with pytest.raises(ConfigError, match=r"needs validation images; set data.validation"):
        convax.train(config, tmp_path / "run")


def test_train_refuses_data_of_one_class(tiny, tmp_path):
    arrays = dict(np.load(tmp_path / "tiny.npz"))
    arrays |= {"y_train": arrays["y_train"] * 0, "y_test": arrays["y_test"] * 0}
    np.savez(tmp_path / "tiny.npz", **arrays)
    with pytest.raises(DataError, match="all images are of one class, '0': nothing to tell apart"):
        convax.train(load_config(tiny), tmp_path / "run")


def test_train_takes_paths_as_strings(tiny, tmp_path):
    config = load_config(tiny, ["training.steps=1"])
    assert convax.train(config, f"{tmp_path}/run", config_dir=str(tmp_path)).path.is_dir()
