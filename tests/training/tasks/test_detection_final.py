"""Linear classifiers fitted to a detector: from the config to detections."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
import safetensors.numpy

import convax
from convax.inference.export.bundle import export
from convax.inference.export.onnx import export_onnx
from convax.inference.export.verify import verify
from convax.model import region_features
from convax.training.config.schema import ConfigError, load_config
from convax.training.data.preprocess import preprocess
from convax.training.evaluation import evaluate_split, make_eval_step_of
from convax.training.experiment import Experiment, prepare
from convax.training.initialize import init_from_source
from convax.training.loop.progress import Silent
from convax.training.run import checkpoint
from convax.training.tasks.detection import final
from tests.inference.export.test_onnx import onnx as onnx
from tests.inference.export.test_onnx import run_file
from tests.tiny import untrained
from tests.training.tasks.test_detection import path as path  # the config of a Mask R-CNN

MODEL = """model={name="spp_detector", backbone="small", norm="group", width=8, stages=[1],
hidden=256, levels=[2, 1], svm={C=0.1}, roi={batch_size_per_image=8, score_thresh=0.0}}"""
CHANGES = [
    *('task="detection"', 'loss={name="rcnn"}', MODEL, "training={batch_size=4, steps=2}"),
    *('proposals={method="sliding", sides=[6.0, 8.0], ratios=[1.0]}', "data.train=40"),
]


class Notes(Silent):
    """A display that remembers what it is told."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


class Fitted(NamedTuple):
    """A network at its first parameters, these, and those with what is fitted to them."""

    experiment: Experiment
    state: object
    before: dict
    after: dict
    lines: list


@pytest.fixture(scope="module")
def fitted(path):
    experiment, notes = prepare(load_config(path, CHANGES)), Notes()
    params, state, *_ = experiment.init()
    assert experiment.task.finalize is not None
    after = experiment.task.finalize(experiment, params, state, notes.note)
    return Fitted(experiment, state, params, after, notes.lines)


@pytest.mark.slow
def test_linear_maps_take_the_place_of_the_last_layer_once_they_are_fitted(fitted):
    experiment = fitted.experiment
    net, test = experiment.net, experiment.dataset.test
    images = preprocess(test.images, spec=experiment.card.preprocessing)
    read = jax.jit(lambda *given: region_features(net, *given))
    features = read(fitted.before, fitted.state, images, test.labels.proposals).features
    svm = jax.tree.map(np.asarray, fitted.after["svm"])
    margins = svm["scale"] * np.asarray(features) @ svm["kernel"] + svm["bias"]
    logits = np.asarray(features) @ fitted.before["predictor"]["logits"]["kernel"]
    share = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    step, scores = make_eval_step_of(experiment), (share[..., 1:], 1 / (1 + np.exp(-margins)))
    ap = []
    for params, expected in zip((fitted.before, fitted.after), scores, strict=True):
        found = evaluate_split(
            experiment.task, step, params, fitted.state, experiment.dataset, "test"
        )
        best = expected.max(axis=(1, 2))
        np.testing.assert_allclose(found.collected.detections.scores[:, 0], best, rtol=1e-4)
        ap.append(found.ap50)
    assert ap[0] < 0.1 and ap[1] > 0.3, "of features that nobody trained"


def test_nothing_else_changes_and_progress_is_told(fitted):
    for name in fitted.before.keys() - set(final.PARTS):
        assert fitted.after[name] is fitted.before[name]
    for name in final.PARTS:
        before, after = fitted.before[name], fitted.after[name]
        assert jax.tree.map(np.shape, before) == jax.tree.map(np.shape, after)
        assert not any(leaf.any() for leaf in jax.tree.leaves(before))
        assert all(leaf.any() for leaf in jax.tree.leaves(after))
    kinds = dict.fromkeys(line.partition(":")[0] for line in fitted.lines)
    assert list(kinds)[:2] == ["features", "SVMs"]
    assert fitted.lines[-1].startswith("boxes: fitted to ")


def test_features_computed_anew_come_to_the_same_bytes(fitted, monkeypatch):
    monkeypatch.setattr(final, "KEPT", 0)
    experiment, notes = fitted.experiment, Notes()
    assert experiment.task.finalize is not None
    again = experiment.task.finalize(experiment, fitted.before, fitted.state, notes.note)
    assert notes.lines[0].endswith("computed anew in each round")
    for part in final.PARTS:
        jax.tree.map(np.testing.assert_array_equal, again[part], fitted.after[part])


@pytest.mark.slow
def test_what_is_fitted_is_exported(fitted, onnx, tmp_path):
    run, _ = untrained(fitted.experiment.config, tmp_path / "run", params=fitted.after)
    live, test = convax.load(run.path), fitted.experiment.dataset.test
    given = test.images[:2], test.labels.proposals[:2]
    expected = live.function(live.params, live.state, *given)
    export(run.path, tmp_path / "bundle", platforms=("cpu",))
    assert verify(tmp_path / "bundle").difference < 1e-5
    weights = safetensors.numpy.load_file(tmp_path / "bundle" / "weights.safetensors")
    svm = np.asarray(fitted.after["svm"]["kernel"])
    np.testing.assert_array_equal(weights["params/svm/kernel"], svm)
    assert export_onnx(run.path, tmp_path / "net.onnx").difference < 1e-5
    said, _ = run_file(tmp_path / "net.onnx", given[0], proposals=given[1])
    for got, wanted in zip(said, expected[:3], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_numbers_of_the_fits_are_checked(path):
    with pytest.raises(ConfigError, match=r"model\.svm.*: bad C: got 0.0, need a number above 0"):
        load_config(path, [*CHANGES, "model.svm.C=0.0"])
    with pytest.raises(ConfigError, match=r"model.svm.rate: unknown key"):
        load_config(path, [*CHANGES, "model.svm.rate=1"])
    empty = load_config(path, [*CHANGES, "model.svm={}"])
    assert empty.model.svm.C == 0.001 and empty.model.svm.rounds == 3


def test_init_from_leaves_the_fits_to_a_network_without_any(path, tmp_path):
    run, _ = untrained(load_config(path, CHANGES), tmp_path / "run")
    plain = [MODEL.replace("svm={C=0.1}, ", "") if c is MODEL else c for c in CHANGES]
    config = load_config(path, [*plain, f"init_from.path={run.path}"])
    state, taken = init_from_source(prepare(config))
    assert state.params.keys() == {"backbone", "head", "predictor"}
    assert taken is not None and not taken.initial
    assert {name.partition("/")[0] for name in taken.left} == set(final.PARTS)


@pytest.mark.slow
def test_a_training_killed_in_its_last_stage_ends_with_the_fits(path, tmp_path, monkeypatch):
    def kill(*given, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(final, "fit_refinement", kill)
        convax.train(load_config(path, CHANGES), tmp_path / "run")
    notes, experiment = Notes(), prepare(load_config(path, CHANGES))
    run = convax.resume(tmp_path / "run", display=notes)
    said = [line.partition(":")[0] for line in notes.lines]
    order = [said.index(name) for name in ("features", "SVMs", "boxes", "test")]
    assert order == sorted(order)

    name = checkpoint.named(run.checkpoints, "best")
    assert name == checkpoint.name_of(3)
    begun = checkpoint.read_manifest(run.checkpoints / name)["memory"]["finalized_from"]
    before, after = (
        checkpoint.read(run.checkpoints, name, experiment.template).train_state
        for name in (checkpoint.name_of(begun), name)
    )
    assert experiment.task.finalize is not None
    again = experiment.task.finalize(experiment, *before.trained, notes.note)
    jax.tree.map(np.testing.assert_array_equal, again, after.params)
