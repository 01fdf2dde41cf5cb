"""A detector that is given its proposals, from its config to objects on an image."""

import json
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference.export.bundle import export
from convax.inference.export.verify import BundleError
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import DataError
from convax.training.evaluation import evaluate
from convax.training.experiment import dataset_card, load_data, prepare, resolve_data_path
from convax.training.experiments.traced_hparams import prepare_members
from convax.training.run.directory import RunError
from convax.training.run.load_model import load_model
from convax.training.tasks.detection.task import detection
from tests.training.tasks.test_detection import path as path  # the config of a Mask R-CNN

MODEL = """model={name="fast_rcnn", backbone="small", norm="group", width=8, stages=[2], hidden=8,
roi={output_size=3, batch_size_per_image=8, score_thresh=0.0, detections_per_img=6}}"""
CHANGES = [
    *('task="detection"', 'loss={name="rcnn"}', "training={batch_size=4, steps=2}", MODEL),
    'proposals={method="sliding", sides=[8.0, 14.0], ratios=[1.0]}',
]


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    return convax.train(load_config(path, CHANGES), tmp_path_factory.mktemp("run") / "whole")


def test_training_samples_proposals_and_reaches_every_part(path, trained):
    kinds = {record["kind"]: record for record in trained.metrics()}
    for kind in ("train", "validation", "test"):
        parts = [kinds[kind][f"loss_{name}"] for name in ("classifier", "box_reg")]
        assert all(part > 0 for part in parts)
        assert kinds[kind]["loss"] == pytest.approx(sum(parts), rel=1e-4)
    # A quarter of 8 regions, at most, stands for an object; some proposal does, beside the true boxes.
    assert 0 < kinds["train"]["positive_regions"] <= 0.25
    before = prepare(load_config(path, CHANGES)).init().params
    after = load_model(trained.path, "last").params
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(moved)) and moved.keys() == {"backbone", "head", "predictor"}


def test_an_evaluation_and_a_prediction_see_the_same_proposals(trained):
    predict, found = convax.load(trained.path), evaluate(trained.path, "test").collected
    test = load_data(trained.config()).test
    proposals = test.labels.proposals
    # of 8 pixels 7 along each axis, of 14 pixels 4, half over each other
    assert proposals.shape == (5, 7 * 7 + 4 * 4, 4)
    answers = predict(test.images)
    for i, objects in enumerate(found.found):
        there = answers.classes[i] >= 0
        np.testing.assert_array_equal(answers.classes[i][there], objects.classes)
        np.testing.assert_allclose(answers.boxes[i][there], objects.boxes, atol=1e-3)
        np.testing.assert_allclose(answers.scores[i][there], objects.scores, atol=1e-4)
    given = predict.function(predict.params, predict.state, test.images, proposals)
    np.testing.assert_array_equal(given.boxes, answers.boxes)
    assert predict(test.images[:0]).boxes.shape == (0, 6, 4)
    (note,) = [n for n in trained.dataset().notes if "proposals an image" in n]
    assert note.startswith("65 proposals an image; of the training")


def test_r_cnn_is_evaluated_image_by_image_as_its_trunk_sees_every_region(path):
    r_cnn = 'model={name="rcnn", backbone="small", norm="group", width=8, hidden=8}'
    configs = (load_config(path, CHANGES), load_config(path, [*CHANGES, r_cnn]))
    assert [detection(config, 2).batches.evaluation for config in configs] == [4, 1]


def test_the_members_of_a_study_have_the_proposals_of_runs_alone(path):
    configs = [load_config(path, [*CHANGES, f"seed={seed}"]) for seed in (0, 5)]
    for member, config in zip(prepare_members(configs), configs, strict=True):
        alone = load_data(config)
        assert member.card == dataset_card(config, alone)
        proposals = member.dataset.train.labels.proposals
        np.testing.assert_array_equal(proposals, alone.train.labels.proposals)


def test_the_command_line_proposes_regions_of_a_photograph(trained, command, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((60, 90, 3), 128, np.uint8)).save(photo)
    code, said, _ = command("predict", trained.path, photo, "--out", tmp_path, "--json")
    assert code == 0 and 0 < len(json.loads(said)["detections"]) <= 6


def test_a_bundle_is_refused(trained, tmp_path):
    with pytest.raises(BundleError, match=r"takes proposals beside an image, and a bundle im"):
        export(trained.path, tmp_path / "bundle")


def test_other_proposals_are_other_data(trained, monkeypatch):
    monkeypatch.setattr(
        "convax.training.data.detection.proposals._places", lambda length, whole: np.zeros(1)
    )
    with pytest.raises(RunError, match=r"the data, or what is proposed of it, has changed"):
        evaluate(trained.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (CHANGES[:-1], r"'fast_rcnn' proposes no regions itself; write a table \[proposals\]"),
        (CHANGES[-1:], r"proposals is for detectors that propose no regions themselves"),
        (
            [*CHANGES, "proposals={method='edges'}"],
            r"proposals.method: should be one of .*\"sliding\".*; got 'edges'",
        ),
        ([*CHANGES, "proposals.most=5"], r"proposals.most: unknown key"),
        ([*CHANGES, "proposals={method='sliding', sides=[]}"], r"proposals.sides: should have"),
        ([*CHANGES, "proposals={method='quality', side=0}"], r"proposals.side: should be greater"),
        ([*CHANGES, "proposals={method='file'}"], r"proposals.path: missing"),
    ],
)
def test_a_config_is_told_what_does_not_fit(path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_config(path, change)


def test_other_tasks_take_no_proposals():
    with pytest.raises(ConfigError, match=r"proposals is for detectors"):
        load_config("lenet5-digits", CHANGES[-1:])


def test_a_file_of_proposals_is_looked_for_beside_the_config(path):
    config = load_config(path, [*CHANGES, "proposals={method='file', path='boxes.npz'}"])
    with pytest.raises(
        DataError, match=r"proposals.path: boxes.npz is not there: .*; correct proposals.p"
    ):
        resolve_data_path(config, path.parent)
    (path.parent / "boxes.npz").touch()
    found: Any = resolve_data_path(config, path.parent).proposals
    assert found.path == str((path.parent / "boxes.npz").resolve())
