"""An embedding from its config to what lies near an image; its losses by hand."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from pydantic import TypeAdapter

import convax
from convax import ops
from convax.training.config.from_signature import choice
from convax.training.config.init_from import InitFrom
from convax.training.config.loss import all_losses, loss_table
from convax.training.config.schema import load_config
from convax.training.data import Split
from convax.training.evaluation import evaluate_split
from convax.training.experiment import prepare
from convax.training.experiments.study import train_study
from convax.training.initialize import init_from_source
from convax.training.loop.signals import InterruptedRun
from convax.training.run.checkpoint import restore
from convax.training.run.load_model import load_model
from convax.training.tasks.embedding import task
from convax.training.tasks.embedding.figures import wrong_neighbors
from convax.training.tasks.embedding.losses import all_pairs, all_triplets
from convax.training.tasks.embedding.spec import EMBEDDING
from convax.training.tasks.spec import bind_loss
from tests.tiny import drawing, write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes

LOSS = 'name = "softmax_cross_entropy"\nlabel_smoothing = 0.0'


def write_embedding(folder, loss='name = "contrastive"\nmargin = 1.0'):
    """The tiny experiment, its three classes to be placed in a plane."""
    config = write_tiny(folder)
    text = config.read_text().replace("seed = 3", 'seed = 3\ntask = "embedding"')
    config.write_text(text.replace(LOSS, loss))
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_embedding(tmp_path_factory.mktemp("embedding"))


@pytest.fixture(scope="module")
def trained(config):
    with drawing():
        return convax.train(load_config(config), config.parent / "run")


def test_a_run_learns(trained):
    result = trained.info()["result"]["test"]
    assert result["count"] == 53
    assert result["recall_at_1"] > 0.85 and result["auc"] > 0.85 and result["eer"] < 0.25
    assert trained.config().early_stopping.metric == "recall_at_1"
    assert all("recall_at_1" in r for r in trained.metrics())
    plots = {p.name for p in trained.plots.iterdir()}
    assert {"curves.png", "roc.png", "projection.png", "kernels.png"} <= plots


def test_an_evaluation_mixes_classes_that_are_stored_apart(config):
    """As the folders of an archive are; a batch of one class has no pairs to tell apart."""
    experiment = prepare(load_config(config))
    images, labels, _ = experiment.dataset.test
    order = np.argsort(labels, kind="stable")
    dataset = experiment.dataset._replace(test=Split(images[order], labels[order]))
    seen = []

    def step(params, state, images, labels, weights):
        seen.append(len(np.unique(labels[weights > 0])))
        return {"loss": np.float32(0), "count": np.int32(weights.sum())}, images[:, 0].mean(1)

    found = evaluate_split(experiment.task, step, None, None, dataset, "test")
    assert seen[:-1] == [3, 3, 3]
    np.testing.assert_array_equal(found.collected, images[order][:, 0].mean(1))


def test_one_image_has_no_wrong_neighbor():
    assert wrong_neighbors(np.zeros((1, 2)), np.zeros(1, int)).shape == (0, 2)


def test_its_figures_are_those_of_its_embeddings(trained):
    result, embed = convax.evaluate(trained.path), convax.load(trained.path)
    images, labels, _ = prepare(trained.config()).dataset.test
    x = embed(images)
    assert x.shape == (53, 3) and embed(images[:0]).shape == (0, 3)
    np.testing.assert_allclose(result.collected, x, rtol=1e-4, atol=1e-5)
    D = np.linalg.norm(x[:, None] - x[None], axis=-1) + np.diag([np.inf] * 53)
    assert result.recall_at_1 == pytest.approx((labels[D.argmin(axis=1)] == labels).mean())


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["triplet_batch_hard", "triplet_semi_hard"])
def test_triplets_train_too(tmp_path, loss):
    config = write_embedding(tmp_path, f'name = "{loss}"\nmargin = 0.3')
    run = convax.train(load_config(config), tmp_path / "run")
    assert run.info()["result"]["test"]["recall_at_1"] > 0.8


ARCFACE = 'name = "arcface"\nscale = 16.0\nmargin = 0.5'
AVERAGED = (
    "ema={decay=0.9}",
    "optimizer.groups=[{match='loss/.*', learning_rate_scale=0.5}]",
    "training.steps=40",
)


@pytest.fixture(scope="module")
def arcface(tmp_path_factory):
    """A run whose loss has parameters: averaged, and learned at half the rate."""
    config = write_embedding(tmp_path_factory.mktemp("arcface"), ARCFACE)
    return convax.train(load_config(config, AVERAGED), config.parent / "run")


def last_params(run):
    name = (run.checkpoints / "last").read_text().strip()
    return safetensors.numpy.load_file(run.checkpoints / name / "params.safetensors")


def test_a_loss_with_parameters_trains_and_is_evaluated_with_them(arcface):
    result = arcface.info()["result"]["test"]
    assert result["recall_at_1"] > 0.85
    experiment = prepare(arcface.config())
    first = experiment.init().params["loss"]["kernel"]
    assert first.shape == (3, 3)  # for each of three numbers, of each class
    assert np.abs(last_params(arcface)["loss/kernel"] - first).min() > 1e-3
    best = restore(arcface.checkpoints, "best", experiment.template).train_state
    assert best.ema is not None
    averaged = best.ema.params["loss"]["kernel"]
    assert np.any(averaged != best.params["loss"]["kernel"])
    found, labels = convax.evaluate(arcface.path), experiment.dataset.test.labels
    expected = ops.arcface_loss(found.collected, averaged, labels, scale=16.0, margin=0.5)
    assert found.figures["loss"] == result["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_with_parameters_resumes_to_the_same_bytes(arcface, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(arcface.config(), tmp_path / "run", display=Recorder(25))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(arcface)


@pytest.mark.parametrize("use_ema", [True, False])
def test_a_trained_network_is_without_the_parameters_of_its_loss(arcface, use_ema):
    assert set(load_model(arcface.path, use_ema=use_ema).params) == {"dense1", "dense2"}


def test_a_run_that_begins_with_a_network_begins_with_a_loss_of_its_own(arcface):
    config = arcface.config().model_copy(update={"init_from": InitFrom(path=str(arcface.path))})
    experiment = prepare(config)
    begun, report = init_from_source(experiment)
    assert report is not None and report.initial == ["loss/kernel"]
    first, taken = experiment.init().params, load_model(arcface.path).params
    np.testing.assert_array_equal(begun.params["loss"]["kernel"], first["loss"]["kernel"])
    np.testing.assert_array_equal(begun.params["dense1"]["kernel"], taken["dense1"]["kernel"])


def test_networks_in_one_program_have_a_loss_each(arcface, tmp_path):
    study = train_study(arcface.config(), tmp_path / "study", seeds=(3, 4), batching="map")
    member, expected = last_params(study.run("seed-3")), last_params(arcface)
    assert member.keys() == expected.keys() and "loss/kernel" in member
    for name, array in expected.items():
        np.testing.assert_allclose(member[name], array, rtol=1e-4, atol=2e-5, err_msg=name)
    other = last_params(study.run("seed-4"))["loss/kernel"]
    assert np.abs(other - member["loss/kernel"]).max() > 0.01


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bytes(trained, config, tmp_path):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(config), tmp_path / "run", display=Recorder(34))
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(trained)


def test_the_command_line(trained, tmp_path, command):
    for name, start in (("left", 0), ("right", 40)):
        image = np.full((60, 60), 60, np.uint8)
        image[:, start : start + 20] = 150
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    files = [tmp_path / "left.png", tmp_path / "right.png"]
    code, out, err = command("predict", trained.path, *files)
    assert (code, err) == (0, "")
    first, second, distance = out.splitlines()
    assert first.startswith(f"{files[0]}: 0 at ") and second.startswith(f"{files[1]}: 2 at ")
    assert distance.endswith(f" from {files[0]}")
    out = command("predict", trained.path, *files, "--json", "--top", "1")[1]
    record = json.loads(out.splitlines()[1])
    assert [near["class"] for near in record["nearest"]] == ["2"]
    assert record["others"][0]["file"] == str(files[0])
    assert len(record["embedding"]) == 3
    out = command("predict", trained.path, *files, "--format", "csv", "--top", "2")[1]
    row = list(csv.DictReader(out.splitlines()))[1]
    assert (row["class_1"], float(row["embedding_3"])) == ("2", record["embedding"][2])
    assert float(row["distance_1"]) == record["nearest"][0]["distance"]
    code, out, _ = command("evaluate", trained.path)
    assert code == 0 and "recall@1" in out and "EER" in out
    code, out, _ = command("report", trained.path)
    assert code == 0 and "roc.png" in out


def test_a_network_that_gives_no_vector(config, tmp_path):
    layers = '[[model.layers]]\ntype = "conv"\nfeatures = 2\nwindow = 3\n'
    text = config.read_text()
    text = text.split("[model]")[0] + layers + "[loss]" + text.split("[loss]")[1]
    (tmp_path / "wrong.toml").write_text(text)
    message = (
        r"gives \(6, 6, 2\) an image, but an embedding is one vector: need \(D,\); end with fl"
    )
    with pytest.raises(convax.model.LayerError, match=message):
        convax.train(load_config(tmp_path / "wrong.toml"), tmp_path / "run")


X = jnp.array([[0.0], [0.5], [0.8], [3.0]])
LABELS = jnp.array([0, 0, 1, 1])


def loss_of(name, **keywords):
    """A loss as a config names it."""
    tables = [loss_table(name, *entry) for name, entry in all_losses().items()]
    table = TypeAdapter(choice("name", tables)).validate_python({"name": name, **keywords})
    return bind_loss(EMBEDDING, table, 2)


def test_all_pairs_by_hand():
    """Pairs of one class weigh as much as the others: (0, 0.5) and (0.8, 3); four others."""
    same = (0.5**2 + 2.2**2) / 2 / 2
    other = ((1 - 0.8) ** 2 + (1 - 0.3) ** 2) / 2 / 4  # at 0 to 0.8 and 0.5 to 0.8; 3 is far
    found = all_pairs(X, LABELS, margin=1.0)
    np.testing.assert_allclose(found, (same + other) / 2, rtol=1e-6)
    loss = loss_of("contrastive", margin=1.0)
    garbage = jnp.concatenate([X, jnp.full((2, 1), jnp.nan)])
    labels, weights = jnp.array([0, 0, 1, 1, 0, 1]), jnp.array([1, 1, 1, 1, 0, 0], bool)
    np.testing.assert_allclose(loss(garbage, labels, weights=weights), found, rtol=1e-6)
    assert loss(X[:1], LABELS[:1]) == 0  # no pairs


@pytest.mark.parametrize("mined", ["batch_hard", "semi_hard"])
def test_the_triplet_losses_are_the_ops(mined):
    loss = loss_of(f"triplet_{mined}", margin=0.5)
    assert loss(X, LABELS) == getattr(ops, f"{mined}_triplet_loss")(X, LABELS, margin=0.5)


def test_all_triplets_of_a_batch_by_hand():
    """With margin 1: anchor 0, 0.5 away from its like: 0.7 and none; and so on."""
    # (anchor, positive, negative): distance to the like - to the other + 1, where above 0.
    each = [0.5 - 0.8 + 1, 0, 0.5 - 0.3 + 1, 0, 2.2 - 0.8 + 1, 2.2 - 0.3 + 1, 2.2 - 3 + 1, 0.7]
    found = all_triplets(X, LABELS, margin=1.0)
    np.testing.assert_allclose(found, sum(each) / 8, rtol=1e-6)
    garbage = jnp.concatenate([X, jnp.full((1, 1), jnp.nan)])
    labels, weights = jnp.append(LABELS, 0), jnp.array([1, 1, 1, 1, 0], bool)
    np.testing.assert_allclose(
        all_triplets(garbage, labels, weights=weights, margin=1.0), found, rtol=1e-6
    )
    assert all_triplets(X[:2], LABELS[:2], margin=1.0) == 0  # of one class: no triplet


def test_the_recall_of_a_batch():
    """Nearest to 0 is 0.5 and to 3 is 0.8, but 0.5 and 0.8 are nearest to each other."""
    assert task.batch_metrics(X, LABELS)["recall_at_1"] == 2 / 4


def test_totals_are_a_mean_over_examples():
    loss = loss_of("triplet_batch_hard", margin=0.5)
    sums = task.batch_losses(X, LABELS, jnp.array([True] * 4), loss=loss)
    assert sums["count"] == 4
    np.testing.assert_allclose(sums["loss"], 4 * loss(X, LABELS), rtol=1e-6)
