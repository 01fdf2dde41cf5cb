"""Several networks as one, mirror images, and the temperature of a run."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference.calibrate import calibrate
from convax.inference.calibration.file import CalibrationError
from convax.inference.ensemble import EnsembleError, check_compatible, list_runs
from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.experiments.study import train_study
from convax.training.run.directory import Run, RunError
from convax.training.run.load_model import load_model
from convax.training.run.study_directory import Study
from convax.training.tasks.classification import calibration as metrics
from convax.training.tasks.embedding import task
from convax.training.tasks.registry import TASKS
from tests.tiny import write_tiny


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two seeds, on labels of which some are wrong: no network is always right."""
    folder = tmp_path_factory.mktemp("study")
    config = write_tiny(folder)
    arrays = dict(np.load(folder / "tiny.npz"))
    rng = np.random.default_rng(1)
    for name in ("y_train", "y_test"):
        wrong = rng.random(len(arrays[name])) < 0.25
        arrays[name] = np.where(wrong, rng.integers(0, 3, len(wrong)), arrays[name])
        arrays[name] = arrays[name].astype(np.uint8)
    np.savez(folder / "tiny.npz", **arrays)
    config.write_text(config.read_text().replace("steps = 60", "steps = 40"))
    return train_study(load_config(config), folder / "study", seeds=(0, 1), batching="map")


@pytest.fixture
def fresh(study, tmp_path):
    """A copy of the study, to be changed."""
    shutil.copytree(study.path, tmp_path / "fresh")
    return Study(tmp_path / "fresh")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).integers(0, 256, (7, 6, 6, 1), dtype=np.uint8)


def seeds_of(study):
    return [study.path / f"seed-{seed}" for seed in (0, 1)]


def test_an_ensemble_is_the_mean_in_one_program(study, images):
    runs = seeds_of(study)
    stds = [Run(run).dataset().preprocessing.std for run in runs]
    assert stds[0] != stds[1]  # each has its own split, and the statistics of that
    alone = [convax.load(run)(images) for run in runs]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    together = convax.load(study.path)
    np.testing.assert_allclose(together(images), np.mean(alone, axis=0), rtol=1e-5, atol=1e-7)
    assert together.function._cache_size() == 1
    assert (together.networks, convax.load(runs[0]).networks) == (2, 1)
    assert together.params["dense1"]["kernel"].shape == (2, 64, 16)
    np.testing.assert_array_equal(convax.load(runs)(images), together(images))
    np.testing.assert_array_equal(convax.load([runs[0]])(images), alone[0])
    assert together.top_k(images, 1).classes[0][0] == together.classes[together(images)[0].argmax()]


def test_the_command_line(study, images, tmp_path, command):
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    first, second = seeds_of(study)
    expected = convax.load(study.path, tta=True)(images[0])
    for runs in ((study.path,), (first, "--ensemble", second)):
        code, out, err = command("predict", *runs, tmp_path / "a.png", "--json", "--tta")
        assert (code, err) == (0, "")
        for entry in json.loads(out)["top"]:
            share = expected[int(entry["class"])]
            assert entry["probability"] == pytest.approx(float(share), rel=1e-5)
    code, _, err = command("predict", first, tmp_path / "a.png", "--ensemble", first)
    assert code == 2 and "seed-0: named twice; name each run once" in err


def test_a_network_that_diverged_has_no_voice(fresh, images):
    first, second = seeds_of(fresh)
    Run(first).update_info(status="diverged")
    assert list_runs(fresh.path) == [second]
    Run(second).update_info(status="diverged")
    with pytest.raises(RunError, match="fresh: all networks of this study diverged; there is none"):
        convax.load(fresh.path)


def test_what_is_no_ensemble(fresh):
    about = fresh.info()
    about["members"]["seed-1"] = {"optimizer.learning_rate": 1}
    (fresh.path / "study.json").write_text(json.dumps(about))
    with pytest.raises(EnsembleError, match=r"a sweep, whose runs are not alike; name .*/seed-0$"):
        convax.load(fresh.path)
    with pytest.raises(EnsembleError, match="load: got no runs, need one or more"):
        convax.load([])
    with pytest.raises(RunError, match="no such run directory"):
        convax.load([fresh.path / "seed-0", fresh.path / "nothing"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(classes=("0", "1", "x")), r"together: classes: got \['0', '1', '2'\] in a, .*'x'\] in b"),
        (dict(classes=tuple(map(str, range(99)))), r"99 \(0, 1, 2 \.\.\.\) in b; name runs of one"),
        (dict(image_shape=(6, 7, 1)), r"image shape: got \[6, 6, 1\] in a, \[6, 7, 1\] in b"),
        (dict(size=(8, 9)), r"input.size: got \[8, 8\] in a, \[8, 9\] in b"),
        (dict(fit="resize"), "input.fit: got pad in a, resize in b"),
        (dict(hidden=[17]), r"model: got hidden = \[16\] in a, hidden = \[17\] in b"),
        (dict(loss="mse"), "loss.name: got softmax_cross_entropy in a, mse in b"),
        (dict(task="segmentation"), "task: got classification in a, segmentation in b"),
        (dict(kernel=9), r"arrays: got params/dense1/kernel = \(\(64, 16\), 'float32'\) in a"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_runs_that_do_not_fit_together(whole, change, message):
    ours = load_model(whole.path)
    card, config, params = ours.card, ours.config, ours.params
    match change:
        case {"classes": _} | {"image_shape": _}:
            card = card._replace(**change)
        case {"size": _} | {"fit": _}:
            card = card._replace(preprocessing=card.preprocessing._replace(**change))
        case {"hidden": _}:
            config = config.model_copy(update={"model": config.model.model_copy(update=change)})
        case {"loss": name}:
            loss = config.loss.model_copy(update={"name": name})
            config = config.model_copy(update={"loss": loss})
        case {"task": _}:
            config = config.model_copy(update=change)
        case {"kernel": size}:
            params = {**params, "dense1": {**params["dense1"], "kernel": jnp.zeros((64, size))}}
    theirs = ours._replace(card=card, config=config, params=params)
    with pytest.raises(EnsembleError, match=message):
        check_compatible(["a", "b"], [ours, theirs])


def test_embeddings_have_no_common_space(whole):
    ours = load_model(whole.path)
    ours = ours._replace(config=ours.config.model_copy(update={"task": "embedding"}))
    with pytest.raises(EnsembleError, match="a, b: embeddings of several networks have no common"):
        check_compatible(["a", "b"], [ours, ours])


def test_flips_are_the_mean_over_image_and_mirror_image(whole, images):
    plain, flipped = convax.load(whole.path), convax.load(whole.path, tta=True)
    expected = (plain(images) + plain(images[:, :, ::-1])) / 2
    np.testing.assert_allclose(flipped(images), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(flipped(images), flipped(images[:, :, ::-1]), rtol=1e-5, atol=1e-7)
    floats = images.astype(np.float32) / 255
    np.testing.assert_allclose(flipped(floats), expected, rtol=1e-4, atol=1e-6)


def test_views_of_an_embedding():
    views = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(task.aggregate(views, normalize=False), [[0.5, 0.5]])
    np.testing.assert_allclose(
        task.aggregate(views, normalize=True), [[0.5**0.5, 0.5**0.5]], rtol=1e-6
    )


def test_a_temperature_is_fitted_and_used(fresh, images, command):
    code, out, err = command("calibrate", fresh.path)
    assert (code, err) == (0, "")
    alone = []
    for run in seeds_of(fresh):
        plain, calibrated = convax.load(run), convax.load(run, calibrated=True)
        examples = prepare(Run(run).config()).dataset.validation
        said = plain(examples.images)
        T = metrics.fit_temperature(said, examples.labels)
        about = json.loads((run / "calibration.json").read_text())
        assert about["temperature"] == pytest.approx(T) and abs(T - 1) > 0.01
        assert f"{run}: temperature {T:.4g}\n  validation (20) " in out
        alone.append(metrics.with_temperature(plain(images), T))
        np.testing.assert_allclose(calibrated(images), alone[-1], rtol=1e-4, atol=1e-6)
        truth = about["splits"]["validation"]
        assert truth["after"]["nll"] < truth["before"]["nll"]
        assert truth["before"]["nll"] == pytest.approx(
            metrics.negative_log_likelihood(said, examples.labels)
        )
        assert about["splits"]["test"]["after"]["count"] == 53
    together = convax.load(fresh.path, calibrated=True)(images)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-4, atol=1e-6)

    run = seeds_of(fresh)[0]
    with pytest.raises(
        CalibrationError, match=r"fitted without test-time.*; `convax .*-0 --tta` wri"
    ):
        convax.load(run, calibrated=True, tta=True)
    code, out, _ = command("calibrate", run, "--tta", "--json", "--checkpoint", "last")
    record = json.loads(out)
    assert (
        code == 0 and record["run"] == str(run) and set(record["splits"]) == {"validation", "test"}
    )
    convax.load(run, calibrated=True, tta=True, checkpoint="last")
    with pytest.raises(CalibrationError, match="fitted with test-time augmentation"):
        convax.load(run, calibrated=True, checkpoint="last")


def test_sets_of_classes_are_fitted_and_said(fresh, images, tmp_path, command):
    run = seeds_of(fresh)[0]
    code, out, _ = command("calibrate", run, "--conformal", 0.8)
    assert code == 0 and "  sets of classes, to hold the true one 0.8 of the time:\n" in out
    about = json.loads((run / "calibration.json").read_text())["conformal"]
    truth = about["splits"]["validation"]
    assert (
        f"  {'validation (20)':20} they do {truth['coverage']:.4g}   {truth['size']:.3g} c" in out
    )
    assert truth["count"] == 20 and 0.8 <= truth["coverage"] <= 0.9
    predict = convax.load(run, calibrated=True)
    sets = predict.class_sets(images)
    for row, names in zip(predict(images), sets, strict=True):
        assert list(names) == sorted(names, key=lambda c: -row[predict.classes.index(c)])
        assert {predict.classes[k] for k in range(len(row)) if row[k] >= about["threshold"]} == {
            *names
        }
    assert predict.class_sets(images[0]) == sets[:1]

    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    _, out, _ = command("predict", run, tmp_path / "a.png", "--calibrated", "--json")
    assert json.loads(out)["set"] == list(sets[0])
    _, out, _ = command("predict", run, tmp_path / "a.png", "--calibrated")
    assert out.rstrip().endswith(f"   set: {', '.join(sets[0]) or 'none'}")
    _, out, _ = command("predict", run, tmp_path / "a.png", "--json")
    assert "set" not in json.loads(out)

    with pytest.raises(
        CalibrationError, match="no sets of classes are fitted; `convax calibrate R"
    ):
        convax.load(run).class_sets(images)
    with pytest.raises(CalibrationError, match="no sets"):  # of one network, not of a mean
        command("calibrate", seeds_of(fresh)[1], "--conformal", 0.8)
        convax.load(fresh.path, calibrated=True).class_sets(images)
    code, _, err = command("calibrate", run, "--conformal", 90)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "coverage: got 90, need more than 0 and less than 1; write 0.9, for sets that" in err


def test_a_temperature_that_is_not_this_networks(fresh, images, tmp_path, command):
    run = Run(seeds_of(fresh)[0])
    path = run.path / "calibration.json"
    with pytest.raises(
        CalibrationError, match=r"json: not there: the run is not calibrated; `conv"
    ):
        convax.load(run.path, calibrated=True)
    calibrate(run.path)
    shutil.rmtree(run.checkpoints)
    shutil.copytree(seeds_of(fresh)[1] / "checkpoints", run.checkpoints)  # trained anew, say
    shutil.copy(seeds_of(fresh)[1] / "run.json", run.path)
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    code, _, err = command("predict", run.path, tmp_path / "a.png", "--calibrated")
    assert code == 2 and len(err.splitlines()) == 1
    assert f"{path}: stale: it is of other weights than those of the best checkpoint; `con" in err
    whole = json.loads(path.read_text())
    for text, message in (
        ("{", "damaged: not JSON; `convax calibrate .*` writes it anew"),
        ("[]", "damaged: keys differ"),
        (json.dumps(whole | {"temperature": -1.0}), "damaged: keys differ"),
        (json.dumps(whole | {"digest": None}), "damaged: keys differ"),
        (json.dumps(whole | {"conformal": {"coverage": 0.9}}), "damaged: keys differ"),
    ):
        path.write_text(text)
        with pytest.raises(CalibrationError, match=message):
            convax.load(run.path, calibrated=True)
    path.unlink()
    path.mkdir()
    with pytest.raises(CalibrationError, match="cannot be read: Is a directory"):
        convax.load(run.path, calibrated=True)


def test_what_cannot_be_calibrated(whole, copied, monkeypatch):
    with pytest.raises(
        CalibrationError, match=r"no temperature is optimal, the sharper the better: 20 of 20 valid"
    ):
        calibrate(whole.path)
    assert not (whole.path / "calibration.json").exists()
    loaded = convax.load(whole.path)
    loaded.task = loaded.task._replace(spec=TASKS["segmentation"])
    with monkeypatch.context() as patch:
        patch.setattr("convax.inference.calibrate.load", lambda *a, **k: loaded)
        with pytest.raises(CalibrationError, match="got a run of segmentation, need one of class"):
            calibrate(whole.path)
    text = (copied.path / "config.toml").read_text()
    (copied.path / "config.toml").write_text(text.replace("validation = 20", "validation = 0"))
    card = prepare(copied.config()).card
    copied.write_dataset(copied.dataset()._replace(fingerprint=card.fingerprint))
    with pytest.raises(CalibrationError, match="it has no validation images; train with data"):
        calibrate(copied.path)
