"""An instance segmentation from its config to objects on an image, in a few steps of training."""

import json
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference.ensemble import EnsembleError, check_compatible
from convax.model import LayerError
from convax.model.detection.structures import Detections
from convax.training.config.schema import ConfigError, load_config
from convax.training.evaluation import evaluate
from convax.training.experiment import prepare
from convax.training.loop.signals import InterruptedRun
from convax.training.run.load_model import load_model
from convax.training.tasks.detection.losses import rcnn
from convax.training.tasks.detection.task import captions
from tests.squares import RPN, SCENES, write_scenes
from tests.tiny import drawing
from tests.training.loop.test_loop import Recorder, final_bytes

CONFIG = (
    """
seed = 0
task = "instance_segmentation"
"""
    + SCENES
    + """[augment]
flip = true
cutout = {{size = 2}}
[model]
name = "mask_rcnn"
backbone = "small"
norm = "group"
width = 8
stages = [2]
fpn = 0
hidden = 8
mask_features = [4]
"""
    + RPN
    + """[model.roi]
output_size = 3
mask_output_size = 4
batch_size_per_image = 8
score_thresh = 0.0
detections_per_img = 6
[loss]
name = "rcnn"
mask_weight = 0.5
[optimizer]
name = "adam"
learning_rate = 0.002
b1 = 0.9
b2 = 0.999
eps = 1e-8
weight_decay = 0.0
[schedule]
name = "constant"
[training]
batch_size = 4
steps = 6
evaluate_every = "3 steps"
log_every = 2
"""
)


def write_squares(folder):
    """The config, of scenes of bright and dim squares, with its data beside it."""
    return write_scenes(folder / "squares.toml", CONFIG, 20)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")  # half a minute: what looks at it is among the slow tests
def trained(path, tmp_path_factory):
    with drawing():
        return convax.train(load_config(path), tmp_path_factory.mktemp("run") / "whole")


@pytest.mark.slow
def test_parts_of_the_loss_are_reported_and_weighed(trained):
    kinds = {r["kind"]: r for r in trained.metrics()}
    means = ("objectness", "rpn_box_reg", "classifier", "box_reg", "mask")
    for kind in ("train", "validation", "test"):
        record = kinds[kind]
        parts = [record[f"loss_{name}"] for name in means]
        assert record["loss"] == pytest.approx(sum(parts) - 0.5 * parts[-1], rel=1e-4)
    assert 0 < kinds["train"]["positive_regions"] <= 1
    assert {"mask_ap", "mask_ap50", "ap", "ap50", "ap75"} <= kinds["test"].keys()
    assert (trained.plots / "boxes.png").is_file() and (trained.plots / "errors.png").is_file()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(path, trained, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(path), tmp_path / "cut", display=Recorder(4))
    assert final_bytes(convax.resume(tmp_path / "cut")) == final_bytes(trained)


@pytest.mark.slow
def test_an_evaluation_repeats_and_has_figures_of_each_class(trained):
    first, again = (evaluate(trained.path, "test") for _ in range(2))
    each: Any = first.per_class
    assert first.figures == again.figures and first.count == 5
    kept: Any = first.collected.detections
    assert isinstance(kept, Detections) and np.asarray(kept.masks).dtype == np.uint8
    assert each.unit == "objects" and each.support.sum() > 0
    result = trained.info()["result"]["test"]
    assert result["loss"] == pytest.approx(first.loss, rel=1e-6)


@pytest.mark.slow
def test_predictions_are_trees_for_any_number_of_images(trained):
    predict = convax.load(trained.path)
    images = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 1), np.uint8)
    found, one = predict(images), predict(images[3])
    assert found.boxes.shape == (9, 6, 4) and found.masks.shape == (9, 6, 8, 8)
    np.testing.assert_allclose(one.boxes, found.boxes[3], atol=1e-3)
    assert predict(images[:0]).boxes.shape == (0, 6, 4)
    streamed = [each.prediction for each in predict.stream(list(images), batch=4)]
    np.testing.assert_allclose(streamed[8].scores, found.scores[8], atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()


@pytest.mark.slow
def test_the_command_line_says_and_draws_what_was_found(trained, command, tmp_path):
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    Image.fromarray(np.full((60, 90, 3), 128, np.uint8)).save(photo)
    code, said, _ = command("predict", trained.path, photo, "--out", out)
    assert code == 0 and f"-> {out / 'photo_predicted.png'}" in said
    code, said, _ = command("predict", trained.path, photo, "--out", out, "--json")
    record = json.loads(said)
    assert code == 0 and record["size"] == [60, 90] and record["detections"]
    boxes = np.array([each["box"] for each in record["detections"]])
    assert (boxes >= 0).all() and (boxes <= [90, 60, 90, 60]).all() and boxes[:, 2].max() > 32
    code, said, _ = command("predict", trained.path, photo, "--out", out, "--format", "csv")
    heads, *rows = said.splitlines()
    shown = [
        command("predict", trained.path, photo, "--out", out, "--threshold", t)[1].count("\n  ")
        for t in ("0", "1")
    ]
    assert shown == [len(boxes), 0]
    assert heads == "file,class,score,x1,y1,x2,y2" and len(rows) == len(boxes)
    code, said, _ = command("evaluate", trained.path, "--per-class")
    assert code == 0 and "mask AP50" in said and "\nmean " in said


@pytest.mark.slow
def test_what_a_detector_cannot_is_refused_by_a_line(trained, tmp_path):
    with pytest.raises(EnsembleError, match=r"load: tta: .* instance_segmentation .* has no mean;"):
        convax.load(trained.path, tta=True)
    with pytest.raises(EnsembleError, match=r"what two networks find are different objects"):
        check_compatible([trained.path, tmp_path], 2 * [load_model(trained.path, "best")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "augment={policy={num_ops=1, magnitude='random'}}",
            "augment.policy.operations would move the image and not its boxes",
        ),
        (
            "augment={translate=1, padding_mode='reflect'}",
            'augment.padding_mode = "reflect" would show objects again',
        ),
        ("augment={mixup={alpha=0.2}}", "augment.mixup would lay objects of two images over"),
        ("loss={name='rcnn', box_reg_weight=-1.0}", r"box_reg_weight: got -1.0, need 0 or more"),
        ("early_stopping.metric='accuracy'", "not a metric of"),
    ],
)
def test_a_config_is_told_what_does_not_fit(path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_config(path, [change])


def test_a_network_of_another_task_is_refused(path):
    with pytest.raises(LayerError, match=r"gives no boxes and masks.*mask_rcnn"):
        prepare(
            load_config(path, ["model={layers=[{type='flatten'}, {type='dense', features=3}]}"])
        )


def test_weights_of_the_loss_are_those_of_the_config(path):
    task = prepare(load_config(path)).task
    loss, weights = task.loss.keywords["terms"], task.metrics.keywords["weights"]
    assert isinstance(loss, partial) and loss.func is rcnn
    assert weights["mask_weight"] == 0.5 and weights["objectness_weight"] == 1.0


def test_captions_count_objects(path):
    labels = prepare(load_config(path)).dataset.train.labels
    said = captions(jax.tree.map(lambda a: a[:4], labels), ("dim", "bright"))
    there = [int((row >= 0).sum()) for row in labels.classes[:4]]
    assert [sum(int(part.split()[0]) for part in s.split(", ")) for s in said] == there
