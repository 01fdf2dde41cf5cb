"""Several classes an image, from folders or a CSV file to what the service answers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convax
from convax import ops
from convax.inference.report.page import write_report
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import DataError, load_folder, load_table
from convax.training.experiment import prepare
from convax.training.loop.signals import InterruptedRun
from convax.training.tasks.multilabel import losses, task
from convax.training.tasks.multilabel.metrics import per_class
from convax.training.tasks.per_class import mean_of
from tests.tiny import TINY, drawing
from tests.training.loop.test_loop import Recorder, final_bytes
from tests.training.tasks.test_regression import LOSS, NPZ

NAMES = ("left", "middle", "right")


def write_bars(folder, count=160):
    """Images in which none to three thirds are bright, in a folder for each third."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / "bars" / name).mkdir(parents=True)
    rows = ["file," + ",".join(NAMES)]
    for i in range(count):
        bright = rng.integers(0, 2, 3)
        image = rng.integers(0, 60, (6, 6)) + 150 * np.repeat(bright, 2)
        pil = Image.fromarray(image.astype(np.uint8))
        for name in np.array(NAMES)[bright > 0]:
            pil.save(folder / "bars" / name / f"{i:03}.png")
        (folder / "all").mkdir(exist_ok=True)
        pil.save(folder / "all" / f"{i:03}.png")
        rows.append(f"all/{i:03}.png," + ",".join(map(str, bright)))
    (folder / "bars.csv").write_text("\n".join(rows))
    config = folder / "bars.toml"
    text = TINY.replace("seed = 3", 'seed = 3\ntask = "multilabel"').replace(
        NPZ,
        f'source = "csv"\npath = "{folder / "bars.csv"}"\ncolumns = {list(NAMES)}\n'
        "channels = 1\nvalidation = 20\ntest = 40",
    )
    config.write_text(text.replace(LOSS, 'name = "binary_cross_entropy"'))
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_bars(tmp_path_factory.mktemp("bars"))


@pytest.fixture(scope="module")
def trained(config):
    with drawing():
        return convax.train(load_config(config), config.parent / "run")


def test_a_run_learns_several_classes_an_image(trained):
    result = trained.info()["result"]["test"]
    assert result["count"] == 40
    assert result["mean_average_precision"] > 0.9 and result["f1"] > 0.8
    assert trained.config().early_stopping.metric == "mean_average_precision"
    plots = {p.name for p in trained.plots.iterdir()}
    assert {"curves.png", "average_precision.png", "worst.png"} <= plots


def test_an_interrupted_run_resumes_to_the_same_bytes(trained, config, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(config), tmp_path / "run", display=Recorder(34))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(trained)


def test_predict_says_all_classes_or_none(trained, tmp_path, command):
    for name, bright in (("both", [1, 0, 1]), ("none", [0, 0, 0])):
        image = np.full((6, 6), 30) + 150 * np.repeat(bright, 2)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{name}.png")
    files = [tmp_path / "both.png", tmp_path / "none.png"]
    code, out, err = command("predict", trained.path, *files, "--top", "1")
    both, none = out.splitlines()
    assert (code, err) == (0, "") and f"{files[1]}: none   (" in none
    assert "left" in both and "right" in both and "middle" not in both
    out = command("predict", trained.path, *files, "--json")[1]
    records = [json.loads(line) for line in out.splitlines()]
    assert set(records[0]["classes"]) == {"left", "right"} and records[1]["classes"] == []
    assert records[0]["probabilities"]["middle"] < 0.5
    out = command("predict", trained.path, *files, "--format", "csv")[1]
    assert out.startswith("file,classes,probability_left,")


def test_report_explain_and_the_service_take_it(trained, config, tmp_path):
    from convax.explain.write_figures import write_figures

    *_, page = write_report(trained.path)
    text = page.read_text()
    assert "Precision and recall" in text and "Worst images" in text and "heat map" in text
    predictor = convax.load(trained.path)
    file = config.parent / "all" / "000.png"
    drawn = write_figures(predictor, trained.path, file, tmp_path / "why", wanted="middle")
    assert "explained: middle" in drawn.text
    respond = predictor.task.respond(predictor.classes, None)
    record = respond(np.array([0.9, 0.2, 0.6], np.float32), (6, 6), 2)
    assert record["classes"] == ["left", "right"]
    assert [one["class"] for one in record["top"]] == ["left", "right"]


def test_images_of_one_name_in_several_folders_are_one_of_several_classes(config):
    folders, table = config.parent / "bars", config.parent / "bars.csv"
    found = load_folder(folders, channels=1, several=True).train
    listed = load_table(table, columns=NAMES, kind="classes", channels=1).train
    some = listed.labels.any(axis=1)  # an image of no class is in no folder
    np.testing.assert_array_equal(found.labels, listed.labels[some])
    np.testing.assert_array_equal(found.images, listed.images[some])
    overrides = [f'data={{source="folder",path="{folders}",channels=1,validation=20}}']
    dataset = prepare(load_config(config, overrides)).dataset
    assert dataset.train.labels.shape[1] == 3 and dataset.classes == NAMES


def test_each_class_may_have_a_weight(config):
    """As `ops.binary_cross_entropy` takes it, one number for each class."""
    weights = "loss={name='binary_cross_entropy',pos_weight=[4,0.5,1]}"
    experiment = prepare(load_config(config, [weights]))
    logits, targets = np.array([[0.5, -1.0, 2.0]], np.float32), np.array([[1, 1, 0]], np.uint8)
    expected = ops.binary_cross_entropy(
        logits, targets.astype(np.float32), pos_weight=np.array([4, 0.5, 1], np.float32)
    )
    np.testing.assert_allclose(experiment.task.loss(logits, targets), [expected], 1e-6)
    with pytest.raises(ConfigError, match=r"loss\.pos_weight: got 2 numbers, need 3, one"):
        prepare(load_config(config, [weights.replace("4,", "")]))
    with pytest.raises(ConfigError, match=r"bad pos_weight: got \[-4.0, .*need pos_weight >= 0"):
        load_config(config, [weights.replace("4", "-4.0")])


def test_two_images_of_one_name_are_rejected(tmp_path):
    for name, value in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((2, 2), value, np.uint8)).save(tmp_path / name / "x.png")
    with pytest.raises(DataError, match=r"a/x.png and .*b/x.png: two images of one name"):
        load_folder(tmp_path, several=True)
    assert load_folder(tmp_path).train.labels.tolist() == [0, 1]


def test_a_class_is_1_or_0(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,x\na.png,0.5\n")
    with pytest.raises(DataError, match=r"line 2: x: got '0.5', need 1 where the image is"):
        load_table(tmp_path / "t.csv", columns=["x"], kind="classes")


def test_the_figures_of_each_class_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.3]])
    found = per_class(probabilities, np.array([[1, 0], [0, 0], [1, 0]], np.uint8))
    # Of the first: precision 1 at recall 1/2, and 2/3 at recall 1; nothing is of the second.
    average, f1 = found.figures["average_precision"], found.figures["f1"]
    np.testing.assert_allclose(average, [(1 + 2 / 3) / 2, np.nan])
    np.testing.assert_allclose(f1, [0.5, np.nan])
    assert found.support.tolist() == [2, 0] and mean_of(f1) == 0.5
    logits, targets = jnp.array([[1.0, -1.0], [1.0, 1.0]]), jnp.array([[1, 0], [0, 1]])
    assert task.batch_metrics(logits, targets)["f1"] == pytest.approx(2 * 2 / (3 + 2))


def test_the_loss_is_the_mean_over_the_classes():
    logits, targets = jnp.array([[0.0, 2.0]]), jnp.array([[1, 0]], jnp.uint8)
    loss = losses.LOSSES["binary_cross_entropy"].loss(logits, targets)
    expected = (np.log(2) + np.log1p(np.exp(2))) / 2
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)
