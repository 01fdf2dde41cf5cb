"""Batch norms folded where a network is used: predictor, ensemble, bundle, command line; not where
it is explained.
"""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import convax
from convax import explain
from convax.inference import predictor as module
from convax.training.config.schema import load_config
from convax.training.data.preprocess import preprocess
from convax.training.experiment import prepare
from tests.tiny import untrained, write_tiny

LAYERS = """
[[model.layers]]
type = "conv"
features = 4
window = 3
bias = false
[[model.layers]]
type = "batch_norm"
[[model.layers]]
type = "relu"
[[model.layers]]
type = "global_avg_pool"
[[model.layers]]
type = "dense"
features = 3
[loss]"""
NORM = "batch_norm1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of a network with a batch norm, whose statistics are far from what they begin with."""
    folder = tmp_path_factory.mktemp("folded")
    config, rng = write_tiny(folder), np.random.default_rng(0)
    plain = 'name = "mlp"\nhidden = [16]\nactivation = "relu"\n[loss]'
    assert plain in config.read_text()
    config.write_text(config.read_text().replace(plain, LAYERS.lstrip()))

    def learn(leaf):
        return rng.uniform(0.3, 2, leaf.shape).astype(np.float32)

    start, paths = prepare(load_config(config)).init(), []
    for name in ("a", "b"):
        learned = {of: jax.tree.map(learn, getattr(start, of)) for of in ("params", "state")}
        paths.append(untrained(config, folder / name, **learned)[0].path)
    return paths


def arrays_of(*trees):
    """Return what the norm has in each."""
    return {name: leaf for tree in trees for name, leaf in tree[NORM].items()}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (3, 6, 6, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folded(runs):
    return convax.load(runs[0])


@pytest.fixture(scope="module")
def apart(runs):
    return convax.load(runs[0], fold=False)


def test_predictions_are_equal_without_the_norms(runs, images, folded, apart):
    assert (folded.folded, apart.folded) == ((NORM,), ())
    assert NORM not in {*folded.params, *folded.state} and NORM in {*apart.params} & {*apart.state}
    several = [convax.load(runs, fold=fold) for fold in (True, False)]
    assert several[0].state == {} and several[0].params["conv1"]["bias"].shape == (2, 4)
    assert folded.params["dense1"]["kernel"] is folded.trained.params["dense1"]["kernel"]
    for one, other in ((folded, apart), several):
        np.testing.assert_allclose(one(images), other(images), rtol=0, atol=1e-6)
    assert np.abs(folded(images) - several[0](images)).max() > 1e-3


def test_what_is_explained_is_the_network_as_it_was_trained(images, folded, apart):
    for predictor in (folded, apart):
        net, params, state = predictor.trained
        x = preprocess(images, predictor.preprocessing)
        maps = [explain.feature_maps(net, params, state, x, at) for at in ("conv1", NORM)]
        of = {name: np.asarray(a)[None, None, None] for name, a in arrays_of(state, params).items()}
        by_hand = (maps[0] - of["mean"]) * of["scale"] / np.sqrt(of["var"] + 1e-5) + of["bias"]
        np.testing.assert_allclose(maps[1], by_hand, rtol=1e-5, atol=1e-5)
    heats = [explain.heatmap(predictor, images[0], 1) for predictor in (folded, apart)]
    np.testing.assert_array_equal(*heats)


def test_a_bundle_records_what_is_folded(runs, images, command, folded, tmp_path):
    for name, options, norms in (("as", [], [NORM]), ("apart", ["--no-fold"], [])):
        out = tmp_path / name
        code, _, error = command("export", runs[0], out, "--platforms", "cpu", *options)
        assert (code, error) == (0, "")
        assert json.loads((out / "about.json").read_text())["folded"] == norms
        weights = safetensors.numpy.load_file(out / "weights.safetensors")
        assert any(name.startswith("state/") for name in weights) == (not norms)


def test_the_command_line_folds_unless_it_is_told(runs, images, command, tmp_path, monkeypatch):
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    loaded, load_run = [], module.load

    def load(*arguments, **keywords):
        loaded.append(load_run(*arguments, **keywords))
        return loaded[-1]

    monkeypatch.setattr(module, "load", load)
    answers = []
    for options in ([], ["--no-fold"]):
        code, out, error = command("predict", runs[0], tmp_path / "a.png", "--json", *options)
        assert (code, error) == (0, "")
        answers.append(json.loads(out)["probability"])
    assert [each.folded for each in loaded] == [(NORM,), ()]
    assert answers[0] == pytest.approx(answers[1], abs=1e-5)
