"""Data that a program has at hand: arrays and datasets, checked; trained, resumed, evaluated."""

import numpy as np
import pytest

import convax
from convax.inference.report import page
from convax.training.config.schema import load_config
from convax.training.data import DataError, load_memory, load_npz
from convax.training.loop.signals import InterruptedRun
from convax.training.run.directory import RunError
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes

IMAGES, LABELS = np.zeros((10, 6, 6), np.uint8), np.arange(10) % 2


def test_arrays_become_a_dataset():
    made = load_memory((IMAGES, LABELS), validation=2, test=0.3, seed=0)
    assert made.train.images.shape == (5, 6, 6, 1) and made.train.labels.dtype == np.int32
    assert (made.validation.count, made.test.count, made.classes) == (2, 3, ("0", "1"))
    masks = load_memory((IMAGES, IMAGES.astype(int) + 1, ["sky", "sea"]), seed=0)
    ignored = load_memory((IMAGES, np.where(IMAGES, IMAGES, 255)), seed=0)
    assert ignored.classes == ()
    assert masks.classes == ("sky", "sea") and masks.train.labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((IMAGES / 255, LABELS), "train: images are float64 .10, 6, 6, 1., need uint8.* 255"),
        ((IMAGES[0], LABELS), r"train: images are uint8 \(6, 6\), need uint8"),
        ((IMAGES, LABELS[1:]), "train: 10 images and 9 labels"),
        ((IMAGES, LABELS / 2), r"labels are float64 \(10,\), need integers"),
        ((IMAGES, LABELS - 1), "data: labels are -1 to 0 where there are 1 classes"),
        ((IMAGES, LABELS, ["one"]), "data: labels are 0 to 1 where there are 1 classes"),
        ((IMAGES, LABELS, (1, 2)), "names of the classes should be a list of texts"),
        ((IMAGES, LABELS, ["a", "a"]), "two classes have one name"),
        ((IMAGES, LABELS[:, None]), r"labels are int64 \(10, 1\), need one of each image"),
        ((IMAGES, IMAGES.astype(int) + 300, ["a", "b"]), "labels are 300 to 300 where there are 2"),
        ((IMAGES, IMAGES[:, :4, :4], ["a", "b"]), r"masks \(10, 4, 4\), need \(10, 6, 6\)"),
        ((IMAGES[:0], LABELS[:0]), "no image for training"),
        (IMAGES, r"got ndarray; need \(images, labels\)"),
    ],
)
def test_what_does_not_fit_is_an_error(given, said):
    with pytest.raises(DataError, match=said):
        load_memory(given, seed=0)


def test_splits_have_one_dtype():
    made = load_memory((IMAGES, LABELS), validation=2, test=0, seed=0)
    wide = made.validation._replace(images=made.validation.images.astype(np.uint16))
    with pytest.raises(DataError, match="several dtypes: train uint8, validation uint16; store"):
        load_memory(made._replace(validation=wide), seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the tiny experiment, stopped and resumed; and the dataset that it was given."""
    folder = tmp_path_factory.mktemp("given")
    config = load_config(write_tiny(folder), ["training.steps=30"])
    given = load_npz(config.data.path)
    whole = convax.train(config, folder / "whole", data=given)
    with pytest.raises(InterruptedRun):
        convax.train(config, folder / "run", data=given, display=Recorder(22))
    with pytest.raises(DataError, match=r"given in Python, and are not kept; .* to convax\.resume"):
        convax.resume(folder / "run")
    run = convax.resume(folder / "run", data=given)
    assert final_bytes(run) == final_bytes(whole)
    return run, given


def test_a_run_is_resumed_and_evaluated_with_its_data(trained):
    run, given = trained
    assert run.config().data.source == "memory" and run.config().data.validation == 20
    found = convax.evaluate(run.path, data=given)
    assert found.accuracy == run.info()["result"]["test"]["accuracy"]


def test_a_report_takes_the_data(trained, monkeypatch):
    run, given = trained
    monkeypatch.setattr(page, "draw_evaluated", lambda run, found: [])  # which takes longest
    (written,) = page.write_report(run.path, data=given)
    accuracy = run.info()["result"]["test"]["accuracy"]
    assert f"{100 * accuracy:.2f}" in written.read_text()


def test_other_data_are_refused(trained):
    run, given = trained
    other = given._replace(classes=("a", "b", "c"))
    with pytest.raises(RunError, match="the data has changed since this run began; restore it"):
        convax.evaluate(run.path, data=other)


def test_a_command_says_that_they_are_not_kept(trained, command):
    code, _, err = command("evaluate", trained[0].path)
    assert code == 2 and len(err.splitlines()) == 1
    assert "were given in Python, and are not kept; give them again" in err
