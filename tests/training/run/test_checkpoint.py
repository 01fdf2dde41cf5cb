"""Checkpoints: whole or absent, and damage is noticed."""

import hashlib
import json
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from convax.training.common.train_state import TrainState
from convax.training.config.schema import load_config
from convax.training.run import checkpoint
from convax.training.run.checkpoint import CheckpointError, DamagedError
from convax.training.run.load_model import load_model
from convax.training.run.provenance import summarized
from tests.tiny import untrained, write_tiny


class Moments(NamedTuple):
    mu: Any
    count: Any


def some_state(step=3) -> TrainState:
    params = {"conv1": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "bias": jnp.float32(-0.0)}
    moments = (Moments(jax.tree.map(lambda p: p * 2, params), jnp.int32(step)), ())
    half = {"norm": {"mean": jnp.array([1.5, -2], jnp.bfloat16)}, "none": jnp.zeros((0, 4))}
    return TrainState(params, half, moments, jnp.int32(step), jax.random.key(7))


def template(state):
    return jax.eval_shape(lambda: state)


def save(folder, train_state, memory):
    return checkpoint.write(folder, checkpoint.snapshot(train_state), memory)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture
def folder(tmp_path):
    name = save(tmp_path, some_state(), {"stopping": {"best": 0.5}})
    checkpoint.point(tmp_path, "last", name)
    return tmp_path


def test_checkpoint_restores_bit_for_bit(folder):
    restored = checkpoint.restore(folder, "last", template(some_state()))
    assert_same(restored.train_state, some_state())
    assert restored.memory == {"stopping": {"best": 0.5}}


def test_parameters_stand_alone_under_readable_names(folder):
    arrays = safetensors.numpy.load_file(folder / "step-00000003" / "params.safetensors")
    assert sorted(arrays) == ["bias", "conv1/kernel"]
    state = some_state()
    shapes = template(state)
    params, _, step = checkpoint.restore_network(folder, "best", shapes.params, shapes.state)
    assert_same(params, state.params)
    assert step == 3


def test_best_falls_back_on_last_until_it_is_set(folder):
    later = some_state(9)
    checkpoint.point(folder, "best", save(folder, later, {}))
    assert checkpoint.restore(folder, "best", template(later)).train_state.step == 9
    (folder / "best").unlink()
    assert checkpoint.restore(folder, "best", template(later)).train_state.step == 3


def test_prune_keeps_what_is_pointed_at(folder):
    checkpoint.point(folder, "best", save(folder, some_state(5), {}))
    save(folder, some_state(7), {})
    save(folder, some_state(8), {})
    (folder / ".step-00000009.123").mkdir()
    (folder / ".last.123").write_text("half")
    (folder / "mine").mkdir()
    checkpoint.prune(folder)
    kept = sorted(entry.name for entry in folder.iterdir())
    assert kept == ["best", "last", "mine", "step-00000003", "step-00000005", "step-00000008"]


def test_prune_keeps_the_newest_and_what_is_for_good(tmp_path):
    for step in range(1, 8):
        save(tmp_path, some_state(step), {})
    checkpoint.prune(tmp_path, 2, lambda step: step % 3 == 0)
    assert [checkpoint.step_of(name) for name in checkpoint.names(tmp_path)] == [7, 6, 3]


def test_checkpoint_half_written_is_never_visible(tmp_path, monkeypatch):
    """The process dies at each system call of a save in turn: nothing or all of it is there."""
    import os

    survived = 0
    for deadly in range(40):
        calls = iter(range(100))

        def die_at(function, deadly=deadly, calls=calls):
            def wrapped(*arguments, **keywords):
                if next(calls) == deadly:
                    raise SystemExit
                return function(*arguments, **keywords)

            return wrapped

        target = tmp_path / str(deadly)
        target.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", die_at(os.fsync))
            patch.setattr(checkpoint.Path, "rename", die_at(checkpoint.Path.rename))
            patch.setattr(checkpoint.Path, "open", die_at(checkpoint.Path.open))
            try:
                name = save(target, some_state(), {})
                checkpoint.point(target, "last", name)
                survived += 1
            except SystemExit:
                pass
        whole = [entry for entry in target.iterdir() if entry.name.startswith("step-")]
        for entry in whole:
            checkpoint.point(target, "last", entry.name)
            assert_same(
                checkpoint.restore(target, "last", template(some_state())).train_state, some_state()
            )
        # And the next attempt succeeds over whatever was left behind.
        checkpoint.point(target, "last", save(target, some_state(), {}))
        checkpoint.prune(target)
        assert sorted(e.name for e in target.iterdir()) == ["last", "step-00000003"]
        if survived > 1:
            break
    assert survived > 1
    assert deadly > 8


@pytest.mark.parametrize("file", ["params", "state", "training"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damaged_checkpoint_is_named(folder, file, damage):
    path = folder / "step-00000003" / f"{file}.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    damaged = {"flip": content, "truncate": content[:-1], "empty": b""}
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    message = "cannot be read: No such file" if damage == "remove" else "damaged: its SHA-256"
    with pytest.raises(CheckpointError, match=rf"{file}.safetensors: {message}"):
        checkpoint.restore(folder, "last", template(some_state()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "manifest.json: cannot be read"),
        ("{", "manifest.json: damaged: not a checkpoint's manifest"),
        ("[]", "manifest.json: damaged"),
        ('{"format": 2}', "manifest.json: damaged"),
        ('{"format": 2, "sha256": [], "memory": {}, "step": 3}', "manifest.json: damaged"),
        ('{"format": 2, "sha256": {}, "memory": {}, "step": 3}', "damaged: its SHA-256 differs"),
        ('{"format": 1, "sha256": {}, "memory": {}, "step": 3}', "format 1, but this convax reads"),
    ],
)
def test_checkpoint_with_a_bad_manifest_is_rejected(folder, text, message):
    path = folder / "step-00000003" / "manifest.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(folder, "last", template(some_state()))


@pytest.mark.parametrize("content", [b"", b"elsewhere", b"\xff", b"../step-00000003"])
def test_pointer_to_no_checkpoint_is_rejected(folder, content):
    (folder / "last").write_bytes(content)
    with pytest.raises(CheckpointError, match="last: damaged: it names no checkpoint"):
        checkpoint.restore(folder, "last", template(some_state()))


def test_restore_says_that_nothing_was_saved(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint was saved here; nothing to load"):
        checkpoint.restore(tmp_path, "last", template(some_state()))


def test_checkpoint_of_another_network_is_rejected(folder):
    state = some_state()
    renamed = state._replace(params={"conv2": state.params["conv1"], "bias": state.params["bias"]})
    with pytest.raises(CheckpointError, match=r"of another network: conv1/kernel, conv2/kernel on"):
        checkpoint.restore(folder, "last", template(renamed))
    wider = state._replace(params=state.params | {"bias": jnp.zeros(4)})
    message = r"bias is float32\[\], but the network has float32\[4\]"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(folder, "last", template(wider))


def test_the_manifest_is_json_with_a_checksum_for_each_file(folder):
    manifest = json.loads((folder / "step-00000003" / "manifest.json").read_text())
    assert sorted(manifest["sha256"]) == [
        "params.safetensors",
        "state.safetensors",
        "training.safetensors",
    ]


def test_a_whole_checkpoint_copied_over_another_is_damage(folder):
    save(folder, some_state(9), {})
    shutil.rmtree(folder / "step-00000003")
    shutil.copytree(folder / "step-00000009", folder / "step-00000003")
    state = template(some_state())
    for use in (
        lambda: checkpoint.restore(folder, "last", state),
        lambda: checkpoint.restore_network(folder, "last", state.params, state.state),
        lambda: checkpoint.check(folder, "step-00000003"),
    ):
        with pytest.raises(
            DamagedError, match=r"step-00000003: another checkpoint was copied over it, that of st"
        ):
            use()


def test_arrays_of_another_step_are_damage(folder):
    """Their checksums corrected."""
    place = folder / "step-00000003"
    save(folder, some_state(9), {})
    content = (folder / "step-00000009" / "training.safetensors").read_bytes()
    (place / "training.safetensors").write_bytes(content)
    manifest = checkpoint.read_manifest(place)
    manifest["sha256"]["training.safetensors"] = hashlib.sha256(content).hexdigest()
    manifest["checksum"] = checkpoint.checksum(manifest)
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedError, match="step-00000003: damaged: its arrays are of step 9"):
        checkpoint.restore(folder, "last", template(some_state()))


@pytest.mark.parametrize(
    ("key", "what"), [("seed=4", "data"), ("optimizer.learning_rate=0.02", "config")]
)
def test_a_checkpoint_of_another_run_is_damage(tmp_path, key, what):
    """Of the same step; unless the run went on by force."""
    config, runs = write_tiny(tmp_path), []
    for changes in ([], [key]):
        run, experiment = untrained(load_config(config, changes), tmp_path / f"run-{len(changes)}")
        (name,) = checkpoint.names(run.checkpoints)
        shutil.rmtree(run.checkpoints / name)
        made = summarized(run.info()["provenance"])
        checkpoint.write(run.checkpoints, checkpoint.snapshot(experiment.init()), {}, made)
        load_model(run.path)
        runs.append(run)
    ours, other = (run.checkpoints / name for run in runs)
    shutil.rmtree(ours)
    shutil.copytree(other, ours)
    with pytest.raises(DamagedError, match=f"{name}: a checkpoint of another run, whose {what} di"):
        load_model(runs[0].path)
    runs[0].update_info(forced=[{"step": 0, "changes": ["something"]}])
    load_model(runs[0].path)
