"""The figures of each class: scikit-learn's where they are defined, and what is said of the rest."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    precision_recall_fscore_support,
)

from convax.training.config.schema import ConfigError, load_config
from convax.training.data import Split
from convax.training.evaluation import evaluate
from convax.training.tasks.classification import task as classification
from convax.training.tasks.multilabel.metrics import per_class
from convax.training.tasks.per_class import of_confusion
from convax.training.tasks.segmentation import task as segmentation
from tests.tiny import EMBEDDING, untrained, write_tiny

CLASSES = ("cat", "dog", "cow")
NONE = Split(np.zeros(0), np.zeros(0))


def confusion(labels, predictions, classes=3):
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


@settings(deadline=None, max_examples=50)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_figures_are_those_of_scikit_learn(pairs):
    labels, predictions = np.array(pairs).T
    found = of_confusion(confusion(labels, predictions, 4), "images")
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=range(4), zero_division=np.nan
    )
    never = (found.support > 0) & (found.predicted == 0)
    np.testing.assert_allclose(found.figures["precision"], np.where(never, 0, precision))
    np.testing.assert_allclose(found.figures["recall"], recall)
    np.testing.assert_allclose(found.figures["f1"], f1)
    np.testing.assert_array_equal(found.support, support)
    iou = of_confusion(confusion(labels, predictions, 4), "pixels", iou=True).figures["iou"]
    there = np.union1d(labels, predictions)
    theirs = jaccard_score(labels, predictions, labels=there, average=None)
    np.testing.assert_allclose(iou[there], theirs)
    assert np.isnan(np.delete(iou, there)).all()


def test_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, outputs = rng.integers(0, 5, 60), rng.normal(size=(60, 7))
    predictions = outputs.argmax(axis=1)
    sums = {"loss": np.array(6.0), "count": np.array(60), "correct": np.array(3)}
    found = classification.metrics(sums, outputs, Split(np.zeros(0), labels))
    seen = np.isin(predictions, labels)  # it warns of predictions of what is not there
    assert seen.any() and not seen.all()
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = balanced_accuracy_score(labels, predictions)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    assert (found["loss"], found["accuracy"]) == (0.1, 0.05)


def test_one_class_for_all_is_half_right_and_not_nine_tenths():
    labels, outputs = np.repeat([0, 1], (90, 10)), np.tile([1.0, 0.0], (100, 1))
    sums = {"loss": np.array(0.0), "count": np.array(100), "correct": np.array(90)}
    found = classification.metrics(sums, outputs, Split(np.zeros(0), labels))
    assert (found["accuracy"], found["balanced_accuracy"]) == (0.9, 0.5)
    assert found["macro_f1"] == pytest.approx(2 * 90 / 190 / 2)


def test_remarks_say_which_classes_are_never_predicted_or_undefined():
    found = of_confusion(np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]]), "images")
    assert found.remarks(CLASSES) == [
        "never predicted, which counts as precision 0: 'dog'",
        "undefined: 'cow'",
    ]
    alone = of_confusion(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]]), "images")
    assert alone.remarks(CLASSES) == [
        "not there but predicted, which leaves recall undefined: 'cow'"
    ]
    assert found.as_record(CLASSES)["cow"] == {
        "precision": None, "recall": None, "f1": None, "images": 0
    }  # fmt: skip


def test_a_class_that_is_never_predicted_has_precision_0_in_every_task():
    several = per_class(np.array([[0.9, 0.1, 0.1]]), np.array([[1, 1, 0]], np.uint8))
    np.testing.assert_allclose(several.figures["precision"], [1, 0, np.nan])
    counts = {"confusion": np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]])}
    found = segmentation.per_class(counts, np.array([]), NONE)
    np.testing.assert_allclose(found.figures["precision"], [2 / 3, 0, np.nan])
    np.testing.assert_allclose(found.figures["iou"], [2 / 3, 0, np.nan])


def test_a_foreground_that_is_nowhere_has_no_iou():
    sums = {"confusion": np.array([[4, 0], [0, 0]]), "count": np.array(1), "loss": np.array(0.0)}
    found = segmentation.metrics(sums, np.array([]), NONE)
    assert found["mean_iou"] == 1 and "foreground_iou" not in found


def test_evaluate_prints_the_recall_of_each_class(whole, command):
    code, out, _ = command("evaluate", whole.path, "--per-class")
    first, timed, heads, *rows = out.splitlines()
    assert (
        code == 0 and "balanced accuracy" in first and "macro F1" in first and "ms/image" in timed
    )
    assert heads.split() == ["class", "precision", "recall", "F1", "images"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "mean"]
    code, out, _ = command("evaluate", whole.path, "--per-class", "--json")
    record, found = json.loads(out), evaluate(whole.path).per_class
    assert found is not None
    recall = found.figures["recall"]
    assert [each["recall"] for each in record["per_class"].values()] == recall.tolist()
    assert record["balanced_accuracy"] == pytest.approx(recall.mean())


def test_validation_records_have_the_metrics_that_stop(whole, tmp_path):
    records = [r for r in whole.metrics() if r["kind"] == "validation"]
    assert all({"balanced_accuracy", "macro_f1"} < r.keys() for r in records)
    config = load_config(write_tiny(tmp_path), ["early_stopping.metric=macro_f1"])
    assert config.early_stopping.metric == "macro_f1"
    with pytest.raises(ConfigError, match="'macro_f1', which is not a metric of"):
        load_config("unet-pennfudan", ["early_stopping.metric=macro_f1"])


def test_a_task_without_figures_of_classes_says_so(tmp_path, command):
    untrained(load_config(write_tiny(tmp_path), EMBEDDING), tmp_path / "run")
    code, _, err = command("evaluate", tmp_path / "run", "--per-class")
    assert code == 2 and "--per-class: this task has no metrics of single classes" in err
