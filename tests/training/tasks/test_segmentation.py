"""A segmentation from its config to an image of a mask; its figures by hand."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference.calibration.file import CalibrationError
from convax.model.architectures import vgg
from convax.training.config.schema import load_config
from convax.training.data import COLOR, IGNORED, decode_mask
from convax.training.data.preprocess import Preprocessing, preprocess_masks, restore_maps
from convax.training.experiment import prepare
from convax.training.loop.nonfinite import NonFiniteError
from convax.training.loop.signals import InterruptedRun
from convax.training.report import augmentation
from convax.training.report import figures as report
from convax.training.run.directory import open_run
from convax.training.tasks.segmentation import losses, task
from convax.training.tasks.segmentation.metrics import image_ious, ious
from convax.training.tasks.segmentation.overlay import overlay, palette
from convax.training.tasks.task import Question
from tests.tiny import drawing
from tests.training.loop.test_loop import Recorder, final_bytes

CONFIG = """
seed = 3
task = "segmentation"
[data]
source = "masks"
path = "{path}"
images = "images"
masks = "masks"
mask_kind = "classes"
classes = ["ground", "thing"]
size = [10, 12]
channels = 1
validation = 8
test = 9
[input]
size = [11, 12]
fit = "pad"
[augment]
flip = true
translate = 1
[model]
name = "unet"
features = [6, 8]
batch_norm = true
upsampling = "transposed"
[loss]
name = "cross_entropy_dice"
label_smoothing = 0.0
dice_weight = 0.5
[optimizer]
name = "adam"
learning_rate = 0.01
b1 = 0.9
b2 = 0.999
eps = 1e-8
weight_decay = 0.0
[schedule]
name = "constant"
[training]
batch_size = 4
steps = 40
evaluate_every = "20 steps"
log_every = 7
"""


def write_scenes(folder, count=40):
    """Bright rectangles on noise, twice as large as they are to be read; and the config."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(count):
        mask = np.zeros((20, 24), np.uint8)
        top, left, height, width = rng.integers([0, 0, 6, 6], [10, 12, 12, 14])
        mask[top : top + height, left : left + width] = 1
        mask[0, 0] = IGNORED
        image = rng.integers(0, 100, mask.shape) + 120 * (mask == 1)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02}.png")
    config = folder / "scenes.toml"
    config.write_text(CONFIG.format(path=folder))
    return config


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def trained(scenes):
    with drawing():
        return convax.train(load_config(scenes), scenes.parent / "run")


def test_a_run_learns(trained):
    result = trained.info()["result"]["test"]
    assert result["count"] == 9
    assert result.keys() == {
        *("loss", "mean_iou", "foreground_iou", "pixel_accuracy"),
        *("count", "split", "checkpoint_step"),
    }
    assert result["mean_iou"] > 0.7 and result["pixel_accuracy"] > 0.85
    assert trained.config().early_stopping.metric == "mean_iou"
    kinds = {r["kind"]: r for r in trained.metrics()}
    assert {"mean_iou", "pixel_accuracy"} <= kinds["train"].keys()
    validation = [
        (r["mean_iou"], r["step"]) for r in trained.metrics() if r["kind"] == "validation"
    ]
    assert (trained.checkpoints / "best").read_text() == f"step-{max(validation)[1]:08d}\n"
    plots = sorted(p.name for p in trained.plots.iterdir())
    assert plots == ["curves.png", "iou.png", "kernels.png", "masks.png"]
    table = dict(report.results_table(trained))
    assert table["test"].startswith("mean IoU ") and "foreground IoU" in table["test"]


def test_its_figures_are_those_of_every_pixel_that_counts(trained):
    """The last partial batch, ignored pixels and padding taken into account."""
    result, predict = convax.evaluate(trained.path), convax.load(trained.path)
    images, labels, _ = prepare(trained.config()).dataset.test
    assert (labels == IGNORED).sum() == 0 or (labels[:, 0, 0] == IGNORED).all()
    probabilities = predict(images)
    assert probabilities.shape == (9, 10, 12, 2)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    counts = np.zeros((2, 2), int)
    for truth, found in zip(labels.ravel(), probabilities.argmax(-1).ravel(), strict=True):
        if truth != IGNORED:
            counts[truth, found] += 1
    np.testing.assert_array_equal(result.sums["confusion"], counts)
    iou = [counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in range(2)]
    assert result.mean_iou == pytest.approx(np.mean(iou))
    assert result.foreground_iou == pytest.approx(iou[1])
    assert result.pixel_accuracy == pytest.approx(np.trace(counts) / counts.sum())
    assert predict(images[:0]).shape == (0, 10, 12, 2)
    # Mirror images: their masks are turned back, and so is the padding, wider on one side.
    expected = (probabilities + predict(images[:, :, ::-1])[:, :, ::-1]) / 2
    flipped = convax.load(trained.path, tta=True)(images)
    np.testing.assert_allclose(flipped, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(CalibrationError, match="a run of segmentation, which has no temp"):
        convax.load(trained.path, calibrated=True)


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bytes(trained, scenes, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(scenes), tmp_path / "run", display=Recorder(27))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(trained)


def test_the_command_line(trained, scenes, tmp_path, command):
    photograph = tmp_path / "photo.png"
    shutil.copy(scenes.parent / "images" / "00.png", photograph)
    code, out, err = command("predict", trained.path, photograph)
    assert (code, err) == (0, "")
    assert out.startswith(f"{photograph}: ground ") and out.strip().endswith("photo_predicted.png")
    mask = decode_mask(tmp_path / "photo_predicted.png")
    truth = decode_mask(scenes.parent / "masks" / "00.png")
    assert mask.shape == truth.shape == (20, 24)
    assert (mask == truth).mean() > 0.8
    out = command(
        "predict",
        trained.path,
        photograph,
        "--json",
        "--out",
        tmp_path / "new",
    )[1]
    record = json.loads(out)
    assert record["mask"] == str(tmp_path / "new" / "photo_predicted.png")
    assert record["shares"]["thing"] == (mask == 1).mean()
    (tmp_path / "bad.png").write_bytes(b"")
    code, _, err = command("predict", trained.path, tmp_path / "bad.png")
    assert code == 2 and "bad.png: cannot be read as an image" in err

    # A folder: what was written beside its images is none of them; names do not collide.
    (tmp_path / "in" / "b").mkdir(parents=True)
    lying = Image.open(photograph).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    lying.save(tmp_path / "in" / "a.webp", exif=exif, lossless=True)
    for name in ("a.png", "b/a.png", "b/a_predicted.png"):
        shutil.copy(photograph, tmp_path / "in" / name)
    options = ("--out", tmp_path / "new", "--format", "csv", "--html", tmp_path / "page.html")
    code, out, err = command("predict", trained.path, tmp_path / "in", *options)
    rows = list(csv.DictReader(out.splitlines()))
    assert (code, len(rows)) == (0, 3)
    assert err == "note: 1 file passed over: 1 mask written before\n"
    written = [Path(row["mask"]).relative_to(tmp_path / "new").as_posix() for row in rows]
    assert written == ["a_predicted.png", "a-2_predicted.png", "b/a_predicted.png"]
    for row in rows:
        np.testing.assert_array_equal(decode_mask(row["mask"]), mask)
        assert float(row["share_thing"]) == (mask == 1).mean()
    assert (tmp_path / "page.html").read_text().count('alt="its mask"') == 3

    code, out, _ = command("evaluate", trained.path)
    assert code == 0 and out.startswith("test: loss ") and "mean IoU" in out
    record = json.loads(command("evaluate", trained.path, "--json")[1])
    assert record["mean_iou"] == trained.info()["result"]["test"]["mean_iou"]
    code, out, _ = command("report", trained.path)
    assert code == 0 and "masks.png" in out and "best validation" in out
    code, out, _ = command("summary", scenes)
    assert code == 0 and "levels/down/conv1" in out


def test_a_network_that_does_not_fit(scenes, tmp_path):
    spelled = '[[model.layers]]\ntype = "flatten"\n[[model.layers]]\ntype = "dense"\nfeatures = 2\n'
    text = scenes.read_text()
    head, tail = text.split("[model]")[0], text.split("[loss]")[1]
    (tmp_path / "wrong.toml").write_text(f"{head}{spelled}[loss]{tail}")
    message = r"the last layer gives \(2,\) an image, but .* need \(11, 12, 2\); end with"
    with pytest.raises(convax.model.LayerError, match=message):
        convax.train(load_config(tmp_path / "wrong.toml"), tmp_path / "run")


LOGITS = jnp.log(jnp.array([[[[3.0, 1.0], [1.0, 3.0]], [[1.0, 3.0], [1.0, 1.0]]]]))  # (1, 2, 2, 2)
TARGETS = jnp.array([[[0, 1], [0, IGNORED]]], jnp.uint8)
PLAIN = partial(losses.cross_entropy, label_smoothing=0.0)
WITH_DICE = partial(losses.cross_entropy_dice, label_smoothing=0.0)


def test_the_loss_by_hand():
    plain, both = (
        jax.jit(partial(task.batch_loss, terms=terms))
        for terms in (PLAIN, partial(WITH_DICE, dice_weight=0.5))
    )
    expected = -(2 * np.log(0.75) + np.log(0.25)) / 3  # the fourth pixel is ignored
    np.testing.assert_allclose(plain(LOGITS, TARGETS), expected, rtol=1e-6)
    # Class 0 has p 0.75, 0.25, 0.25 and t 1, 0, 1; class 1 has the complements; s = 1.
    dice = 1 - np.mean([(2 * 1 + 1) / (1.25 + 2 + 1), (2 * 0.75 + 1) / (1.75 + 1 + 1)])
    found, grads = jax.jit(jax.value_and_grad(both))(LOGITS, TARGETS)
    np.testing.assert_allclose(found, expected + 0.5 * dice, rtol=1e-6)
    grads = np.asarray(grads)
    assert not grads[0, 1, 1].any() and grads[0, 0].any()
    nothing = np.full((1, 2, 2), IGNORED, np.uint8)
    assert plain(LOGITS, nothing) == 0
    assert jax.jit(task.batch_metrics)(LOGITS, nothing)["mean_iou"] == 0


def test_the_confusion_matrix_by_hand():
    counted = jnp.array([True])
    sums = task.metric_sums(LOGITS, TARGETS, counted, terms=PLAIN)
    np.testing.assert_array_equal(sums["confusion"], [[1, 1], [0, 1]])
    totals = {k: np.asarray(v) for k, v in sums.items()}
    figures = task.metrics(totals, None, None)
    assert figures["mean_iou"] == 0.5 and figures["foreground_iou"] == 0.5
    assert figures["pixel_accuracy"] == pytest.approx(2 / 3)
    measured = task.batch_metrics(LOGITS, TARGETS)
    assert measured["mean_iou"] == 0.5
    padding = task.metric_sums(LOGITS, TARGETS, ~counted, terms=partial(WITH_DICE, dice_weight=1.0))
    assert all(not np.any(value) for value in padding.values())


def test_a_class_that_is_nowhere_counts_not_as_wrong():
    np.testing.assert_allclose(
        ious(np.array([[4, 0, 0], [1, 3, 0], [0, 0, 0]])), [0.8, 0.75, np.nan]
    )
    totals = {"confusion": np.diag([3, 0, 5]), "loss": np.float64(4.0), "count": np.int64(1)}
    figures = task.metrics(totals, None, None)
    assert figures == {"loss": 0.5, "mean_iou": 1.0, "pixel_accuracy": 1.0}


def test_the_iou_of_each_image():
    truth = np.array([[[0, 1, 1, IGNORED]], [[0, 0, 0, 0]], [[IGNORED] * 4]])
    found = np.array([[[0, 1, 0, 1]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]])
    np.testing.assert_allclose(image_ious(truth, found, 2), [0.5, 1, 1])


def test_masks_go_the_way_of_their_images_and_back():
    masks = jnp.arange(6, dtype=jnp.uint8).reshape(1, 2, 3)
    pad = Preprocessing((5, 4), "pad", (0.0,), (1.0,))
    padded = np.asarray(preprocess_masks(masks, pad))
    assert padded.shape == (1, 5, 4) and (padded == IGNORED).sum() == 20 - 6
    np.testing.assert_array_equal(padded[0, 1:3, :3], masks[0])
    maps = jnp.arange(20.0).reshape(1, 5, 4, 1)
    np.testing.assert_array_equal(restore_maps(maps, pad, (2, 3, 1)), maps[:, 1:3, :3])
    resize = pad._replace(fit="resize", size=(4, 6))
    larger = np.asarray(preprocess_masks(masks, resize))
    np.testing.assert_array_equal(larger, np.repeat(np.repeat(masks, 2, 1), 2, 2))
    assert restore_maps(jnp.ones((1, 4, 6, 2)), resize, (2, 3, 1)).shape == (1, 2, 3, 2)


def test_a_letterboxed_mask_is_of_the_image_itself(tmp_path):
    """A canvas of which the upper half is the image: the thing is its right half."""
    maps = np.zeros((8, 8, 2), np.float32)
    maps[:4, :4, 0] = maps[:4, 4:, 1] = maps[4:, :, 1] = 1
    truth = np.repeat([[0, 1]], 6, axis=0).repeat(6, axis=1)
    np.testing.assert_array_equal(task.whole_mask(maps, (6, 12), letterbox=True), truth)
    Image.new("RGB", (12, 6)).save(tmp_path / "a.png")
    predictor = SimpleNamespace(letterbox=True, classes=("ground", "thing"), pixels=COLOR)
    question = Question(tmp_path / "a.png", "a.png", maps, 2, tmp_path / "mask.png")
    assert task.predict(predictor, None)(question).record["shares"] == {"ground": 0.5, "thing": 0.5}
    np.testing.assert_array_equal(decode_mask(tmp_path / "mask.png"), truth)
    answer = task.respond(predictor.classes, None, letterbox=True)(maps, (6, 12), 2)
    assert answer["shares"] == {"ground": 0.5, "thing": 0.5}


def test_an_overlay_tints_all_but_the_first_class():
    images = np.full((1, 1, 6, 1), 255, np.uint8)
    shown = overlay(images, np.array([[[0, 0, 1, 1, 0, IGNORED]]]), 2)
    red, line, hatched = 0.5 + palette(2)[1] / 510, [0, 0, 0], 0.3 + 0.7 * 0.4
    expected = [[1, 1, 1], line, red, red, line, [hatched] * 3]
    np.testing.assert_allclose(shown[0, 0], expected)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_an_overlay_is_seen_on_any_ground(ground):
    """The line around a region is far from what it covers, whatever that is; hatching, too."""
    images = np.full((2, 8, 8, 3), ground, np.uint8)
    images[1] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[:, 2:4, 2:6], mask[:, 4, 2:6], mask[:, 7] = 1, 2, IGNORED
    shown, plain = overlay(images, mask, 3), overlay(images, 0 * mask, 3)
    around = np.zeros((8, 8), bool)
    around[1, 2:6] = around[5, 2:6] = around[2:5, 1] = around[2:5, 6] = True
    contrast = np.abs((shown - plain) @ [0.299, 0.587, 0.114])
    assert (contrast[:, around] >= 0.49).all()
    np.testing.assert_array_equal(shown[:, 0], plain[:, 0])
    assert np.ptp(shown[0, 7].mean(-1)) == pytest.approx(0.7 * (0.8 - 0.4))
    colors = palette(3)[1:] / 255
    np.testing.assert_allclose(shown[0, [2, 4], 3], 0.5 * ground / 255 + 0.5 * colors)
    assert np.isin(shown[0, 3, 2:6], (0, 1)).all()  # the line around the second, in the first


def test_augmented_images_are_drawn_with_their_masks(scenes, tmp_path):
    """Red where a mask is: in the photograph as it is, and in each of its epochs."""
    config = load_config(scenes, ["augment.cutmix.alpha=1.0", "augment.cutmix.probability=0.5"])
    path = augmentation.draw(config, tmp_path / "sheet.png", title="scenes")
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red = image[..., 0] - image[..., 1] > 40
    columns = red.any(axis=0)
    starts = np.flatnonzero(np.diff(columns.astype(int)) == 1)
    assert len(starts) >= 1 + augmentation.EPOCHS
    assert red.mean() > 0.03


@pytest.mark.slow
def test_a_segmentation_that_diverges(tmp_path, monkeypatch):
    real = vgg.conv  # a thin trunk
    monkeypatch.setattr(vgg, "conv", lambda features, *a, **k: real(features // 16, *a, **k))
    config = write_scenes(tmp_path)
    sets = ['model={name="fcn",backbone="vgg11",stride=32,hidden=0}', "training.steps=3"]
    sets += ["data.size=[32,32]", "input.size=[32,32]"]
    sets += ["optimizer.learning_rate=1e30"]
    with pytest.raises(NonFiniteError):
        convax.train(load_config(config, sets), tmp_path / "run")
    about = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert set(about["activations"]) == {"backbone", "head"}
    assert open_run(tmp_path / "run").info()["status"] == "diverged"
