"""Which checkpoints are kept, and what is said when one cannot be written."""

import errno
import os
import threading

import pytest

import convax
from convax.training.common import atomic_io
from convax.training.config.schema import load_config
from convax.training.loop import chunk_loop
from convax.training.loop.checkpointing import LoopState, SaveError
from convax.training.loop.early_stopping import Progress
from convax.training.loop.signals import InterruptedRun
from convax.training.run import checkpoint
from convax.training.run.checkpoint import DamagedError
from convax.training.run.directory import open_run
from tests.training.loop.test_loop import Metronome, Recorder, final_bytes


def steps(run):
    return [checkpoint.step_of(name) for name in checkpoint.names(run.checkpoints)]


def test_saver_keeps_newest_best_and_first_of_each_stretch(whole, tiny, tmp_path):
    overrides = [
        "training.evaluate_every=5 steps",
        "checkpoints.keep_last=1",
        "checkpoints.keep_every=14 steps",
    ]
    run = convax.train(load_config(tiny, overrides), tmp_path / "run")
    best = int((run.checkpoints / "best").read_text()[5:])
    assert steps(run) == sorted({60, 45, 30, 15, best}, reverse=True)
    assert steps(whole) == [60, 40]


def test_saver_keeps_same_checkpoints_after_interruption(tiny, tmp_path):
    overrides = ["training.evaluate_every=5 steps", "checkpoints.keep_every=25%"]
    config = load_config(tiny, overrides)
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "run", display=Recorder(27))
    run = convax.resume(tmp_path / "run")
    assert {60, 45, 30, 15} <= set(steps(run))
    assert 27 not in steps(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.ENOSPC, "make room"), (errno.EROFS, "make it writable")]
)
def test_resume_after_failed_save_is_bit_identical(
    whole, tiny, tmp_path, monkeypatch, code, remedy
):
    write, calls = atomic_io.write_fsync, []

    def full(path, content):
        calls.append(path)
        if "step-00000040" in str(path) and path.name == "state.safetensors":
            path.write_bytes(content[:1])
            raise OSError(code, os.strerror(code), str(path))
        write(path, content)

    monkeypatch.setattr(atomic_io, "write_fsync", full)
    message = (
        rf"run: the checkpoint of step 40 could not be written: {os.strerror(code)}; "
        rf"step-00000020 is whole; {remedy}, then: convax train --resume "
    )
    with pytest.raises(SaveError, match=message):
        convax.train(load_config(tiny), tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert sorted(e.name for e in run.checkpoints.iterdir()) == ["best", "last", "step-00000020"]
    monkeypatch.undo()
    assert final_bytes(convax.resume(run.path)) == final_bytes(whole)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError; step-00000020 is whole; free some memory"),
        (DamagedError("last: damaged"), "last: damaged; step-00000020 is whole; look to the disk"),
        (KeyError("a"), "KeyError: 'a'; step-00000020 is whole; report it as a bug"),
    ],
    ids=["memory", "damage", "bug"],
)
def test_interrupted_run_reports_failed_save_not_saved_state(
    whole, tiny, tmp_path, monkeypatch, command, error, said
):
    """A thread's error is nobody's: the run would say "state saved", and go on from before."""
    write = checkpoint.safetensors.numpy.save

    def fails(arrays):
        if threading.current_thread().name == "saver" and arrays.get("step", 0) == 27:
            raise error
        return write(arrays)

    monkeypatch.setattr(checkpoint.safetensors.numpy, "save", fails)
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(1, interrupt_at=27))
    code, _, err = command("train", tiny, "--out", tmp_path / "run")
    assert code == 2
    assert f"the checkpoint of step 27 could not be written: {said}, then: convax train" in err
    assert "state saved" not in err
    run = open_run(tmp_path / "run")
    assert sorted(e.name for e in run.checkpoints.iterdir()) == ["best", "last", "step-00000020"]
    monkeypatch.undo()
    assert final_bytes(convax.resume(run.path)) == final_bytes(whole)


def test_full_disk_while_reporting_is_save_error(tiny, tmp_path):
    class Full(Recorder):
        def step(self, step, total, record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(SaveError, match=r"a file could not be written: No space left on device"):
        convax.train(load_config(tiny), tmp_path / "run", display=Full())


def test_loop_state_survives_json():
    loop_state = LoopState(Progress(0.5, 20, 1), 0.5, 20, None, 2, {"loss": [0.1]})
    assert LoopState.from_json(loop_state.as_json()) == loop_state
    assert LoopState.from_json(LoopState().as_json()) == LoopState()


def test_atomic_write_keeps_old_file_when_fsync_fails(tmp_path, monkeypatch):
    atomic_io.atomic_write(tmp_path / "x", b"old")

    def fails(descriptor):
        raise OSError(errno.EIO, "no luck")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="no luck"):
        atomic_io.atomic_write(tmp_path / "x", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
