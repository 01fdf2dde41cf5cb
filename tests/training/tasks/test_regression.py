"""A regression from its CSV file to what the service answers; its figures by hand."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convax
from convax.inference.report.page import write_report
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import DataError, load_table
from convax.training.data.preprocess import Preprocessing, restore_values, standardize_values
from convax.training.experiment import prepare
from convax.training.loop.signals import InterruptedRun
from convax.training.tasks.regression import task
from convax.training.tasks.regression.metrics import errors_of, mean_r2
from tests.inference.serve.test_app import serving
from tests.tiny import TINY, drawing
from tests.training.loop.test_loop import Recorder, final_bytes

LOSS = 'name = "softmax_cross_entropy"\nlabel_smoothing = 0.0'
NPZ = 'source = "npz"\npath = "{path}"\nvalidation = 20'


def write_dots(folder, count=170):
    """Images of a bright bar on noise, with its column in pixels and a size in thousands."""
    rng = np.random.default_rng(0)
    rows = [["file", "column", "note", "size"]]
    (folder / "dots").mkdir()
    for i in range(count):
        at, wide = int(rng.integers(0, 5)), int(rng.integers(1, 3))
        image = rng.integers(0, 60, (6, 6))
        image[:, at : at + wide] += 150
        Image.fromarray(image.astype(np.uint8)).save(folder / "dots" / f"{i}.png")
        rows.append([f"dots/{i}.png", at + (wide - 1) / 2, "a, b", 1000 * wide])
    with (folder / "dots.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    config = folder / "dots.toml"
    text = TINY.replace("seed = 3", 'seed = 3\ntask = "regression"').replace(
        NPZ,
        f'source = "csv"\npath = "{folder / "dots.csv"}"\ncolumns = ["column", "size"]\n'
        "channels = 1\nvalidation = 20\ntest = 40",
    )
    config.write_text(text.replace(LOSS, 'name = "mse"').replace("steps = 60", "steps = 240"))
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_dots(tmp_path_factory.mktemp("dots"))


@pytest.fixture(scope="module")
def trained(config):
    with drawing():
        return convax.train(load_config(config), config.parent / "run")


def test_a_run_learns_values_in_their_units(trained):
    result = trained.info()["result"]["test"]
    assert result["count"] == 40 and result["r2"] > 0.7
    card = trained.dataset()
    assert card.classes == ("column", "size") and card.preprocessing.target_std[1] > 400
    assert trained.config().early_stopping.metric == "r2"
    plots = {p.name for p in trained.plots.iterdir()}
    assert {"curves.png", "scatter.png", "worst.png"} <= plots


def test_an_interrupted_run_resumes_to_the_same_bytes(trained, config, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(config), tmp_path / "run", display=Recorder(34))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(trained)


def test_predict_says_each_value(trained, config, command):
    image = config.parent / "dots" / "3.png"
    code, out, err = command("predict", trained.path, image)
    assert (code, err) == (0, "") and out.startswith(f"{image}: column ")
    record = json.loads(command("predict", trained.path, image, "--json")[1])
    rows = list(csv.DictReader((config.parent / "dots.csv").read_text().splitlines()))
    assert abs(record["values"]["column"] - float(rows[3]["column"])) < 1.2
    assert abs(record["values"]["size"] - float(rows[3]["size"])) < 600
    out = command("predict", trained.path, image, "--format", "csv")[1]
    row = next(csv.DictReader(out.splitlines()))
    assert float(row["size"]) == pytest.approx(record["values"]["size"])
    code, out, _ = command("evaluate", trained.path, "--split", "validation")
    assert code == 0 and "R² 0." in out and "MAE " in out


def test_report_explain_and_the_service_take_it(trained, config, tmp_path):
    from convax.explain.write_figures import write_figures

    *_, page = write_report(trained.path)
    text = page.read_text()
    assert "Predicted and true" in text and "RMSE" in text and "Largest errors" in text
    predictor = convax.load(trained.path)
    drawn = write_figures(
        predictor, trained.path, config.parent / "dots" / "0.png", tmp_path / "why"
    )
    assert "explained: column" in drawn.text
    answer = predictor.task.respond(predictor.classes, None)
    prediction = predictor(np.zeros(predictor.image_shape, np.uint8))
    assert answer(prediction, (6, 6), 3)["values"].keys() == {"column", "size"}
    with pytest.raises(ValueError, match="top_k: got a network of regression, need classificat"):
        predictor.top_k(np.zeros((1, *predictor.image_shape), np.uint8), 1)


def test_the_service_answers_with_the_values(trained, config):
    predictor = convax.load(trained.path)
    content = (config.parent / "dots" / "5.png").read_bytes()

    async def talk(client, service):
        return await client.get("/health"), await client.post("/predict", content=content)

    health, said = serving(predictor, talk, run=trained.path, batch=1)
    assert (health.json()["task"], health.json()["heatmap"]) == ("regression", False)
    (record,) = said.json()["answers"]
    expected = predictor(predictor.read(config.parent / "dots" / "5.png"))
    np.testing.assert_allclose(list(record["values"].values()), expected, rtol=1e-5)


def test_networks_of_several_seeds_predict_their_mean(trained, config, tmp_path):
    other = convax.train(load_config(config, ["seed=4", "training.steps=20"]), tmp_path / "run")
    images = np.zeros((2, 6, 6, 1), np.uint8)
    one, two = (convax.load(run.path)(images) for run in (trained, other))
    both = convax.load([trained.path, other.path])(images)
    np.testing.assert_allclose(both, (one + two) / 2, rtol=1e-5)


def test_the_errors_by_hand():
    predicted = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 8.0]])
    true = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    found = errors_of(predicted, true)
    np.testing.assert_allclose(found.mae, [2 / 3, 1])
    np.testing.assert_allclose(found.mse, [2 / 3, 3])
    np.testing.assert_allclose(found.r2, [1 - 2 / 8, np.nan])  # the second does not vary
    assert mean_r2(found) == 0.75
    batch = task.batch_metrics(jnp.array(predicted[:, :1]), jnp.array(true[:, :1]))
    assert batch["r2"] == 0.75


def test_values_are_standardized_and_come_back():
    spec = Preprocessing((8, 8), "pad", (0.0,), (1.0,), (2.0, 100.0), (0.5, 10.0))
    values = jnp.array([[1.0, 120.0]])
    np.testing.assert_allclose(standardize_values(values, spec), [[-2, 2]])
    np.testing.assert_allclose(restore_values(standardize_values(values, spec), spec), values)
    assert Preprocessing.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    plain = Preprocessing((8, 8), "pad", (0.0,), (1.0,))
    assert "target_mean" not in plain.as_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'file': got nothing"),
        ("file,x\n", "no lines below the names"),
        ("file,y\na.png,1", "line 1: no column 'x': got file, y; correct the column that"),
        ("file,x,x\na.png,1,1", "line 1: two columns 'x'"),
        ("file,x\na.png,1\na.png", "line 3: got 1 cells, need 2"),
        ("file,x\nb.png,1", "line 2: no such image: got 'b.png'; correct its name"),
        ("file,x\n,1", "line 2: no image named"),
        ("file,x\na.png,tall", "line 2: x: got 'tall', need a number"),
        ("file,x\na.png,nan", "line 2: x: got 'nan', need a number"),
        ('file,x\n"a.png,1', "not a CSV file: unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_table_names_the_line(tmp_path, text, message):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_table(tmp_path / "t.csv", columns=["x"])


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: cannot be read: No such file"):
        load_table(tmp_path / "none.csv", columns=["x"])
    (tmp_path / "t.csv").write_bytes(b"file,x\n\xff,1\n")
    with pytest.raises(DataError, match="not a CSV file: not UTF-8"):
        load_table(tmp_path / "t.csv", columns=["x"])


def test_what_does_not_fit_a_regression(config):
    for override, message in {
        'loss={name="mse",label_smoothing=0.1}': "'mse' has no label_smoothing in task = \"regr",
        'loss={name="focal",gamma=2.0,alpha=0.25}': "'focal' is no loss for task = \"regression\"",
        "task=classification": r"data\.columns: the class of an image is in one column",
        "task=segmentation": "'csv' is data with values: need task = \"classification\"",
        "augment.mixup.alpha=0.2": "augment.mixup would make images of two",
        "early_stopping.metric=accuracy": 'which is not a metric of task = "regression"',
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_config(config, [override])
    layers = 'model={layers=[{type="flatten"},{type="dense",features=3}]}'
    with pytest.raises(convax.model.LayerError, match=r"has 2 value\(s\): need \(2,\)"):
        prepare(load_config(config, [layers]))
