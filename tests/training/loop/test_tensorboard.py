"""Event files, read back by TensorBoard itself where it is installed."""

import sys

import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.config.schema import load_config
from convax.training.experiments.study import train_study
from convax.training.loop.signals import InterruptedRun
from tests.training.loop.test_loop import Recorder

pytest.importorskip("tensorboardX")
ON = "logging.tensorboard=true"


def scalars(run):
    """What TensorBoard sees: {tag: [(step, value)]}."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run.path / "tensorboard"), {"scalars": 0})
    found.Reload()
    return {t: [(e.step, e.value) for e in found.Scalars(t)] for t in found.Tags()["scalars"]}


def logged(run, kind, name):
    return [(r["step"], pytest.approx(r[name])) for r in run.metrics() if r["kind"] == kind]


def assert_as_logged(run):
    found = scalars(run)
    for kind, name in (("train", "loss"), ("train", "learning_rate"), ("validation", "accuracy")):
        assert found[f"{kind}/{name}"] == logged(run, kind, name)
    assert found["test/loss"] == logged(run, "test", "loss")
    assert not any("count" in tag for tag in found)


def test_events_equal_metrics_after_resume(tiny, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny, [ON]), tmp_path / "run", display=Recorder(34))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:  # a step that is to be repeated
        file.write('{"kind": "train", "step": 47, "loss": 99.0, "images_per_second": 1.0}\n')
    run = convax.resume(tmp_path / "run")
    assert_as_logged(run)
    assert len(list((run.path / "tensorboard").iterdir())) == 1


def test_events_of_each_study_member_equal_metrics(tiny, tmp_path):
    study = train_study(load_config(tiny, [ON]), tmp_path / "study", seeds=[0, 1])
    for name in study.members:
        assert_as_logged(study.run(name))


def test_events_are_off_by_default(whole):
    assert not (whole.path / "tensorboard").exists()


def test_tensorboard_option_writes_events(tiny, tmp_path, command):
    assert command("train", tiny, "--out", tmp_path / "run", "--tensorboard")[0] == 0
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_train_without_tensorboardx_is_config_error(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr("convax.training.loop.tensorboard.find_spec", lambda name: None)
    for train in (convax.train, lambda *a: train_study(*a, seeds=[0])):
        with pytest.raises(ConfigError, match=r"tensorboardX is not installed; pip install"):
            train(load_config(tiny, [ON]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resume_without_tensorboardx_is_config_error(tiny, tmp_path, monkeypatch):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny, [ON]), tmp_path / "run", display=Recorder(20))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr("convax.training.loop.tensorboard.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tensorboardX is not installed; pip install"):
        convax.resume(tmp_path / "run")
