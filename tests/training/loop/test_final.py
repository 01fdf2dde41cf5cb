"""What is fitted behind the last step: once, and to the same bytes whatever comes between."""

import shutil

import numpy as np
import pytest

import convax
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.experiments.study import train_study
from convax.training.loop import loop
from convax.training.loop.signals import InterruptedRun
from convax.training.run import checkpoint
from convax.training.run.directory import RunError, open_run
from convax.training.run.load_model import load_model
from convax.training.tasks.classification import task
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes, without_timings

STEPS, BEST = 60, 61  # of the training, and behind the stage


class Killed(BaseException):
    """A kill, as far as the process notices."""


class Stage:
    """A stage that shifts the last bias; can be killed in it. It knows how often it was begun."""

    def __init__(self):
        self.begun, self.killed = 0, False

    def __call__(self, experiment, params, state, note):
        self.begun += 1
        note("fitting")
        if self.killed:
            raise Killed
        *_, last = sorted(params)
        shift = np.float32(experiment.dataset.train.count / 1000)
        return params | {last: params[last] | {"bias": params[last]["bias"] + shift}}


@pytest.fixture(scope="module")
def stage():
    """All runs of this file have it."""
    with pytest.MonkeyPatch.context() as patch:
        stage, make = Stage(), task.classification
        patch.setattr(task, "classification", lambda *given: make(*given)._replace(finalize=stage))
        yield stage


@pytest.fixture(scope="module")
def halfway(stage, tmp_path_factory):
    """The tiny run, killed in its stage; not to be changed."""
    folder, stage.killed = tmp_path_factory.mktemp("halfway"), True
    with pytest.raises(Killed):
        convax.train(load_config(write_tiny(folder)), folder / "run")
    stage.killed = False
    return open_run(folder / "run")


@pytest.fixture
def stopped(halfway, tmp_path):
    """A copy of it."""
    shutil.copytree(halfway.path, tmp_path / "stopped")
    return open_run(tmp_path / "stopped")


@pytest.fixture(scope="module")
def done(stage, halfway, tmp_path_factory):
    """The tiny run with its stage, never stopped; not to be changed."""
    folder = tmp_path_factory.mktemp("done")
    return convax.train(load_config(halfway.path / "config.toml"), folder / "run")


def test_a_stage_makes_a_further_checkpoint_which_is_the_best(whole, done):
    names = [checkpoint.named(done.checkpoints, pointer) for pointer in ("best", "last")]
    assert names == [checkpoint.name_of(BEST)] * 2
    before = checkpoint.named(whole.checkpoints, "best")
    assert before in checkpoint.names(done.checkpoints), "what the stage began with is kept"
    *_, last = sorted(load_model(whole.path).params)
    shifted = (
        load_model(done.path).params[last]["bias"] - load_model(whole.path).params[last]["bias"]
    )
    np.testing.assert_allclose(shifted, 0.11, rtol=1e-5)
    kinds = [(r["kind"], r["step"]) for r in done.metrics()]
    assert kinds[-3:] == [("validation", STEPS), ("validation", BEST), ("test", BEST)]
    assert done.info()["result"]["test"]["checkpoint_step"] == BEST
    trained = [r for r in without_timings(done) if r["step"] <= STEPS]
    assert trained == [r for r in without_timings(whole) if r["kind"] != "test"]


def test_a_run_killed_in_its_stage_goes_on_with_it_to_the_same_bytes(stage, done, stopped):
    stage.killed = True
    with pytest.raises(Killed):
        convax.resume(stopped.path)
    stage.killed, begun, recorder = False, stage.begun, Recorder()
    run = convax.resume(stopped.path, display=recorder)
    assert stage.begun == begun + 1 and "fitting" in recorder.notes and not recorder.steps
    assert final_bytes(run) == final_bytes(done)
    assert without_timings(run) == without_timings(done)


def test_a_run_killed_behind_its_stage_does_not_repeat_it(stage, done, stopped, monkeypatch):
    killed_at_its_test(stopped, monkeypatch)
    begun = stage.begun
    run = convax.resume(stopped.path)
    assert stage.begun == begun
    assert final_bytes(run) == final_bytes(done)
    assert without_timings(run) == without_timings(done)


def test_a_damaged_result_of_a_stage_is_made_again(stage, done, stopped, monkeypatch):
    killed_at_its_test(stopped, monkeypatch)
    (stopped.checkpoints / checkpoint.name_of(BEST) / "params.safetensors").write_bytes(b"")
    begun, recorder = stage.begun, Recorder()
    run = convax.resume(stopped.path, display=recorder)
    assert any("falling back" in note for note in recorder.notes) and stage.begun == begun + 1
    assert final_bytes(run) == final_bytes(done)


def killed_at_its_test(run, monkeypatch):
    """Continue a run, and kill it once its stage has been saved."""

    def kill(*given):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "evaluate_split", kill)
        convax.resume(run.path)
    assert run.info()["status"] == "running"


def test_a_signal_in_the_last_steps_stops_a_run_before_its_stage(stage, halfway, tmp_path):
    config, begun = load_config(halfway.path / "config.toml", ["training.steps=5"]), stage.begun
    with pytest.raises(InterruptedRun, match="SIGTERM at step 5 of 5, state saved"):
        convax.train(config, tmp_path / "run", display=Recorder(interrupt_at=5))
    assert stage.begun == begun
    run = convax.resume(tmp_path / "run")
    assert stage.begun == begun + 1
    assert checkpoint.named(run.checkpoints, "best") == checkpoint.name_of(6)


def test_a_damaged_beginning_of_a_stage_is_named(stopped):
    best = checkpoint.named(stopped.checkpoints, "best")
    for name in checkpoint.names(stopped.checkpoints):
        if name != best:
            shutil.rmtree(stopped.checkpoints / name)
    (stopped.checkpoints / best / "params.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="damaged"):
        convax.resume(stopped.path)


def test_a_stage_of_averages_leaves_the_parameters_behind_them(stage, halfway, tmp_path):
    config = load_config(halfway.path / "config.toml", ["ema.decay=0.9", "training.steps=5"])
    run = convax.train(config, tmp_path / "run")
    *_, last = sorted(load_model(run.path).params)
    manifest = checkpoint.read_manifest(run.checkpoints / checkpoint.name_of(6))
    begun = checkpoint.name_of(manifest["memory"]["finalized_from"])
    like, names = prepare(config).template, (begun, checkpoint.name_of(6))
    old, new = (checkpoint.read(run.checkpoints, name, like).train_state for name in names)
    np.testing.assert_array_equal(old.params[last]["bias"], new.params[last]["bias"])
    shifted = new.trained[0][last]["bias"] - old.trained[0][last]["bias"]
    np.testing.assert_allclose(shifted, 0.11, rtol=1e-4)


@pytest.mark.slow
def test_each_run_of_a_study_has_its_stage(stage, halfway, tmp_path):
    config = load_config(halfway.path / "config.toml", ["training.steps=5"])
    begun = stage.begun
    study = train_study(config, tmp_path / "study", seeds=[0, 1])
    assert stage.begun == begun + 2
    for name in study.members:
        best = checkpoint.named(study.run(name).checkpoints, "best")
        assert best == checkpoint.name_of(6)
