"""Metrics of one's own: given in Python, judged by, and what they may not return."""

import math

import numpy as np
import pytest

import convax
from convax.training.config.errors import ConfigError
from convax.training.data import Split
from convax.training.loop.recorder import stopping_rules
from convax.training.plugins.tables import METRICS, OwnMetric, RegistrationError
from convax.training.run.directory import RunError
from convax.training.tasks.own_metrics import MetricError, make_own_metrics
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder
from tests.training.plugins.test_plugins import nothing_stays


@pytest.fixture(autouse=True)
def clean():
    with nothing_stays():
        yield


def errors(probabilities, labels):
    wrong = probabilities.argmax(axis=-1) != labels
    return {"count": wrong.sum(), "share": wrong.mean()}


def test_metrics_given_in_python_are_shown_recorded_and_judged_by(tmp_path):
    convax.register("metric", larger_is_better=False)(errors)
    tables = convax.config(write_tiny(tmp_path)).model_dump(exclude_none=True)
    tables["training"]["steps"] = 40
    tables["early_stopping"] = {"metric": "errors.share", "patience": 1}
    tables["metrics"] = [{"name": "errors"}]  # and given below: once
    display = Recorder()
    run = convax.train(tables, tmp_path / "run", metrics=[errors], display=display)
    assert stopping_rules(run.config()).mode == "min"
    records = [r for r in run.metrics() if r["kind"] == "validation"]
    assert all(r["errors.share"] == pytest.approx(1 - r["accuracy"]) for r in records)
    assert any("errors.count 0  errors.share 0" in note for note in display.notes)
    shares = [record["errors.share"] for record in records]
    best = convax.evaluate(run.path, "validation", metrics=[errors])
    assert best.figures["errors.share"] == min(shares)
    METRICS.clear()
    with pytest.raises(RunError, match=r"was trained with .*\.errors; register these first"):
        convax.evaluate(run.path)


def test_a_watched_figure_that_is_not_there_is_named(tmp_path):
    config = convax.config(write_tiny(tmp_path)).model_dump(exclude_none=True)
    config["early_stopping"] = {"metric": "errors.shares"}
    with pytest.raises(ConfigError, match=r"'errors\.shares' is no figure of an eval.*errors\.cou"):
        convax.train(config, tmp_path / "run", metrics=[errors])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros(3), r"odd: returned float64 \(3,\), need a finite number"),
        ({"a": math.nan}, r"odd\.a: returned nan, need a finite number"),
        (None, "odd: returned None, need"),
    ],
)
def test_what_is_no_figure(value, said):
    METRICS["odd"] = OwnMetric(lambda outputs, labels: value, True)
    entry = type("Entry", (), {"name": "odd", "__iter__": lambda self: iter([("name", "odd")])})()
    measure = make_own_metrics([entry])
    assert measure is not None
    with pytest.raises(MetricError, match=said):
        measure(None, Split(np.zeros((1, 2, 2, 1), np.uint8), np.zeros(1, np.int32)))


def test_a_metric_needs_a_name(tmp_path):
    with pytest.raises(RegistrationError, match="metrics: got <lambda>, need functions with names"):
        convax.train("lenet5-digits", tmp_path / "run", metrics=[lambda y, t: 0.0])
