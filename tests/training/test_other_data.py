"""A run on data that were moved, and on other data of its classes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from convax.inference.export.bundle import export_source
from convax.model.detection.structures import GroundTruth
from convax.training import experiment, other_data
from convax.training.config.schema import load_config
from convax.training.data import DataError
from convax.training.evaluation import evaluate
from convax.training.other_data import _renumbered, evaluate_on, evaluate_other, load_own
from convax.training.run.directory import Run
from tests.tiny import untrained

SHADES = {"cat": 20, "dog": 120, "eel": 220}


def folder(root, *names, each=3):
    """Class folders, under these parts or none, of images of a shade each, all of them distinct."""
    for name in names:
        shade = SHADES.get(name.rpartition("/")[2], 0)
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.new("L", (8, 8), shade + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with its first parameters, on three classes."""
    root = tmp_path_factory.mktemp("run")
    folder(root / "data", *(f"{part}/{name}" for part in ("train", "test") for name in SHADES))
    data = f'data={{source="folder",path="{root / "data"}",channels=1,validation=0}}'
    model = 'model={name="mlp",hidden=[4],activation="relu"}'
    config = load_config("lenet5-digits", [data, model, "input.size=[8,8]"])
    return untrained(config, root / "run")[0]


def copy_of(run, folder):
    return Run(shutil.copytree(run.path, folder / "run"))


def test_data_that_moved_are_known_by_their_fingerprint(run, tmp_path, command):
    moved = shutil.copytree(run.path.parent / "data", tmp_path / "moved")
    with pytest.MonkeyPatch.context() as patch:
        loaded = []
        load = experiment.load_data
        for module in (experiment, other_data):
            patch.setattr(module, "load_data", lambda c: loaded.append(c) or load(c))
        assert evaluate_on(run.path, moved).own and len(loaded) == 1
    code, out, err = command("evaluate", run.path, "--data", moved, "--json")
    assert (code, err) == (0, f"note: {moved}: the data of the run, by their fingerprint\n")
    record = json.loads(out)
    assert (record["split"], record["count"], record["data"]) == ("test", 9, str(moved))
    assert record["loss"] == evaluate(run.path).loss
    Image.new("L", (8, 8), 99).save(moved / "train" / "cat" / "0.png")
    assert load_own(run, moved) is None
    for arguments in (["report", run.path], ["train", "--resume", run.path]):
        code, _, err = command(*arguments, "--data", moved)
        assert code == 2 and f"--data: {moved}: not the data of {run.path}" in err
    code, _, err = command("train", "--data", moved)
    assert code == 2 and f"write --set data.path={moved} for a new run" in err
    lost = copy_of(run, tmp_path)
    gone = run.config().data.model_copy(update={"path": str(tmp_path / "gone")})
    lost.write_config(run.config().model_copy(update={"data": gone}))
    code, _, err = command("evaluate", lost.path)
    assert code == 2 and f"its data are no longer at {tmp_path}/gone; say by --data PATH" in err
    code, _, err = command("evaluate", run.path, "--data", tmp_path / "none")
    assert code == 2 and "none is not there: tried" in err and "correct --data" in err


def test_export_and_calibrate_find_data_that_moved(run, tmp_path, command):
    lost = copy_of(run, tmp_path)
    gone = run.config().data.model_copy(update={"path": str(tmp_path / "gone")})
    lost.write_config(run.config().model_copy(update={"data": gone}))
    moved = shutil.copytree(run.path.parent / "data", tmp_path / "moved")
    assert export_source(lost.path, {}).origin.startswith("made up")
    assert export_source(lost.path, {}, moved).origin == "the first of the test split"
    code, _, err = command("calibrate", lost.path)
    assert code == 2 and "its data are no longer at" in err
    code, _, err = command("calibrate", lost.path, "--data", moved)
    assert code == 2 and "it has no validation images" in err  # so they were found
    other = folder(tmp_path / "other", *SHADES)
    for arguments in (["calibrate", lost.path], ["export", lost.path, tmp_path / "bundle"]):
        code, _, err = command(*arguments, "--data", other)
        assert code == 2 and f"--data: {other}: not the data of {lost.path}" in err
    assert not (tmp_path / "bundle").exists()


def test_resume_says_what_is_wrong_with_data_that_moved(run, tmp_path, command):
    again = copy_of(run, tmp_path)
    moved = shutil.copytree(run.path.parent / "data", tmp_path / "moved")
    other = folder(tmp_path / "other", *SHADES)
    code, _, err = command("train", "--resume", again.path, "--data", other)
    assert code == 2 and "its fingerprint differs" in err
    broken = shutil.copytree(moved, tmp_path / "broken") / "train" / "cat" / "0.png"
    broken.write_bytes(b"no image")
    code, _, err = command("train", "--resume", again.path, "--data", tmp_path / "broken")
    assert code == 2 and f"{broken}: cannot be read as an image" in err
    assert again.config() == run.config()


def test_other_data_are_numbered_as_the_classes_of_the_run(run, tmp_path, command):
    other = folder(tmp_path / "some", "dog", "eel", each=4)
    found = evaluate_other(run.path, other)
    assert found.evaluation.count == 8 and found.evaluation.split == "train"
    assert found.examples.labels.tolist() == [1] * 4 + [2] * 4
    code, out, err = command("evaluate", run.path, "--data", other)
    assert code == 0 and out.startswith(f"{other}: l")
    assert "evaluated is all of its 8 images; training images may be among them\n" in err
    parts = folder(tmp_path / "parts", *(f"{part}/eel" for part in ("train", "test", "val")))
    code, out, err = command("evaluate", run.path, "--data", parts, "--per-class")
    assert code == 0 and "eel" in out and "the run; evaluated is its test part" in err
    assert evaluate_other(run.path, parts, "validation").evaluation.count == 3
    shutil.rmtree(parts / "test")
    with pytest.raises(DataError, match="has train and validation, no test; choose one by --split"):
        evaluate_other(run.path, parts)
    with pytest.raises(DataError, match="has no test part; name another, or leave it out"):
        evaluate_other(run.path, parts, "test")


def test_unknown_classes_are_an_error_that_names_them(run, tmp_path, command):
    other = folder(tmp_path / "other", "dog", "fox", "gnu")
    code, _, err = command("evaluate", run.path, "--data", other)
    assert code == 2
    assert "'fox', 'gnu': no class of the run, which has 'cat', 'dog', 'eel'; rename it" in err


def test_nothing_is_said_of_data_that_are_not_looked_at(run, tmp_path, command):
    begun = copy_of(run, tmp_path)
    shutil.rmtree(begun.checkpoints)
    begun.checkpoints.mkdir()
    code, _, err = command("report", begun.path, "--data", run.config().data.path)
    assert code == 0 and "fingerprint" not in err
    image = run.path.parent / "data" / "test" / "cat" / "0.png"
    code, _, err = command("explain", run.path, image, "--data", tmp_path)
    assert (
        code == 2 and f"explain: data: got {tmp_path}, but classification compares with no" in err
    )


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_of_another_shape_are_an_error(run, tmp_path, command, mode):
    for name in SHADES:
        (tmp_path / name).mkdir()
        Image.new(mode, (16, 16)).save(tmp_path / name / "0.png")
    code, _, err = command("evaluate", run.path, "--data", tmp_path)
    assert (
        code == 2
        and (
            f"--data: {tmp_path}: images of 16x16x1, need 8x8x1 as in the run; bring them to that "
            "size, or train with data.size"
        )
        in err
    )


def test_data_without_a_path_have_not_moved(tiny, tmp_path, command):
    run, _ = untrained(load_config("lenet5-digits", ["training.epochs=1"]), tmp_path / "run")
    code, _, err = command("evaluate", run.path, "--data", tmp_path)
    assert code == 2 and "--data: 'digits' is data without a path; leave it out" in err


def test_every_form_of_labels_is_renumbered():
    order = np.array([2, 0])
    assert _renumbered(np.array([0, 1, 1], np.int32), order, 3).tolist() == [2, 0, 0]
    assert _renumbered(np.array([[1, 0], [1, 1]], np.uint8), order, 3).tolist() == [
        *([0, 0, 1], [1, 0, 1])
    ]
    masks = np.array([[[0, 1], [255, 0]]], np.uint8)
    assert _renumbered(masks, order, 3).tolist() == [[[2, 0], [255, 2]]]
    objects = GroundTruth(*np.zeros((4, 1, 3)))._replace(classes=np.array([[1, 0, -1]]))
    assert _renumbered(objects, order, 3).classes.tolist() == [[0, 2, -1]]
