"""A step that is not finite: the run stops in front of it, or leaves it out."""

import json
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import convax
from convax import model
from convax.training import experiment
from convax.training.config.schema import load_config
from convax.training.data import batch_indices
from convax.training.experiment import prepare
from convax.training.loop import chunk_loop, nonfinite
from convax.training.loop.nonfinite import NonFiniteError
from convax.training.loop.signals import InterruptedRun
from convax.training.run.checkpoint import names, step_of
from convax.training.run.directory import open_run
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Metronome, final_bytes, without_timings

NONFINITE = (
    15,
    16,
    40,
)  # the steps whose loss is not finite, counted from 1; at 40 is an evaluation


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """The tiny experiment, with a loss that knows the batches of these steps by their labels."""
    config = write_tiny(tmp_path_factory.mktemp("spoiled"))
    data = prepare(load_config(config)).dataset.train
    indices = partial(batch_indices, size=len(data.labels), batch_size=16, seed=3)
    batches = jnp.array([data.labels[indices(step - 1)] for step in NONFINITE])
    make = experiment.make_task

    def make_task(config, classes):
        task = make(config, classes)

        def loss(outputs, targets):
            if targets.shape != batches.shape[1:]:  # of an evaluation
                return task.loss(outputs, targets)
            is_spoiled = (batches == targets[None]).all(axis=1).any()
            return task.loss(outputs, targets) * jnp.where(is_spoiled, jnp.nan, jnp.float32(1))

        return task._replace(loss=loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "make_task", make_task)
        yield config


@pytest.fixture(scope="module")
def left_out(spoiled, tmp_path_factory):
    """The run that left out all three, and was never stopped; not to be changed."""
    config = load_config(spoiled, ["training.skip_nonfinite=3"])
    return convax.train(config, tmp_path_factory.mktemp("left out") / "run")


@pytest.mark.parametrize("size", [1, 6, 1000], ids="chunks of {}".format)
def test_nonfinite_step_leaves_state_before_it(spoiled, tmp_path, monkeypatch, size):
    """Whatever comes behind it in the chunk: it is that of a run of 14 steps."""
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(size))
    with pytest.raises(NonFiniteError, match=r"run: loss is nan at step 15; the state before it"):
        convax.train(load_config(spoiled), tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.info()["status"] == "diverged"
    assert (run.checkpoints / "last").read_text() == "step-00000014\n"
    monkeypatch.undo()
    with pytest.raises(InterruptedRun, match="at step 14 of 60"):
        monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(1, interrupt_at=14))
        convax.train(load_config(spoiled), tmp_path / "fine")
    fine = final_bytes(open_run(tmp_path / "fine"))
    here = final_bytes(run)
    for part in ("params", "state", "training"):
        assert here[f"last/{part}.safetensors"] == fine[f"last/{part}.safetensors"]


def test_nonfinite_json_names_step_batch_and_parameters(spoiled, tmp_path):
    """Of images that were augmented, too."""
    with pytest.raises(NonFiniteError):
        convax.train(load_config(spoiled, ["augment.flip=true"]), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert (found["step"], found["metric"], found["value"]) == (15, "loss", "nan")
    assert found["examples"] == batch_indices(14, size=110, batch_size=16, seed=3).tolist()
    assert found["parameters"].keys() == {
        "dense1/bias", "dense1/kernel", "dense2/bias", "dense2/kernel",
    }  # fmt: skip
    for table in found["parameters"].values():
        assert table == {"parameter": True, "gradient": False, "update": False}
    assert found["activations"].keys() >= {"dense1", "dense2"}
    assert all(found["activations"].values())


def test_learning_rate_too_large_stops_at_nonfinite_update(tiny, tmp_path, command):
    """Nothing is spoiled here; and what the command line says of it."""
    large = ("optimizer.learning_rate=1e30", "schedule.warmup=0.5", "optimizer.eps=1e-30")
    options = [text for key in large for text in ("--set", key)]
    code, _, err = command("train", tiny, "--out", tmp_path / "run", *options)
    assert code == 1
    assert len(err.splitlines()) == 2
    assert "--skip-nonfinite" in err
    found = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    finite = [table["parameter"] for table in found["parameters"].values()]
    assert all(finite)
    assert found["metric"] == "update_norm" or not all(
        table["gradient"] for table in found["parameters"].values()
    )


def test_skip_nonfinite_leaves_steps_out(left_out):
    run = left_out
    skipped = [r for r in run.metrics() if r["kind"] == "skipped"]
    assert [(r["step"], r["metric"], r["value"]) for r in skipped] == [
        (step, "loss", "nan") for step in NONFINITE
    ]
    assert [r["step"] for r in run.metrics() if r["kind"] == "validation"] == [20, 40, 60]
    assert not (run.path / "nonfinite.json").exists()
    for record in run.metrics():
        assert np.isfinite(record.get("loss", 0))
    training = safetensors.numpy.load_file(run.checkpoints / "step-00000060/training.safetensors")
    assert training["step"] == 60
    assert [v for k, v in training.items() if k.endswith("count")] == [57]  # of updates made


@pytest.mark.parametrize(
    "stop", [13, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (16, 40))]
)
def test_resume_with_skipped_steps_is_bit_identical(spoiled, left_out, tmp_path, monkeypatch, stop):
    config = load_config(spoiled, ["training.skip_nonfinite=3"])
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(1, interrupt_at=stop))
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "run")
    stopped = open_run(tmp_path / "run")
    assert step_of(names(stopped.checkpoints)[0]) == stop
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(5))
    run = convax.resume(stopped.path)
    assert final_bytes(run) == final_bytes(left_out)
    assert without_timings(run) == without_timings(left_out)


@pytest.mark.slow
def test_skip_nonfinite_stops_behind_limit_and_resumes_with_more(
    spoiled, left_out, tmp_path, command
):
    code, _, err = command("train", spoiled, "--out", tmp_path / "run", "--skip-nonfinite", 2)
    assert code == 1
    assert "loss is nan at step 40" in err
    # And it goes on when it is allowed one more: as if it had been from the beginning.
    assert command("train", "--resume", tmp_path / "run")[0] == 1
    assert command("train", "--resume", tmp_path / "run", "--skip-nonfinite", 1)[0] == 0
    run = open_run(tmp_path / "run")
    assert run.config().training.skip_nonfinite == 3
    (noted,) = run.info()["forced"]
    assert noted == {"step": 39, "changes": ["training.skip_nonfinite: 2 -> 3"]}
    assert final_bytes(run) == final_bytes(left_out)
    assert without_timings(run) == without_timings(left_out)


def test_skip_nonfinite_below_skipped_allows_no_more(spoiled, left_out, tmp_path, monkeypatch):
    """Two were left out; with a limit of one there is no third. And resuming counts from there."""
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(1, interrupt_at=16))
    with pytest.raises(InterruptedRun):
        convax.train(load_config(spoiled, ["training.skip_nonfinite=2"]), tmp_path / "run")
    run = open_run(tmp_path / "run")
    (run.path / "config.toml").write_text(
        (run.path / "config.toml").read_text().replace("skip_nonfinite = 2", "skip_nonfinite = 1")
    )
    monkeypatch.undo()
    with pytest.raises(NonFiniteError, match="loss is nan at step 40"):
        convax.resume(run.path)
    with pytest.raises(NonFiniteError, match="loss is nan at step 40"):
        convax.resume(run.path, skip_nonfinite=0)
    assert run.config().training.skip_nonfinite == 2
    assert final_bytes(convax.resume(run.path, skip_nonfinite=1)) == final_bytes(left_out)


def test_named_parts_look_into_inline_network():
    """An FCN is brought to the size of its input, and its trunk gives several maps by name."""
    net = model.fcn(3, backbone="resnet18", stride=16, hidden=0)
    parts = list(nonfinite._named_parts(net))
    assert parts == ["backbone", "head"]
    (_, shapes), _, _ = model.init_shapes(model.capture_intermediates(net, parts), (1, 32, 32, 3))
    assert list(shapes["backbone"]) == ["stage3", "stage4"]
