"""Tables that say the class, the part and the group of each image; groups and folds of a split."""

import numpy as np
import pytest
from PIL import Image

from convax.inference.predictor import load
from convax.training.config.schema import ConfigError, load_config
from convax.training.data import DataError, load_table, split, table_classes, unsplit
from convax.training.data.dataset import Dataset, Split
from convax.training.experiments.study import train_study
from convax.training.loop.signals import InterruptedRun
from convax.training.run.directory import Run
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder

HEAD = "file,label,split,patient\n"
LINES = """a.png,cat,train,1
b.png,dog,train,1
c.png,cat,val,2
d.png,dog,test,3
e.png,dog,Train,4
"""


@pytest.fixture
def table(tmp_path):
    """``table(text) -> the CSV file``, with the images a to e beside it."""
    for i, name in enumerate("abcde"):
        Image.new("L", (2, 2), 10 * i).save(tmp_path / f"{name}.png")

    def write(text=LINES):
        (tmp_path / "t.csv").write_text(HEAD + text)
        return tmp_path / "t.csv"

    return write


HOW = {"columns": ["label"], "kind": "class", "channels": 1}


def test_a_table_says_class_and_part_of_each_image(table):
    found = load_table(table(), **HOW, split_column="split")
    assert found.classes == ("cat", "dog")
    assert [part.labels.tolist() for part in found[:3]] == [[0, 1, 1], [0], [1]]
    assert found.train.images[:, 0, 0, 0].tolist() == [0, 10, 40]
    assert found.train.labels.dtype == np.int32 and found.groups is None
    assert table_classes(table(), "label", "split") == ("cat", "dog")
    whole = load_table(table(), **HOW, group_column="patient")
    assert whole.train.count == 5 and np.array_equal(whole.groups, [0, 0, 1, 2, 3])  # type: ignore[arg-type]


def test_a_parquet_file_is_read_as_its_text(table, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"file": [f"{n}.png" for n in "abcde"], "label": [7, 7, 3, 3, 7]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table()
    found = load_table(tmp_path / "t.parquet", **HOW)
    assert found.classes == ("3", "7") and found.train.labels.tolist() == [1, 1, 0, 0, 1]
    (tmp_path / "t.parquet").write_bytes(b"no such file")
    with pytest.raises(
        DataError, match=r"t\.parquet: cannot be read: .*; data\.path should be a P"
    ):
        load_table(tmp_path / "t.parquet", **HOW)


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("a.png,cat,later,1\n", {}, r"line 2: got 'later', need train, validation or test"),
        ("a.png,,train,1\n", {}, r"line 2: no class; write its name"),
        ("a.png,cat,test,1\n", {}, r"no line is of the training part"),
        (
            "a.png,cat,train,1\nb.png,cow,val,2\n",
            {},
            r"line 3: class 'cow' is in validation but not in train",
        ),
        (
            "a.png,cat,train,1\nb.png,cat,val,1\n",
            {"group_column": "patient"},
            r"line 3: group '1' is in train and in validation",
        ),
        ("a.png,cat,train,\n", {"group_column": "patient"}, r"line 2: no group; write one"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(table, text, how, message):
    with pytest.raises(DataError, match=message):
        load_table(table(text), **HOW, split_column="split", **how)


def grouped(seed, count=240, groups=40):
    """Examples in groups of several sizes, of one class in four."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.25).astype(np.int32)
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    made = unsplit(images, labels, ("common", "rare"))
    return made._replace(groups=rng.integers(0, groups, count))


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_in_two_parts_and_parts_are_about_as_asked(seed):
    data = grouped(seed)
    made = split(data, validation=0.2, test=0.25, seed=seed)
    groups = [set(data.groups[part.images.ravel()]) for part in made[:3]]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert sorted(np.concatenate([p.images.ravel() for p in made[:3]])) == list(range(240))
    for part, share in zip(made[:3], (0.55, 0.2, 0.25), strict=True):
        assert abs(part.count - share * 240) <= 8
        assert abs(part.labels.mean() - data.train.labels.mean()) < 0.07
    assert split(data, validation=0.2, test=0.25, seed=seed).test.labels.tobytes() == (
        made.test.labels.tobytes()
    )


def test_groups_that_leave_a_part_empty_are_said():
    data = grouped(0, groups=1)
    with pytest.raises(DataError, match="group_column: 1 groups, each of which is in one part"):
        split(data, validation=0.2, test=0, seed=0)


def test_folds_that_groups_cannot_fill_are_said():
    data = grouped(0, groups=3)
    with pytest.raises(DataError, match=r"fold: 3 groups, .* cannot fill 5 parts; ask for fewer"):
        split(data, validation=0.5, test=0, seed=0, fold="1/5")


def several(count):
    """A dataset whose images are of several classes, the last of which is rare."""
    rng = np.random.default_rng(0)
    labels = (rng.random((count, 3)) < (0.5, 0.3, 0.1)).astype(np.uint8)
    none = Split(np.zeros((0, 1, 1, 1), np.uint8), labels[:0])
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Dataset(Split(images, labels), none, none, ("a", "b", "c"))


@pytest.mark.parametrize("kind", ["class", "classes", "groups", "any"])
def test_each_image_is_validated_in_one_fold_and_the_test_part_stays(kind):
    data = {"classes": several(200), "groups": grouped(1, 200)}.get(
        kind, grouped(1, 200)._replace(groups=None)
    )
    stratify = kind != "any"
    made = [
        split(data, validation=0.5, test=0.1, seed=3, stratify=stratify, fold=f"{i}/4")
        for i in (1, 2, 3, 4)
    ]
    validated = np.concatenate([fold.validation.images.ravel() for fold in made])
    tested = made[0].test.images.ravel()
    assert sorted([*validated, *tested]) == list(range(200))
    for fold in made:
        assert (fold.test.images.ravel() == tested).all()
        rest = [*fold.train.images.ravel(), *fold.validation.images.ravel()]
        assert sorted([*rest, *tested]) == list(range(200))
        if kind == "groups":
            held = set(data.groups[fold.validation.images.ravel()])
            assert not held & set(data.groups[fold.train.images.ravel()])
    if kind in ("class", "classes"):
        rare = [np.atleast_2d(fold.validation.labels.T)[-1].sum() for fold in made]
        assert max(rare) - min(rare) <= (1 if kind == "class" else 2)


def test_folds_that_there_are_not(tmp_path):
    data = grouped(0)._replace(groups=None)
    for fold in ("6/5", "0/5", "1/1", "a/5", "5"):
        with pytest.raises(DataError, match=r"data\.fold: got .*, need one such as"):
            split(data, validation=0, test=0, seed=0, fold=fold)
    with pytest.raises(DataError, match="240 images cannot be dealt out to 500 parts"):
        split(data, validation=0, test=0, seed=0, fold="1/500")
    with pytest.raises(DataError, match=r"data\.fold: the data has a validation part of its own"):
        split(data._replace(validation=data.train), validation=0, test=0, seed=0, fold="1/5")
    config = load_config(write_tiny(tmp_path))
    with pytest.raises(ConfigError, match="folds: for one config and seed; leave out the seeds"):
        train_study(config, tmp_path / "study", folds=3, seeds=[1, 2])
    csv = ["data.source=csv", "data.path=x", "data.channels=1"]
    with pytest.raises(ConfigError, match="columns: the class of an image is in one column"):
        load_config(write_tiny(tmp_path), [*csv, 'data.columns=["a","b"]'])


@pytest.mark.slow
def test_a_cross_validation_is_one_table_with_mean_and_deviation(tmp_path, command):
    config = write_tiny(tmp_path)
    short = ["--set", "training.steps=20", "--out", tmp_path / "cv"]
    code, out, err = command("train", config, "--folds", "3", *short)
    assert code == 0, err
    results = Run(tmp_path / "cv").read_json("results.json")
    rows = results["members"]
    assert [row["keys"] for row in rows] == [{"data.fold": f"{i}/3"} for i in (1, 2, 3)]
    accuracies = [row["test"]["accuracy"] for row in rows]
    spread = results["test"]["accuracy"]
    np.testing.assert_allclose(
        [spread["mean"], spread["std"]], [np.mean(accuracies), np.std(accuracies, ddof=1)]
    )
    assert "mean and standard deviation of 3" in out + err
    counts = [Run(tmp_path / "cv" / f"fold-{i}").dataset().counts for i in (1, 2, 3)]
    assert [c["train"] + c["validation"] for c in counts] == [130] * 3
    assert load(tmp_path / "cv").networks == 3  # an ensemble
    with pytest.raises(InterruptedRun):  # in the first fold
        short = load_config(config, ["training.steps=20"])
        train_study(short, tmp_path / "again", folds=3, display=Recorder(8))
    assert command("train", "--resume", tmp_path / "again")[0] == 0
    assert Run(tmp_path / "again").read_json("results.json") == results
