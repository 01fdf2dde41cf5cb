"""Test what labels say of classes, in each of their forms, and the notes on classes without any."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from convax.model.detection.structures import GroundTruth
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import DataError
from convax.training.data.labels import classes_of_each, examples_of_each, most_objects, named
from convax.training.experiment import prepare

MODEL = 'model={name="mlp",hidden=[2],activation="relu"}'
FORMS = {  # the first example is of class 0, the second of class 2
    "class": np.array([0, 2], np.int32),
    "classes": np.array([[1, 0, 0], [0, 0, 1]], np.uint8),
    "mask": np.array([[[0, 255]], [[2, 2]]], np.uint8),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_labels_says_how_many_examples_a_class_has(form):
    np.testing.assert_array_equal(np.array(examples_of_each(FORMS[form], 3)), [1, 0, 1])
    np.testing.assert_array_equal(np.array(classes_of_each(FORMS[form], 3)), np.eye(3)[[0, 2]])
    np.testing.assert_array_equal(np.array(examples_of_each(FORMS[form][:0], 3)), [0, 0, 0])


def test_objects_say_which_classes_an_image_has_but_for_ignored_ones():
    boxes, masks = np.zeros((2, 3, 4), np.float32), np.zeros((2, 0, 0), np.uint8)
    labels = GroundTruth(
        boxes,
        np.array([[0, 0, -1], [2, 1, -1]]),
        np.array([[False] * 3, [False, True, True]]),
        masks,
    )
    found = np.array(classes_of_each(labels, 3))
    assert found.tolist() == [[True, False, False], [False, False, True]]
    assert np.array(examples_of_each(labels, 3)).tolist() == [1, 0, 1]
    assert most_objects(labels) == 3 and most_objects(boxes) == 0


@pytest.mark.parametrize("labels", [np.zeros((2, 3), np.float32), {"a": np.zeros(2, np.int32)}])
def test_values_and_trees_say_nothing_of_classes(labels):
    assert examples_of_each(labels, 3) is None


def test_named_leaves_out_what_is_too_much():
    assert named([str(k) for k in range(20)], np.arange(12)).endswith("'9' and 2 more")


def config_of(tmp_path, labels, **more):
    """The config of a classification of images of noise with these labels."""
    labels = np.array(labels)
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=labels, **more)
    data = f'data={{source="npz",path="{tmp_path / "data.npz"}",validation=0}}'
    return load_config("lenet5-digits", [data, MODEL])


def test_labels_counted_from_1_are_noted(tmp_path):
    experiment = prepare(config_of(tmp_path, [1, 2, 3, 1]))
    assert experiment.card.notes == (
        "1 of 4 classes have no training example, and cannot be learned: '0'; labels that are "
        "counted from 1 should be counted from 0",
    )


def test_a_named_class_without_examples_is_noted(tmp_path):
    notes = prepare(config_of(tmp_path, [0, 1, 0], classes=["cat", "dog", "cow"])).card.notes
    assert notes[0].startswith("1 of 3 classes have no training example") and "'cow'" in notes[0]
    assert prepare(config_of(tmp_path, [0, 1, 0], classes=["cat", "dog"])).card.notes == ()


def test_labels_of_one_class_are_refused(tmp_path):
    config = config_of(tmp_path, [1, 1, 1], classes=["cat", "dog"])
    with pytest.raises(DataError, match="no training example has a label other than 'dog', of 2"):
        prepare(config)


def test_notes_stand_in_the_output_and_in_dataset_json(tmp_path, command):
    config, path = config_of(tmp_path, [1, 2, 3, 1]), tmp_path / "run"
    changes = [f'data={{source="npz",path="{config.data.path}",validation=0}}', MODEL]
    changes += ["training={batch_size=2,steps=1}"]
    sets = [word for change in changes for word in ("--set", change)]
    code, out, _ = command("train", "lenet5-digits", "--out", path, *sets)
    assert code == 0 and "note: 1 of 4 classes have no training example" in out
    assert "'0'" in json.loads((path / "dataset.json").read_text())["notes"][0]


def write_idx(folder, labels):
    """The four files of MNIST's format, of images of noise; two are of the test part."""
    rng = np.random.default_rng(0)
    for name, part in (("train", labels), ("t10k", [labels[0], labels[-1]])):
        images = rng.integers(0, 255, (len(part), 4, 4)).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", np.array(part, np.uint8))):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return f"data={{source='idx',path='{folder}',validation=0}}"


def write_images(folder, names):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * i).save(folder / name)


def write_table(folder, columns, rows):
    """A CSV file of classes, and its images."""
    write_images(folder, [f"{i}.png" for i in range(len(rows))])
    lines = [f"{i}.png," + ",".join(map(str, row)) for i, row in enumerate(rows)]
    (folder / "x.csv").write_text("\n".join(["file," + ",".join(columns), *lines]))
    return (
        f"data={{source='csv',path='{folder / 'x.csv'}',channels=1,validation=0,"
        f"columns={list(columns)}}}"
    )


def write_cifar(folder, labels):
    """CIFAR-10's files, all training images of these labels."""
    record = lambda label: bytes([label]) + bytes(3072)  # noqa: E731
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(b"".join(map(record, labels)))
    (folder / "batches.meta.txt").write_text("\n".join(f"name{i}" for i in range(10)))
    return f"data={{source='cifar',path='{folder}',validation=0}}"


MULTILABEL = ["task=multilabel", "loss={name='binary_cross_entropy'}"]
WITHOUT = {  # what writes the data, the config's other keys, and the classes without an example
    "idx": (lambda f: write_idx(f, [0, 1, 3, 1]), [], 4, "'2'; add some, or leave it out"),
    "idx from 1": (lambda f: write_idx(f, [1, 2, 1]), [], 3, "'0'; labels that are counted from 1"),
    "csv": (
        lambda f: write_table(f, "abc", [(1, 0, 0), (0, 0, 1), (1, 0, 1)]),
        MULTILABEL,
        3,
        "'b'; add some, or leave it out",
    ),
    "csv, the first": (
        lambda f: write_table(f, "abc", [(0, 1, 0), (0, 1, 1)]),
        MULTILABEL,
        3,
        "'a'; add some, or leave it out",
    ),
    "cifar": (lambda f: write_cifar(f, [*range(5), *range(6, 10)]), [], 10, "'name5'; add some"),
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_class_without_training_examples_is_noted_whoever_reads_the_data(tmp_path, kind):
    write, changes, classes, line = WITHOUT[kind]
    notes = prepare(load_config("lenet5-digits", [write(tmp_path), MODEL, *changes])).card.notes
    assert len(notes) == 1
    assert notes[0].startswith(
        f"1 of {classes} classes have no training example, and cannot be learned: {line}"
    )


@pytest.mark.parametrize("more", ["", ",stream=true,size=[4,4]"])
@pytest.mark.parametrize("task", [[], MULTILABEL])
def test_a_class_folder_whose_images_are_all_set_aside_is_noted(tmp_path, task, more):
    write_images(tmp_path, [f"{name}/{name}{i}.png" for name in "abcdefgh" for i in range(2)])
    (tmp_path / "h" / "h1.png").unlink()
    data = f"data={{source='folder',path='{tmp_path}',channels=1,validation=8,test=4{more}}}"
    config = load_config("lenet5-digits", [data, MODEL, "input.size=[4,4]", *task])
    (line,) = prepare(config).card.notes
    assert " of 8 classes have no training example, and cannot be learned: " in line
    assert line.endswith("the other splits have them; ask for fewer images in data.validation and "
                         "data.test")  # fmt: skip


@pytest.mark.parametrize(
    ("size", "fit", "noted"),
    [([4, 8], "resize", True), ([8, 8], "resize", False), ([9, 9], "resize", False),
     ([4, 8], "pad", False), (None, "resize", False)],
)  # fmt: skip
def test_images_that_are_shrunk_and_then_enlarged_are_noted(tmp_path, size, fit, noted):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "x.png")
    sized = "" if size is None else f",size={size}"
    data = f"data={{source='folder',path='{tmp_path}',channels=1,validation=0{sized}}}"
    inputs = f"input={{size=[8,8],fit='{fit}'}}"
    notes = prepare(load_config("lenet5-digits", [data, inputs, MODEL])).card.notes
    assert len(notes) == noted
    if noted:
        assert notes[0].startswith("data.size = [4, 8] is smaller than input.size = [8, 8]: ")
        assert notes[0].endswith("write data.size = [8, 8]")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["road", "road"], "'road' is there twice; write distinct names"),
        (["road", "road "], "'road' is there twice; write distinct names"),
        (["", "car"], "name 0 .from 0. is empty"),
    ],
)
@pytest.mark.parametrize("key", ["classes", "columns"])
def test_classes_and_columns_have_distinct_names(names, problem, key):
    data = "data={source='csv',path='x.csv',channels=1,validation=0,columns=['a']}"
    config, task = {
        "classes": ("unet-pennfudan", []),
        "columns": ("lenet5-digits", ["task=multilabel", data, "loss={name='focal'}"]),
    }[key]
    with pytest.raises(ConfigError, match=f"data.{key}: {problem}"):
        load_config(config, [*task, f"data.{key}={names}"])
