"""Resuming: what is refused, what is repaired, and what is fallen back to."""

import json
import shutil

import pytest
import tomli_w

import convax
from convax.training.common import atomic_io
from convax.training.config.schema import load_config
from convax.training.data import DataError, read_batches
from convax.training.experiment import prepare
from convax.training.loop import chunks, loop, resume
from convax.training.loop.signals import InterruptedRun
from convax.training.run import checkpoint
from convax.training.run.checkpoint import CheckpointError
from convax.training.run.directory import RunError, open_run
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes, without_timings


@pytest.fixture(scope="session")
def halfway(tmp_path_factory):
    """The tiny run, stopped at step 48: with checkpoints of steps 40 and 48; not to be changed."""
    folder = tmp_path_factory.mktemp("halfway")
    config = load_config(write_tiny(folder))
    with pytest.raises(InterruptedRun):
        convax.train(config, folder / "run", display=Recorder(47))
    run = open_run(folder / "run")
    last, before = checkpoint.names(run.checkpoints)
    assert checkpoint.step_of(before) == 40 < checkpoint.step_of(last) < 60
    return run


@pytest.fixture
def stopped(halfway, tmp_path):
    """A copy of it."""
    shutil.copytree(halfway.path, tmp_path / "stopped")
    return open_run(tmp_path / "stopped")


def change_config(run, **keys):
    """Write other values into the training table of config.toml."""
    raw = run.config().model_dump(exclude_none=True)
    for key, value in keys.items():
        table, _, name = key.partition("__")
        raw[table][name] = value
    (run.path / "config.toml").write_text(tomli_w.dumps(raw))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def names(run):
    return sorted(entry.name for entry in run.checkpoints.iterdir())


def test_data_that_fails_ends_a_run_with_its_state_saved(whole, tmp_path, monkeypatch):
    """An image that is damaged, a worker process that is killed, at step 33."""

    def failing(split, *, start, stop, **keywords):
        yield from read_batches(split, start=start, stop=min(stop, 32), **keywords)
        raise DataError("x.png: damaged")

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "read_batches", failing)
        with pytest.raises(DataError) as caught:
            convax.train(load_config(write_tiny(tmp_path)), tmp_path / "run")
    run = open_run(tmp_path / "run")
    saved = checkpoint.step_of(checkpoint.names(run.checkpoints)[0])
    assert 27 <= saved <= 32  # the last report before it, at least
    assert str(caught.value) == (
        f"x.png: damaged; stopped at step {saved} of 60, state saved; when that is mended, "
        f"continue with: convax train --resume {run.path}"
    )
    assert final_bytes(convax.resume(run.path)) == final_bytes(whole)


def test_resume_refuses_changed_config_key_by_key(whole, stopped):
    change_config(stopped, optimizer__learning_rate=0.002, training__batch_size=8)
    with pytest.raises(RunError) as caught:
        convax.resume(stopped.path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{stopped.path}: changed since this run began:"
    assert lines[1:3] == [
        "  config.toml.optimizer.learning_rate: 0.01 -> 0.002",
        "  config.toml.training.batch_size: 16 -> 8",
    ]
    assert lines[3].endswith(f"convax train --resume {stopped.path} --force")
    # Without the file it is written as it was.
    (stopped.path / "config.toml").unlink()
    assert final_bytes(convax.resume(stopped.path)) == final_bytes(whole)


def test_resume_with_force_takes_and_records_changed_config(whole, stopped):
    change_config(stopped, optimizer__learning_rate=0.002)
    run = convax.resume(stopped.path, force=True)
    assert (
        final_bytes(run)["last/params.safetensors"] != final_bytes(whole)["last/params.safetensors"]
    )
    (forced,) = run.info()["forced"]
    assert forced["changes"] == ["config.toml.optimizer.learning_rate: 0.01 -> 0.002"]
    assert 40 < forced["step"] < 60
    rates = [r["learning_rate"] for r in run.metrics() if r["kind"] == "train"]
    assert max(rates[-2:]) < 0.002 < max(rates)


def test_resume_allows_other_data_path_and_keep_last(whole, stopped):
    """Where the data lies, which it remembers, and which checkpoints are kept."""
    data = stopped.path.parent / "elsewhere.npz"
    shutil.copy(stopped.config().data.path, data)
    raw = stopped.config().model_dump(exclude_none=True)
    raw["checkpoints"]["keep_last"] = 3
    (stopped.path / "config.toml").write_text(tomli_w.dumps(raw))
    run = convax.resume(stopped.path, data_path=data)
    assert run.config().data.path == str(data)
    assert (
        final_bytes(run)["last/params.safetensors"] == final_bytes(whole)["last/params.safetensors"]
    )
    assert len(checkpoint.names(run.checkpoints)) == 3


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("code", r'convax: "other" -> "[0-9a-f]{11}\.\.\.'),
        ("device", 'device: "other" -> "cpu: '),
        ("versions", r'versions.jax: "0.1" -> "'),
        ("environment", r'environment.CONVAX_LOWERING: "xla" -> "\w+"(.|\n)*CONVAX_LOWERING=xla\)'),
        ("settings", r"settings.jax_enable_x64: true -> false"),
    ],
)
def test_resume_refuses_other_code_or_machine(stopped, key, line):
    provenance = stopped.info()["provenance"]
    other = {"versions": {"jax": "0.1"}, "environment": {"CONVAX_LOWERING": "xla"}}
    other["settings"] = {"jax_enable_x64": True}
    changed = {**provenance[key], **other[key]} if key in other else "other"
    stopped.update_info(provenance=provenance | {key: changed})
    with pytest.raises(RunError, match=line):
        convax.resume(stopped.path)


def test_resume_refuses_run_json_without_provenance(stopped):
    info = stopped.info()
    del info["provenance"]
    (stopped.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(
        RunError, match=r"run.json: does not say what made this run; without it"
    ) as e:
        convax.resume(stopped.path)
    assert len(str(e.value).splitlines()) == 3


@pytest.mark.parametrize("file", ["params.safetensors", "manifest.json"])
def test_resume_falls_back_from_damaged_checkpoint(whole, stopped, file):
    display = Recorder()
    last = (stopped.checkpoints / "last").read_text().strip()
    flip(stopped.checkpoints / last / file)
    run = convax.resume(stopped.path, display=display)
    assert f"{file}: damaged" in display.notes[0]
    assert display.notes[0].endswith(f"falling back to the checkpoint before {last}")
    assert ": resuming at step 40:" in display.notes[1]
    assert final_bytes(run) == final_bytes(whole)
    assert without_timings(run) == without_timings(whole)
    assert f"damaged-{last}" in names(run)


def test_resume_restores_damaged_pointers(whole, stopped):
    (stopped.checkpoints / "last").write_text("nonsense")
    (stopped.checkpoints / "best").unlink()
    assert final_bytes(convax.resume(stopped.path)) == final_bytes(whole)


def test_resume_with_every_checkpoint_damaged_needs_force(whole, stopped):
    for name in checkpoint.names(stopped.checkpoints):
        flip(stopped.checkpoints / name / "training.safetensors")
    with pytest.raises(
        RunError, match=r"every checkpoint is damaged; .* begin anew with: .*--force"
    ):
        convax.resume(stopped.path)
    run = convax.resume(stopped.path, force=True)
    assert final_bytes(run) == final_bytes(whole)
    assert without_timings(run) == without_timings(whole)


@pytest.fixture
def fallen_back(stopped, monkeypatch):
    """Of step 48, whose best is gone: step 60 was the better one, and damaged, and set aside.

    Then the run was killed once more.
    """

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            convax.resume(stopped.path)
    best, last = checkpoint.names(stopped.checkpoints)
    assert checkpoint.named(stopped.checkpoints, "best") == best == "step-00000060"
    flip(stopped.checkpoints / best / "params.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_fit", killed)
        with pytest.raises(KeyboardInterrupt):
            convax.resume(stopped.path)
    assert names(stopped) == [f"damaged-{best}", "last", last]
    return stopped


def test_resume_killed_after_fallback_still_finds_best(whole, fallen_back):
    run = convax.resume(fallen_back.path)
    assert final_bytes(run) == final_bytes(whole)
    assert without_timings(run) == without_timings(whole)


def test_resume_under_changes_forgets_lost_best(fallen_back):
    """The best of those that are saved from now on is, though one that is gone was better."""
    change_config(fallen_back, optimizer__learning_rate=300.0)
    with pytest.raises(RunError, match=r"learning_rate: 0.01 -> 300\.0"):
        convax.resume(fallen_back.path)
    run = convax.resume(fallen_back.path, force=True)
    accuracies = [r["accuracy"] for r in run.metrics() if r["kind"] == "validation"]
    assert accuracies[-1] < max(accuracies)
    assert checkpoint.named(run.checkpoints, "best") == "step-00000060"


@pytest.mark.parametrize("written", [0, 1])
def test_allow_nonfinite_survives_kill_between_files(stopped, monkeypatch, written):
    """Whichever of its two files is there by then, the run goes on."""
    replace, calls = atomic_io.atomic_write, []

    def killed(path, content):
        calls.append(path.name)
        if len(calls) > written:
            raise KeyboardInterrupt
        replace(path, content)

    experiment = prepare(stopped.config())
    monkeypatch.setattr(atomic_io, "atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        resume.allow_nonfinite(stopped, experiment, None, 7)
    assert len(calls) == written + 1
    monkeypatch.undo()
    resume.check_unchanged(stopped, prepare(stopped.config()), force=False)
    assert resume.allow_nonfinite(stopped, experiment, None, 7).config == stopped.config()
    assert stopped.config().training.skip_nonfinite == 7
    assert stopped.info()["provenance"]["config"]["training"]["skip_nonfinite"] == 7
    resume.allow_nonfinite(stopped, experiment, None, 2**40)
    assert stopped.config().training.skip_nonfinite == 2**31 - 1


def test_resume_with_damaged_best_checkpoint_needs_force(tiny, tmp_path):
    """Which will not come again: it was behind the ones that are left."""
    raw = load_config(tiny).model_dump(exclude_none=True)
    raw["schedule"] = {"name": "constant"}
    tiny.write_text(tomli_w.dumps(raw))
    config = load_config(
        tiny, ["early_stopping.metric=loss", "optimizer.learning_rate=1.0", "training.steps=140"]
    )
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "run", display=Recorder(134))
    run = open_run(tmp_path / "run")
    best = checkpoint.named(run.checkpoints, "best")
    assert best is not None
    assert best not in checkpoint.names(run.checkpoints)[:2]
    flip(run.checkpoints / best / "params.safetensors")
    with pytest.raises(CheckpointError, match=r"damaged: its SHA-256 .*--checkpoint last"):
        convax.load(run.path)
    with pytest.raises(
        RunError, match="the best checkpoint is damaged; restore it, or go on without"
    ):
        convax.resume(run.path)
    convax.resume(run.path, force=True)
    assert checkpoint.named(run.checkpoints, "best") != best


def test_resume_refuses_or_cuts_damaged_metrics(whole, stopped):
    lines = stopped.metrics_file.read_text().splitlines(keepends=True)
    stopped.metrics_file.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(RunError, match=r"metrics.jsonl: damaged: .* does not affect the training"):
        convax.resume(stopped.path)
    run = convax.resume(stopped.path, force=True)
    assert (
        final_bytes(run)["last/params.safetensors"] == final_bytes(whole)["last/params.safetensors"]
    )
    assert without_timings(run) == without_timings(whole)[:1] + without_timings(whole)[2:]


def test_resume_rewrites_missing_run_json_and_dataset_json(whole, stopped):
    for name in ("run.json", "dataset.json"):
        (stopped.path / name).unlink()
    run = convax.resume(stopped.path)
    assert (
        final_bytes(run)["last/params.safetensors"] == final_bytes(whole)["last/params.safetensors"]
    )
    assert run.dataset() == whole.dataset()
    assert run.info()["status"] == "finished"


@pytest.mark.parametrize("name", ["run.json", "config.toml"])
def test_resume_says_to_remove_unreadable_file(whole, stopped, name):
    (stopped.path / name).write_text("{")
    with pytest.raises(RunError, match=r"remove it, and `convax train --resume .*` writes"):
        convax.resume(stopped.path)
    (stopped.path / name).unlink()
    resumed = final_bytes(convax.resume(stopped.path))
    assert resumed["last/params.safetensors"] == final_bytes(whole)["last/params.safetensors"]


def test_resume_shows_counts_of_changed_data(stopped, tiny, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny), tmp_path / "run", display=Recorder(20))
    import numpy as np

    arrays = dict(np.load(tmp_path / "tiny.npz"))
    arrays |= {key: arrays[key][:-3] for key in ("x_train", "y_train")}
    np.savez(tmp_path / "tiny.npz", **arrays)
    with pytest.raises(RunError, match=r"data.counts.train: 110 -> 107"):
        convax.resume(tmp_path / "run")


def test_manifest_holds_provenance(whole):
    name = checkpoint.named(whole.checkpoints, "last")
    manifest = checkpoint.read_manifest(whole.checkpoints / name)
    provenance = manifest["provenance"]
    assert provenance["data"] == whole.dataset().fingerprint
    assert {"convax", "jax", "jaxlib", "numpy", "python"} <= provenance["versions"].keys()
    assert len(provenance["code"]) == len(provenance["config"]) == 64
    assert (
        json.loads((whole.path / "run.json").read_text())["provenance"]["code"]
        == provenance["code"]
    )


def test_latest_valid_is_none_without_checkpoints(stopped):
    shutil.rmtree(stopped.checkpoints)
    stopped.checkpoints.mkdir()
    assert resume.latest_valid(stopped, None, Recorder(), force=False) is None
