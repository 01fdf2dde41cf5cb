"""`convax explain` and what it draws, for each task."""

import copy
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import convax
from convax import explain, model
from convax.explain import objects
from convax.explain.panels import explanation_figure
from convax.explain.write_figures import write_figures
from convax.inference.predictor import Trained
from convax.training.config.schema import load_config
from convax.training.data import Split
from convax.training.data.preprocess import Preprocessing, preprocess
from convax.training.plots import figures
from convax.training.tasks.registry import make_task
from tests.hand_made import hand_made, squares

CLASSES = ("cat", "dog", "cow")


def make_predictor(config, channels=1, *, spec=None):
    """An untrained network with maps, of the task of a shipped config."""
    spec = spec or Preprocessing((8, 8), "pad", (0.4,) * channels, (0.3,) * channels)
    task = make_task(load_config(config), 3)
    head = (
        {"head": model.conv(3, 1)}
        if task.spec.per_pixel
        else {"pool": model.avg_pool(2), "flat": model.flatten(), "fc": model.dense(3)}
    )
    net = model.serial(conv=model.conv(4, 3, padding="SAME"), act=model.relu(), **head)
    _, params, state = net.init(jax.random.key(5), (1, *spec.size, channels))

    @jax.jit
    def function(params, state, images):
        outputs, _ = net.apply(params, state, preprocess(images, spec))
        return task.postprocess(outputs, spec, (6, 8, channels))

    return convax.Predictor(
        function,
        params,
        state,
        CLASSES,
        (6, 8, channels),
        task,
        trained=Trained(net, params, state),
        preprocessing=spec,
    )


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def names(files):
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 150
    return [file.name for file in files]


@pytest.mark.slow
def test_the_sheet_shows_what_the_functions_say():
    predictor = make_predictor("lenet5-mnist", channels=3)
    image = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    found = explain.explain_image(predictor, image, 1)
    assert predictor.trained is not None and predictor.preprocessing is not None
    of = predictor.trained
    x = preprocess(jnp.asarray(image)[None], predictor.preprocessing)
    np.testing.assert_allclose(found.image[1:7], image / 255, atol=1e-5)
    np.testing.assert_allclose(found.score, of[0].apply(*of[1:], x)[0][0, 1], rtol=1e-5)
    close = dict(rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.saliency, explain.saliency(*of, x, 1)[0], **close)
    np.testing.assert_allclose(found.heat, explain.grad_cam(*of, x, 1)[0], **close)
    np.testing.assert_allclose(found.attribution.sum(), found.difference, rtol=0.02, atol=2e-3)
    assert found.field is not None and found.heat is not None
    assert (found.window, found.layer, found.field.size) == (1, "act", (3, 3))
    i, j = found.field.at
    assert found.heat[i, j] == found.heat.max()  # the map is as large as the image
    box = tuple((max(0, n - 1), min(7, n + 1)) for n in (i, j))
    assert found.field.box == box
    with figures.style():
        figure = explanation_figure(found, title="why?", subtitle="because")
    panels = {ax.get_title("left"): ax for ax in figure.axes}
    assert list(panels) == [
        "the image",
        "saliency",
        "integrated gradients",
        "Grad-CAM",
        "occlusion",
        "receptive field",
    ]
    for name, values in [
        ("the image", found.image),
        ("saliency", found.saliency),
        ("integrated gradients", found.attribution),
        ("occlusion", found.occlusion),
    ]:
        np.testing.assert_array_equal(panels[name].images[0].get_array(), values)
    for name in ("integrated gradients", "occlusion"):  # white is zero
        low, high = panels[name].images[0].get_clim()
        assert low == -high < 0
    with pytest.raises(explain.ExplainError, match="layer 'fc' has no map"):
        explain.explain_image(predictor, image, 1, layer="fc")
    with pytest.raises(explain.ExplainError, match=r"no layer at 'cnv'.* near it: conv"):
        explain.explain_image(predictor, image, 1, layer="cnv")


@pytest.mark.slow
@pytest.mark.parametrize("k", range(3))
def test_padding_is_no_part_of_what_is_explained(k):
    """Images of 6x8 in the middle of 8x8."""
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 1), np.uint8)
    target = explain.make_target(make_predictor("unet-pennfudan"), image, k)
    padding = jnp.zeros((1, 8, 8, 3)).at[:, 0].set(100.0).at[:, 7].set(100.0)
    assert target(padding) == 0 and target(jnp.ones((1, 8, 8, 3))) == pytest.approx(1)


@pytest.mark.slow
def test_a_segmentation_explains_the_pixels_of_a_class(photo, tmp_path):
    predictor = make_predictor("unet-pennfudan", channels=3)
    drawn = write_figures(predictor, tmp_path, photo, tmp_path / "out" / "deep", layer="act")
    assert names(drawn.files) == ["explanation.png", "kernels.png", "feature_maps.png"]
    assert drawn.missing == []
    best = predictor(predictor.read(photo)[None])[0].argmax(-1)
    largest = int(np.bincount(best.ravel(), minlength=3)[1:].argmax()) + 1
    assert drawn.text.endswith(f"explained: {CLASSES[largest]}")
    assert f"{CLASSES[largest]} {(best == largest).mean():.1%}" in drawn.text


@pytest.mark.slow
def test_an_embedding_explains_what_is_near(photo, tmp_path, monkeypatch):
    predictor = make_predictor("siamese-mnist")
    image = predictor.read(photo)
    rng = np.random.default_rng(2)
    gallery = np.concatenate([image[None], rng.integers(0, 256, (14, 6, 8, 1), np.uint8)])
    labels = np.arange(15) % 2  # no cow
    monkeypatch.setattr(
        "convax.explain.write_figures.gallery_images", lambda *where: Split(gallery, labels)
    )
    drawn = write_figures(predictor, tmp_path, photo, tmp_path, wanted="dog")
    assert names(drawn.files)[:2] == ["explanation.png", "neighbors.png"]
    assert "nearest cat at 0.000" in drawn.text  # itself
    assert drawn.text.endswith("explained: dog")
    with pytest.raises(explain.ExplainError, match="class: no training image is of cow"):
        write_figures(predictor, tmp_path, photo, tmp_path, wanted="cow")


@pytest.fixture(scope="module")
def finder():
    """A detector that was set by hand, of squares."""
    net, params = hand_made()
    spec = Preprocessing((32, 32), "letterbox", (0.0,), (1.0,))
    task = make_task(load_config("fasterrcnn-scenes"), 2)

    @jax.jit
    def function(params, state, images):
        outputs, _ = net.apply(params, state, preprocess(images, spec))
        return task.postprocess(outputs, spec, (32, 32, 1))

    return convax.Predictor(
        function,
        params,
        {},
        ("square", "never"),
        (32, 32, 1),
        task,
        trained=Trained(net, params, {}),
        preprocessing=spec,
    )


def write_photo(folder, *boxes):
    pixels = np.asarray(255 * squares(*boxes)[0, ..., 0]).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "squares.png")
    return folder / "squares.png"


@pytest.mark.slow
def test_a_detector_explains_its_objects(finder, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "MASKS", 64)
    photo = write_photo(tmp_path, (12, 16, 20, 24, 1.0), (4, 4, 12, 12, 0.95))
    drawn = write_figures(finder, tmp_path, photo, tmp_path / "out")
    assert names(drawn.files) == [
        *("detections.png", "explanation.png", "kernels.png", "feature_maps.png")
    ]
    first, second = "1 (square 98.2%)", "2 (square 96.0%)"  # 4, and 16 x 242 / 255 - 12
    assert drawn.text == f"{photo}: 2 square   explained: {first}, {second}"
    drawn = write_figures(finder, tmp_path, photo, tmp_path / "out", number=2, wanted="square")
    assert drawn.text.endswith(f"explained: {second}") and drawn.missing == []
    write = partial(write_figures, finder, tmp_path, photo, tmp_path / "out")
    for asked, message in [
        (dict(number=3), "explain: detection: got 3, need one of 1, 2"),
        (dict(wanted="never"), "explain: class: no never was found, but 2 square in this image"),
        (dict(layer="head"), "layer 'head' has no map"),
    ]:
        with pytest.raises(explain.ExplainError, match=message):
            write(**asked)
    with pytest.raises(explain.ExplainError, match="explain: nothing was found in this image"):
        write_figures(finder, tmp_path, write_photo(tmp_path), tmp_path / "out")


def test_what_takes_more_than_images_is_not_explained(finder, tmp_path):
    given = copy.copy(finder)
    given.task = finder.task._replace(more_inputs=lambda images: {"more": images})
    with pytest.raises(explain.ExplainError, match="got a network that takes more than images"):
        write_figures(given, tmp_path, tmp_path / "photo.png", tmp_path / "out")


def test_the_command(whole, photo, tmp_path, command):
    """An MLP has no maps, which is said; what cannot be asked is one line."""
    code, out, err = command("explain", whole.path, photo, "--out", tmp_path / "pictures")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith(f"{photo}: ") and "%   explained: " in lines[0]
    assert lines[1:3] == [
        str(tmp_path / "pictures" / name) for name in ("explanation.png", "kernels.png")
    ]
    assert lines[3] == (
        "left out: Grad-CAM, receptive field, feature_maps.png: the network has no maps of the image"
    )
    assert all((tmp_path / "pictures" / line).exists() for line in lines[1:3])
    other = tmp_path / "other.png"
    shutil.copy(photo, other)
    _, out, _ = command("explain", whole.path, photo, other, "--json", "--out", tmp_path / "two")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["image"] for record in records] == [str(photo), str(other)]
    assert records[1]["files"][0] == str(tmp_path / "two" / "other" / "explanation.png")
    for arguments, message in [
        ((photo, "--class", "cat"), "error: explain: class: got 'cat', need one of 0, 1, 2"),
        ((photo, "--layer", "conv"), "no layer at 'conv'"),
        ((photo, "--detection", "1"), "detection: got 1, but classification finds no objects"),
        ((tmp_path / "none.png",), "none.png"),
        ((photo, "--out", photo), "photo.png"),
        ((photo, photo), "IMAGE: two are called photo, and each has a folder of that name"),
        ((photo, "--checkpoint", "first"), "--checkpoint: got 'first'"),
    ]:
        code, out, err = command("explain", whole.path, *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err


def test_several_networks_that_answer_together_are_not_explained(whole, photo, tmp_path):
    shutil.copytree(whole.path, tmp_path / "another")
    several = convax.load([whole.path, tmp_path / "another"])
    with pytest.raises(
        explain.ExplainError, match=r"got an ensemble of several networks, need one run"
    ):
        write_figures(several, whole.path, photo, tmp_path / "out")
    assert not (tmp_path / "out").exists()
