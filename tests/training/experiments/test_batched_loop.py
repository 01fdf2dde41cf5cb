"""Many networks in one program: each is trained as it would be alone."""

import errno
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import convax
from convax.training.common import atomic_io
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.experiments import batched_program
from convax.training.experiments import study as study_module
from convax.training.experiments.study import resume_study, train_study, write_results
from convax.training.experiments.traced_hparams import TRACED, program_of
from convax.training.loop import chunk_loop, context
from convax.training.loop.checkpointing import SaveError, Saver, cannot_write
from convax.training.loop.nonfinite import NonFiniteError
from convax.training.loop.signals import InterruptedRun
from convax.training.run.directory import Run, RunError, open_run
from convax.training.run.study_directory import Study, is_study
from tests.training.loop.test_loop import Metronome, Recorder, final_bytes
from tests.training.loop.test_plateau import PLATEAU

SEEDS = (0, 5)
# Everything that draws random numbers, and the statistics of a norm.
RANDOM = """
[augment]
flip = true
translate = 1
[model]
layers = [
    { type = "conv", features = 4, window = 3, padding = "SAME" },
    { type = "batch_norm" },
    { type = "relu" },
    { type = "flatten" },
    { type = "dropout", rate = 0.3 },
    { type = "dense", features = 3 },
]
[loss]"""
FEW = ["training.steps=12", 'training.evaluate_every="5 steps"', "training.log_every=4"]


def with_momentum(tiny):
    """The tiny config without Adam, which makes steps of a gradient that is zero but for rounding."""
    text = tiny.read_text()
    adam = text[text.index('name = "adam"') : text.index("[schedule]")]
    other = 'name = "sgd"\nlearning_rate = 0.05\nmomentum = 0.9\nnesterov = false\n'
    return text.replace(adam, other + "weight_decay = 0.0\n")


@pytest.fixture
def random(tiny):
    """A config with dropout, augmentation and batch norm."""
    text = with_momentum(tiny)
    model = text[text.index("[model]") : text.index("[loss]")]
    tiny.write_text(text.replace(f"{model}[loss]", RANDOM.lstrip()))
    return tiny


def with_plateau(tiny):
    """The tiny config with a learning rate that the last two evaluations lower."""
    return load_config(tiny, PLATEAU)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A study of two seeds in each batching, never stopped; not to be changed."""
    from tests.tiny import write_tiny

    folder = tmp_path_factory.mktemp("studies")
    config = with_plateau(write_tiny(folder))
    return {
        batching: train_study(config, folder / batching, seeds=SEEDS, batching=batching)
        for batching in ("map", "vmap")
    }


def weights(run, pointer="last"):
    """Parameters and state of a checkpoint."""
    folder = run.checkpoints / (run.checkpoints / pointer).read_text().strip()
    parts = (safetensors.numpy.load_file(folder / f"{p}.safetensors") for p in ("params", "state"))
    return {name: array for part in parts for name, array in part.items()}


def bytes_of(study):
    return {name: final_bytes(study.run(name)) for name in study.members}


def validations(run):
    return [
        (r["step"], r["loss"], r["accuracy"]) for r in run.metrics() if r["kind"] == "validation"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_member_equals_run_trained_alone(random, tmp_path, batching):
    """First parameters, split, batches, augmentation, dropout, statistics: up to rounding."""
    config = load_config(random, FEW)
    study = train_study(config, tmp_path / "study", seeds=SEEDS, batching=batching)
    arrays = []
    for seed in SEEDS:
        alone = convax.train(load_config(random, [*FEW, f"seed={seed}"]), tmp_path / f"{seed}")
        member = open_run(study.path / f"seed-{seed}")
        assert member.config() == alone.config()
        assert member.dataset() == alone.dataset()
        expected, actual = weights(alone), weights(member)
        assert expected.keys() == actual.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(validations(member), validations(alone), rtol=1e-4)
        tests = [run.info()["result"]["test"] for run in (member, alone)]
        assert tests[0]["accuracy"] == tests[1]["accuracy"]
        arrays.append(actual)
    # The tolerance tells seeds apart.
    assert any(np.abs(arrays[0][n] - arrays[1][n]).max() > 0.01 for n in arrays[0])


def test_results_hold_means_and_standard_deviations(studies):
    study = studies["map"]
    results = json.loads((study.path / "results.json").read_text())
    accuracies = [study.run(name).info()["result"]["test"]["accuracy"] for name in study.members]
    losses = [study.run(name).info()["result"]["test"]["loss"] for name in study.members]
    assert results["test"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    a, b = losses
    assert results["test"]["loss"]["std"] == pytest.approx(abs(a - b) / math.sqrt(2))
    assert [found["step"] for found in results["validation"]] == [20, 40, 60]
    assert all(found["loss"]["n"] == 2 for found in results["validation"])
    table = (study.path / "results.csv").read_text().splitlines()
    assert table[0].startswith("name,seed,status,step,validation_loss,validation_accuracy")
    assert [line.split(",")[:4] for line in table[1:]] == [
        ["seed-0", "0", "finished", "60"],
        ["seed-5", "5", "finished", "60"],
    ]
    assert (study.path / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_members_lower_their_learning_rate(studies, batching):
    for name in studies[batching].members:
        run = studies[batching].run(name)
        schedule = prepare(run.config()).schedule
        for record in run.metrics():
            if record["kind"] == "train":
                scale = 0.5 if record["step"] > 40 else 1
                assert record["learning_rate"] == scale * float(schedule(record["step"] - 1))
        last = safetensors.numpy.load_file(run.checkpoints / "step-00000060/training.safetensors")
        assert last["rate_scale"] == 0.25


def test_members_can_be_evaluated_and_reported(studies, command):
    run = studies["map"].path / "seed-5"
    code, out, err = command("evaluate", run)
    assert (code, err) == (0, "")
    assert "accuracy" in out
    assert command("report", run)[0] == 0
    assert (run / "plots" / "curves.png").is_file()


class SignaledAgain(Saver):
    """A second SIGTERM comes while what the first one asked for is being saved."""

    def _write(self, snapshot, loop_state, logged):
        if snapshot.step % 20:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
        super()._write(snapshot, loop_state, logged)


@pytest.mark.parametrize(("batching", "interrupt_at"), [("map", 7), ("vmap", 40)])
def test_resume_study_after_signals_is_bit_identical(
    studies, tiny, tmp_path, monkeypatch, batching, interrupt_at
):
    out, fatal = tmp_path / "study", []
    monkeypatch.setattr(context, "Saver", SignaledAgain)
    before = signal.signal(signal.SIGTERM, lambda *_: fatal.append("would have ended the process"))
    try:
        with pytest.raises(InterruptedRun, match=r"--resume .*study"):
            display = Recorder(interrupt_at)
            train_study(with_plateau(tiny), out, seeds=SEEDS, batching=batching, display=display)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert fatal == []
    monkeypatch.undo()
    resumed = resume_study(out)
    assert bytes_of(resumed) == bytes_of(studies[batching])
    for name in resumed.members:
        assert validations(resumed.run(name)) == validations(studies[batching].run(name))
        steps = [r["step"] for r in resumed.run(name).metrics() if r["kind"] == "train"]
        assert steps == sorted(set(steps))


class Killed(BaseException):
    """As a kill: nobody catches it."""


@pytest.mark.parametrize("batching", ["map", "vmap"])
def test_resume_study_with_members_apart_is_bit_identical(
    studies, tiny, tmp_path, monkeypatch, batching
):
    """A kill between the checkpoints of two members, here at step 23, in the middle of a window."""
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(3, interrupt_at=23))
    saved = []

    class Dies(Saver):
        def save(self, train_state, loop_state):
            saved.append(int(train_state.step))
            if saved.count(23) == 2:
                raise Killed
            super().save(train_state, loop_state)

    monkeypatch.setattr(context, "Saver", Dies)
    with pytest.raises(Killed):
        train_study(with_plateau(tiny), tmp_path / "study", seeds=SEEDS, batching=batching)
    last = [(tmp_path / "study" / f"seed-{s}/checkpoints/last").read_text() for s in SEEDS]
    assert last == ["step-00000023\n", "step-00000020\n"]
    monkeypatch.undo()
    assert bytes_of(resume_study(tmp_path / "study")) == bytes_of(studies[batching])


def flip_last_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("of", "damage", "said"),
    [
        ("checkpoint", flip_last_bit, "training.safetensors"),
        ("best", Path.unlink, "best: damaged: the best checkpoint is that of step"),
        ("best", lambda file: file.write_text("step-0000"), "best"),
        ("metrics", Path.unlink, "metrics.jsonl: damaged: its lines are not those"),
        ("metrics", lambda file: file.write_bytes(file.read_bytes()[:99]), "metrics.jsonl: damaged"),
    ],
)  # fmt: skip
def test_resume_study_refuses_damage_of_a_finished_member(studies, tmp_path, of, damage, said):
    """It is not trained again, so nothing else would find it before its results are read."""
    study = Study(tmp_path / "study")
    shutil.copytree(studies["map"].path, study.path)
    running = study.info() | {"status": "running"}
    (study.path / "study.json").write_text(json.dumps(running))
    member = next(iter(study.members))
    run = study.run(member)
    last = run.checkpoints / (run.checkpoints / "last").read_text().strip()
    files = {"checkpoint": last / "training.safetensors", "metrics": run.metrics_file}
    damage(files.get(of, run.checkpoints / of))
    message = rf"{said}.*; {member} is finished: restore it, or go on .* --force"
    with pytest.raises(RunError, match=message):
        resume_study(study.path)
    if of == "checkpoint":
        resume_study(study.path, force=True)
        assert study.info()["status"] == "finished"


def test_resume_study_makes_missing_member(studies, tiny, tmp_path):
    study = train_study(with_plateau(tiny), tmp_path / "study", seeds=SEEDS, batching="map")
    about = study.info()
    (study.path / "study.json").write_text(json.dumps(about | {"status": "running"}))
    shutil.rmtree(study.run("seed-0").path)
    assert bytes_of(resume_study(study.path)) == bytes_of(studies["map"])


def test_resume_study_finds_data_that_moved(unfinished, tmp_path, command):
    data = Path(unfinished.config().data.path)
    moved, other = tmp_path / "moved.npz", tmp_path / "other.npz"
    shutil.copy(data, moved)
    arrays = dict(np.load(data))
    np.savez(other, **arrays | {"x_train": 255 - arrays["x_train"]})
    code, _, err = command("train", "--resume", unfinished.path, "--data", other)
    assert code == 2 and f"--data: {other}: not the data of" in err
    assert unfinished.config().data.path == str(data)
    code, out, err = command("train", "--resume", unfinished.path, "--data", moved)
    assert code == 0 and "those of the study, by their fingerprint" in out, err
    assert unfinished.info()["status"] == "finished"
    configs = [unfinished.config(), *(unfinished.run(n).config() for n in unfinished.members)]
    assert {config.data.path for config in configs} == {str(moved)}


@pytest.mark.parametrize("at", ["circumstances", "study.toml", "study.json"])
def test_study_killed_before_it_exists_can_start_again(tiny, tmp_path, monkeypatch, at):
    def dies(*_):
        raise Killed

    def write(path, content):
        path.write_bytes(content[:9])
        if at in path.name:
            raise Killed

    out = tmp_path / "study"
    if at == "circumstances":
        monkeypatch.setattr(study_module, at, dies)
    else:
        monkeypatch.setattr(atomic_io, "write_fsync", write)
    with pytest.raises(Killed):
        train_study(load_config(tiny), out, seeds=SEEDS)
    assert not out.exists()
    monkeypatch.undo()
    monkeypatch.setattr(study_module, "_go_on", dies)
    with pytest.raises(Killed):
        train_study(load_config(tiny), out, seeds=SEEDS)
    assert is_study(out)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(RunError, match=r"study: exists already; .* `convax train --resume "):
        train_study(load_config(tiny, ["data.path=not/read"]), out, seeds=SEEDS)


def test_study_that_cannot_be_created_is_run_error(tiny, tmp_path):
    with pytest.raises(RunError, match=r"tiny\.toml/study: cannot be created: Not a directory"):
        train_study(load_config(tiny), tiny / "study", seeds=SEEDS)


@pytest.fixture
def unfinished(studies, tmp_path):
    """A copy of a study whose results are not written, and one of whose runs has not ended."""
    study = Study(shutil.copytree(studies["map"].path, tmp_path / "study"))
    (study.path / "study.json").write_text(json.dumps(study.info() | {"status": "running"}))
    study.run("seed-0").update_info(status="running")
    return study


def test_resume_refuses_member_of_unfinished_study(unfinished, command, monkeypatch):
    """In the program of one network it would be rounded otherwise."""
    run = unfinished.run("seed-0").path
    monkeypatch.chdir(run)
    for path, study in ((run, unfinished.path), (".", unfinished.path)):
        for more in ([], ["--force"], ["--skip-nonfinite=1"]):
            code, _, err = command("train", "--resume", path, *more)
            assert (code, err.count("\n")) == (2, 1), err
            assert err.startswith(f"error: {path}: one of the runs of a study that has not ended")
            assert err.endswith(f"; continue the study: convax train --resume {study}\n")
    # A folder beside the runs is none of them, and once the study has ended they stand alone.
    other = shutil.copytree(unfinished.run("seed-5").path, unfinished.path / "copy")
    assert "copy: this run is finished" in command("train", "--resume", other)[2]
    resume_study(unfinished.path)
    assert "seed-0: this run is finished" in command("train", "--resume", run)[2]
    (unfinished.path / "study.json").write_text('{"members": 2}')  # of somebody else
    assert "seed-0: this run is finished" in command("train", "--resume", run)[2]


def test_messages_about_member_name_study(unfinished):
    run = unfinished.run("seed-0")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    again = f"convax train --resume {unfinished.path}"
    text = "a file could not be written: No space left on device"
    assert str(cannot_write(run, full)) == (
        f"{run.path}: {text}; step-00000060 is whole; make room, then: {again}"
    )
    assert str(cannot_write(Run(unfinished.path), full)) == (
        f"{unfinished.path}: {text}; what its runs have saved is whole; make room, then: {again}"
    )
    run.update_info(provenance=run.info()["provenance"] | {"code": "other"})
    with pytest.raises(RunError, match=f"different result with: {again} --force$"):
        resume_study(unfinished.path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match=f"not JSON; remove it, and `{again}` writes it anew"):
        resume_study(unfinished.path)


def test_resume_study_rewrites_missing_run_json(studies, unfinished):
    for name in unfinished.members:
        (unfinished.run(name).path / "run.json").unlink()
    assert bytes_of(resume_study(unfinished.path)) == bytes_of(studies["map"])


def test_damaged_study_json_is_to_be_restored(unfinished, command):
    run = unfinished.run("seed-0")
    (unfinished.path / "study.json").write_text("{")
    for path in (unfinished.path, run.path):
        code, _, err = command("train", "--resume", path)
        assert code == 2
        assert "study.json: damaged: not JSON; restore it; without it the study cannot" in err
        assert err.count("\n") == 1
    assert run.again == f"convax train --resume {unfinished.path}"


def test_full_disk_in_study_is_save_error(tiny, tmp_path, monkeypatch):
    log = Run.log

    def full(run, record):
        if run.path.name == "seed-5" and record["kind"] == "validation":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        log(run, record)

    monkeypatch.setattr(Run, "log", full)
    message = (
        "study/seed-5: a file could not be written: No space left on device; nothing had been "
        r"saved yet; make room, then: convax train --resume \S*/study$"
    )
    with pytest.raises(SaveError, match=message):
        train_study(load_config(tiny, FEW), tmp_path / "study", seeds=SEEDS)
    monkeypatch.undo()
    monkeypatch.setattr(
        study_module,
        "write_results",
        lambda _: full(Run(tmp_path / "seed-5"), {"kind": "validation"}),
    )
    with pytest.raises(SaveError, match=r"study: a file could not be written: .* runs have saved"):
        resume_study(tmp_path / "study")


def test_resume_refuses_finished_study(studies):
    with pytest.raises(RunError, match="this study is finished; nothing to resume"):
        resume_study(studies["map"].path)


def test_evaluate_refuses_study(studies, command):
    code, _, err = command("evaluate", studies["map"].path)
    assert code == 2
    assert "a study of several runs; name one of them" in err


@pytest.mark.slow
def test_chunk_length_changes_no_bit_of_study(studies, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_loop, "ChunkSizer", lambda: Metronome(1))
    study = train_study(with_plateau(tiny), tmp_path / "study", seeds=SEEDS, batching="vmap")
    assert bytes_of(study) == bytes_of(studies["vmap"])


SWEEP = """
[sweep]
method = "grid"
[sweep.keys]
optimizer.learning_rate = [{rates}]
"""


@pytest.mark.parametrize("batching", ["vmap"])
def test_diverging_member_does_not_stop_others(tiny, tmp_path, batching):
    tiny.write_text(tiny.read_text().replace("eps = 1e-8", "eps = 1e-30"))
    file = tmp_path / "sweep.toml"
    file.write_text(tiny.read_text() + SWEEP.format(rates="0.01, 1e30"))
    study = train_study(load_config(file), tmp_path / "study", batching=batching)
    good, bad = (study.run(f"point-{i}") for i in (0, 1))
    assert good.info()["status"] == "finished"
    assert bad.info()["status"] == "diverged"
    alone = convax.train(load_config(tiny), tmp_path / "alone")
    for name, array in weights(alone).items():
        np.testing.assert_allclose(weights(good)[name], array, rtol=1e-4, atol=2e-5)
    results = json.loads((study.path / "results.json").read_text())
    assert results["diverged"] == ["point-1"]
    assert results["best"] == "point-0"
    assert results["members"][1]["test"] is None
    assert results["members"][1]["diverged_at_step"] == bad.info()["diverged_at_step"]


def test_results_leave_out_diverged_member(studies, tmp_path):
    study = Study(shutil.copytree(studies["map"].path, tmp_path / "study"))
    study.run("seed-0").update_info(status="diverged", diverged_at_step=30, result={})
    results = write_results(study)
    test = study.run("seed-5").info()["result"]["test"]
    assert results["diverged"] == ["seed-0"]
    assert results["test"]["accuracy"] == {"mean": test["accuracy"], "std": None, "n": 1}
    assert [found["loss"]["n"] for found in results["validation"]] == [1, 1, 1]


@pytest.mark.slow
def test_skipped_step_of_member_leaves_others_alone(tiny, tmp_path):
    """One steps over its first step that is not finite, and is behind from there on."""
    tiny.write_text(tiny.read_text().replace("eps = 1e-8", "eps = 1e-30"))
    file = tmp_path / "sweep.toml"
    file.write_text(tiny.read_text() + SWEEP.format(rates="0.01, 1e30"))
    one = ["training.skip_nonfinite=1", "training.steps=30"]
    study = train_study(load_config(file, one), tmp_path / "study")
    good, bad = (study.run(f"point-{i}") for i in (0, 1))
    skipped = [r["step"] for r in bad.metrics() if r["kind"] == "skipped"]
    assert len(skipped) == 1
    assert bad.info()["diverged_at_step"] > skipped[0]
    assert good.info()["status"] == "finished"
    alone = convax.train(load_config(tiny, one), tmp_path / "alone")
    for name, array in weights(alone).items():
        np.testing.assert_allclose(weights(good)[name], array, rtol=1e-4, atol=2e-5)
    steps = [[r["step"] for r in run.metrics() if r["kind"] == "train"] for run in (good, alone)]
    assert steps[0] == steps[1]


def test_study_of_diverging_members_is_nonfinite_error(tiny, tmp_path):
    config = load_config(tiny, ["optimizer.learning_rate=1e30", "optimizer.eps=1e-30"])
    with pytest.raises(NonFiniteError, match=r"all 2 networks diverged; lower optimizer\.learning"):
        train_study(config, tmp_path / "study", seeds=SEEDS)


@pytest.mark.slow
def test_members_stop_early_on_their_own(tiny, tmp_path):
    overrides = [
        "early_stopping.target=0.9",
        "training.steps=80",
        "training.evaluate_every='4 steps'",
    ]
    study = train_study(load_config(tiny, overrides), tmp_path / "study", seeds=[0, 1, 2, 5])
    for name in study.members:
        result = study.run(name).info()["result"]
        alone = convax.train(load_config(tiny, [*overrides, f"seed={name[5:]}"]), tmp_path / name)
        assert result["step"] == alone.info()["result"]["step"]
        assert result["stopped_early"] == alone.info()["result"]["stopped_early"]
    assert len({study.run(name).info()["result"]["step"] for name in study.members}) > 1


ADAM = """
optimizer.learning_rate = { log_uniform = [1e-3, 1e-1] }
optimizer.weight_decay = { uniform = [0.0, 0.1] }
optimizer.b1 = { uniform = [0.5, 0.9] }
optimizer.b2 = { uniform = [0.9, 0.99] }
optimizer.eps = { log_uniform = [1e-8, 1e-3] }
optimizer.clip_norm = { log_uniform = [0.1, 1.0] }
loss.label_smoothing = { uniform = [0.0, 0.3] }
"""
MOMENTUM = """
optimizer.learning_rate = { log_uniform = [1e-3, 1e-1] }
optimizer.momentum = { uniform = [0.5, 0.9] }
loss.margin = { uniform = [0.5, 1.0] }
"""
RANDOM_SWEEP = '\n[sweep]\nmethod = "random"\ncount = 2\nseed = 1\n[sweep.keys]\n'


def test_traced_keys_are_all_tested():
    assert {line.partition(" ")[0] for line in (ADAM + MOMENTUM).split("\n") if line} == {*TRACED}


@pytest.mark.parametrize(
    "keys",
    [pytest.param(ADAM, id="adam"), pytest.param(MOMENTUM, id="momentum", marks=pytest.mark.slow)],
)
def test_traced_hparams_train_as_alone(tiny, tmp_path, keys):
    """One program for two points of a sweep, each as it would be alone."""
    if keys == MOMENTUM:
        text = with_momentum(tiny).replace("seed = 3", 'seed = 3\ntask = "embedding"')
        loss = '"softmax_cross_entropy"\nlabel_smoothing = 0.0'
        tiny.write_text(text.replace(loss, '"contrastive"\nmargin = 1.0'))
    file = tmp_path / "sweep.toml"
    file.write_text(tiny.read_text() + RANDOM_SWEEP + keys)
    study = train_study(load_config(file, FEW), tmp_path / "study")
    assert len({program_of(study.run(n).config()) for n in study.members}) == 1
    found = []
    for name, own in study.members.items():
        alone = load_config(tiny, [*FEW, *(f"{key}={value}" for key, value in own.items())])
        found.append(weights(study.run(name)))
        for path, array in weights(convax.train(alone, tmp_path / name)).items():
            np.testing.assert_allclose(found[-1][path], array, rtol=1e-3, atol=1e-4)
    assert any(np.abs(found[0][p] - found[1][p]).max() > 1e-3 for p in found[0])


def test_default_batching_is_that_of_device(studies):
    assert batched_program.default_batching() == (
        "map" if jax.default_backend() == "cpu" else "vmap"
    )
    assert Study(studies["vmap"].path).info()["form"] == "vmap"
