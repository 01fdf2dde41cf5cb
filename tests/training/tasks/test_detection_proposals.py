"""A detector that is given its proposals, from its config to objects on an image."""

import json
import subprocess
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import convax
from convax.explain.write_figures import write_figures
from convax.inference.export.bundle import export
from convax.inference.export.onnx import export_onnx
from convax.inference.export.verify import verify
from convax.training.config.schema import ConfigError, load_config
from convax.training.config_data import load_data
from convax.training.data import DataError
from convax.training.evaluation import evaluate
from convax.training.experiment import dataset_card, prepare, resolve_data_path
from convax.training.experiments.traced_hparams import prepare_members
from convax.training.run.directory import RunError
from convax.training.run.load_model import load_model
from convax.training.tasks.detection.task import detection
from tests.inference.export.test_bundle import assert_close, load_py
from tests.inference.export.test_onnx import onnx as onnx
from tests.inference.export.test_onnx import run_file
from tests.tiny import untrained
from tests.training.tasks.test_detection import path as path  # the config of a Mask R-CNN

MODEL = """model={name="fast_rcnn", backbone="small", norm="group", width=8, stages=[2], hidden=8,
roi={output_size=3, batch_size_per_image=8, score_thresh=0.0, detections_per_img=6}}"""
CHANGES = [
    *('task="detection"', 'loss={name="rcnn"}', "training={batch_size=4, steps=2}", MODEL),
    'proposals={method="sliding", sides=[8.0, 14.0], ratios=[1.0]}',
]


R_CNN = """model={name="rcnn", backbone="small", norm="group", width=8, stages=[1], hidden=8,
size=16, context=2, roi={score_thresh=0.0, detections_per_img=6}}"""


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
    configs = (load_config(path, CHANGES), load_config(path, [*CHANGES, R_CNN]))
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


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "bundle"
    export(trained.path, folder, platforms=("cpu",))
    return folder


@pytest.mark.slow
def test_a_bundle_takes_proposals_beside_images(trained, exported):
    about, manifest = (
        json.loads((exported / f"{name}.json").read_text()) for name in ("about", "manifest")
    )
    images, proposals = about["inputs"]
    assert images == {"name": "images", "shape": ["batch", 32, 32, 1], "dtype": "uint8"}
    assert proposals.pop("description").endswith("rows of zeros are none")
    assert proposals == {"name": "proposals", "shape": ["batch", 65, 4], "dtype": "float32"}
    assert manifest["format"] == 3
    readme = (exported / "README.md").read_text()
    assert "np.zeros((1, 65, 4), np.float32))" in readme
    assert "And float32 proposals `(N, 65, 4)`: regions that may hold an object, as x1" in readme
    live, test = convax.load(trained.path), load_data(trained.config()).test
    expected = live(test.images[:3])
    assert (expected.classes >= 0).any()
    assert_close(load_py(exported, test.images[:3], test.labels.proposals[:3]), expected)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        load_py(exported, test.images[:3])
    assert "predict: got 1 arrays, need 2: ['images', 'proposals']" in caught.value.stderr


@pytest.mark.slow
def test_an_onnx_file_takes_proposals_beside_images(trained, onnx, tmp_path):
    told = export_onnx(trained.path, tmp_path / "net.onnx")
    assert told.images == 5 and told.difference < 1e-5
    live, test = convax.load(trained.path), load_data(trained.config()).test
    images, proposals = test.images[2:4], test.labels.proposals[2:4].copy()
    proposals[:, 30:] = 0
    expected = live.function(live.params, live.state, images, proposals)
    said, session = run_file(tmp_path / "net.onnx", images, proposals=proposals)
    for got, wanted in zip(said, expected[:3], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    given = {each.name: each.shape for each in session.get_inputs()}
    assert given == {"images": ["N", 32, 32, 1], "proposals": ["N", 65, 4]}
    told = json.loads(session.get_modelmeta().custom_metadata_map["inputs"])
    assert told[1]["description"].startswith("regions that may hold an object")


@pytest.mark.slow
def test_an_onnx_file_cuts_the_regions_of_r_cnn_out_of_images(path, onnx, tmp_path):
    run, experiment = untrained(load_config(path, [*CHANGES, R_CNN]), tmp_path / "run")
    assert export_onnx(run.path, tmp_path / "net.onnx").difference < 1e-5
    live, test = convax.load(run.path), experiment.dataset.test
    images, proposals = test.images[2:4], test.labels.proposals[2:4].copy()
    proposals[1] = proposals[1] + [-3.0, 2.5, 4.0, 1.5]  # out of the image too
    expected = live.function(live.params, live.state, images, proposals)
    assert (expected.classes >= 0).all() and len(np.unique(expected.scores)) > 6
    said, _ = run_file(tmp_path / "net.onnx", images, proposals=proposals)
    for got, wanted in zip(said, expected[:3], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def of_file(path, tmp_path_factory):
    """A run whose proposals were those of a file, which is gone with its data."""
    folder = tmp_path_factory.mktemp("of-file")
    run, _ = untrained(load_config(path, CHANGES), folder / "run")
    gone = ["proposals={method='file', path='gone.npz', most=20}", "data.path='gone.npz'"]
    run.write_config(load_config(path, [*CHANGES, *gone]))
    return run


@pytest.mark.slow
def test_proposals_that_cannot_be_found_are_made_up_for_the_self_test(of_file, tmp_path):
    export(of_file.path, tmp_path / "bundle", platforms=("cpu",))
    told = verify(tmp_path / "bundle")
    assert told.origin.startswith("made up: the data of the run were not there; their proposals ma")
    assert told.difference <= told.tolerance


def test_where_proposals_cannot_be_found_it_is_said_in_a_line(of_file, command, tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    for arguments in (
        ("serve", of_file.path, "--port", 0),
        ("explain", of_file.path, tmp_path / "a.png"),
        ("predict", of_file.path, tmp_path / "a.png"),
    ):
        code, _, error = command(*arguments)
        assert code == 2 and len(error.splitlines()) == 1
        assert "it has proposals for its own images alone; propose those of others" in error


def test_the_service_proposes_regions_itself(trained):
    from tests.inference.serve.test_app import png, serving

    async def talk(client, service):
        return await client.post("/predict", content=png((60, 90)))

    answer = serving(convax.load(trained.path), talk, batch=1)
    (said,) = answer.json()["answers"]
    assert said["size"] == [60, 90] and 0 < len(said["detections"]) <= 6


@pytest.mark.slow
def test_objects_are_explained_by_their_proposals(trained, monkeypatch, tmp_path):
    monkeypatch.setattr("convax.explain.objects.MASKS", 16)
    photo = tmp_path / "photo.png"
    Image.fromarray(load_data(trained.config()).test.images[0, ..., 0]).save(photo)
    predict = convax.load(trained.path)
    drawn = write_figures(predict, trained.path, photo, tmp_path / "out", number=1)
    assert drawn.missing == [] and [file.name for file in drawn.files] == [
        *("detections.png", "explanation.png", "kernels.png", "feature_maps.png")
    ]


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
