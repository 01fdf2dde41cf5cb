"""What people or programs may write into a run's JSON files: used as it is, or refused by a line."""

import copy
import json
import shutil

import pytest

from convax.inference.export.verify import BundleError, verify
from convax.inference.report.page import _timing
from convax.training.common.errors import ConvaxError
from convax.training.common.json_io import DEEPEST, parse_json
from convax.training.experiments.results import results_of
from convax.training.loop.progress import Silent
from convax.training.loop.resume import check_unchanged, latest_valid, repair
from convax.training.report.figures import best_validation, results_table, series
from convax.training.run import checkpoint
from convax.training.run.directory import Run, RunError
from convax.training.run.study_directory import Study
from tests.fuzz.verdict import fault_of_message
from tests.tiny import untrained, write_tiny

DEEP = 100 * '{"a":' + "1" + 100 * "}"
ODD = [
    None,
    True,
    -1,
    10**400,
    1e400,
    float("nan"),
    "",
    "\x1b[31m",
    [],
    [[]],
    [None],
    {},
    {"a": {}},
]
DEEPER = [None, -1, 10**400, "", []]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A run that was not trained, with a result and metrics all the same; and its experiment."""
    folder = tmp_path_factory.mktemp("ready")
    run, experiment = untrained(write_tiny(folder), folder / "run")
    test = {"loss": 0.5, "accuracy": 0.75, "count": 53, "split": "test"}
    result = {"step": 0, "stopped_early": None, "test": test, "peak_bytes": {"process": 1}}
    run.update_info(compile_seconds=1.5, step_bytes=None, best_to_come=None, result=result)
    window = {"loss": 1.0, "epoch": 0.5, "learning_rate": 0.1, "images_per_second": 9.0}
    run.log({"kind": "train", "step": 7, **window})
    run.log({"kind": "validation", "step": 0, **test, "split": "validation"})
    run.log({"kind": "test", "step": 7, **test, "checkpoint_step": 0})
    (name,) = checkpoint.names(run.checkpoints)
    progress = {"best": 0.5, "best_step": 0, "stale": 0}
    memory = {"progress": progress, "best": 0.5, "best_step": 0, "reason": None, "skipped": 0}
    memory |= {"window": {"loss": [0.5]}, "metrics": {"lines": 0, "sha256": 64 * "0"}}
    memory |= {"finalized_from": None}
    seal(
        run.checkpoints / name,
        checkpoint.read_manifest(run.checkpoints / name) | {"memory": memory},
    )
    return run, experiment


@pytest.fixture
def run(ready, tmp_path):
    """A copy of the run, to be written to."""
    shutil.copytree(ready[0].path, tmp_path / "run")
    return Run(tmp_path / "run")


def seal(folder, manifest):
    """Write a manifest that has the right checksum."""
    manifest = manifest | {"checksum": checkpoint.checksum(manifest)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def spoiled(values):
    """Yield `values` with one key, in a table or out of it, gone or of an odd value."""
    for path in paths(values):
        for odd in ["gone", *(ODD if len(path) == 1 else DEEPER)]:
            other = copy.deepcopy(values)
            *tables, key = path
            place = other
            for table in tables:
                place = place[table]
            if odd == "gone":
                del place[key]
            else:
                place[key] = odd
            yield other


def paths(values, above=()):
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict) and len(above) < 2:
            yield from paths(value, (*above, key))


def refused(use):
    """Say how something is refused, or None where it is taken; any other error passes."""
    try:
        use()
    except ConvaxError as error:
        fault = fault_of_message(str(error), lines=60)
        assert fault is None, (fault, str(error))
        return str(error)
    return None


def test_any_value_in_run_json_is_used_or_refused(run, ready, monkeypatch):
    experiment = ready[1]
    monkeypatch.setattr(Run, "config", lambda _: experiment.config)  # read once is enough

    def use():
        repair(run)
        results_table(run)
        _timing(run, None, None)
        results_of({"a": (run, {})}, sweep=False)
        if run.info().get("provenance") != made:
            check_unchanged(run, experiment, force=True)

    info = run.info()
    info["provenance"].pop("config")  # whose keys the schema of configs checks
    info["versions"] = info["provenance"]["versions"] = {"python": "3.13"}
    made = info["provenance"]
    outcomes = []
    for values in spoiled(info):
        (run.path / "run.json").write_text(json.dumps(values))
        outcomes.append(refused(use))
    assert None in outcomes and len([o for o in outcomes if o]) > 100
    assert any("run.json: damaged: result.test.loss" in o for o in outcomes if o)


def test_any_config_in_the_provenance_of_run_json_is_used_or_refused(run, ready):
    info = run.info()
    for config in (5, "x", [], {}, {"data": 5}, {"data": [], "training": None}, {"seed": {}}):
        about = info | {"provenance": info["provenance"] | {"config": config}}
        (run.path / "run.json").write_text(json.dumps(about))
        assert refused(lambda: check_unchanged(run, ready[1], force=False))


def test_any_value_in_dataset_json_is_used_or_refused(run):
    values = json.loads((run.path / "dataset.json").read_text())
    del values["checksum"]
    outcomes = []
    for other in spoiled(values):
        (run.path / "dataset.json").write_text(json.dumps(other))
        outcomes.append(refused(run.dataset))
    assert None in outcomes and len([o for o in outcomes if o]) > 50


@pytest.mark.parametrize("ids", [[1], ["1", "2", "3"], [1, 2, 2**63], [1, 2, None], "123"])
def test_the_numbers_of_classes_are_a_whole_number_for_each(run, ids):
    values = json.loads((run.path / "dataset.json").read_text())
    del values["checksum"]
    (run.path / "dataset.json").write_text(json.dumps(values | {"category_ids": [3, 90, -1]}))
    assert run.dataset().category_ids == (3, 90, -1)
    (run.path / "dataset.json").write_text(json.dumps(values | {"category_ids": ids}))
    assert "dataset.json: damaged: " in (refused(run.dataset) or "")


def test_any_value_in_metrics_jsonl_is_used_or_passed_over(run):
    records = run.metrics()
    assert len(records) == 3
    for record in records:
        lines = [json.dumps(other) for other in spoiled(record)]
        run.metrics_file.write_text("\n".join([*lines, DEEP, "[]", "3", ""]))
        assert len(run.metrics()) < len(lines) / 2
        results_table(run)
        results_of({"a": (run, {})}, sweep=False)
        best_validation(run)
        for kind in ("train", "validation", "test"):
            series(run.metrics(), kind)


def test_any_value_in_a_manifest_is_used_or_refused(run, ready):
    (name,) = checkpoint.names(run.checkpoints)
    manifest = checkpoint.read_manifest(run.checkpoints / name)
    manifest["provenance"] = {}
    template, outcomes = ready[1].template, []
    for values in spoiled(manifest):
        seal(run.checkpoints / name, values)
        outcomes.append(
            refused(lambda: latest_valid(Run(run.path), template, Silent(), force=False))
        )
    assert None in outcomes and len([o for o in outcomes if o]) > 100
    seal(run.checkpoints / name, manifest | {"memory": manifest["memory"] | {"finalized_from": ""}})
    with pytest.raises(checkpoint.DamagedError, match="not a checkpoint's manifest"):
        checkpoint.read_manifest(run.checkpoints / name)


@pytest.mark.parametrize("file", ["run.json", "dataset.json", "manifest.json"])
def test_json_nested_too_deeply_is_damage(run, file):
    (name,) = checkpoint.names(run.checkpoints)
    folder = run.path if file != "manifest.json" else run.checkpoints / name
    read = {"run.json": run.info, "dataset.json": run.dataset}.get(
        file, lambda: checkpoint.read_manifest(folder)
    )
    for deep in (DEEP, 100_000 * "[" + 100_000 * "]"):
        (folder / file).write_text(deep)
        with pytest.raises((RunError, checkpoint.DamagedError), match=rf"{file}: damaged: not"):
            read()


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/x", "..", "a/b", ""])
def test_a_study_has_no_members_outside_of_it(tmp_path, name):
    about = {"status": "running", "form": "map", "members": {name: {"seed": 1}}}
    (tmp_path / "study.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match=r"study\.json: damaged: members"):
        _ = Study(tmp_path).members


def test_parse_json_bounds_the_depth():
    assert parse_json(DEEPEST * "[" + DEEPEST * "]")
    with pytest.raises(ValueError, match="more than 64 lists and objects in one another"):
        parse_json((DEEPEST + 2) * "[" + (DEEPEST + 2) * "]")


@pytest.mark.parametrize("content", ["[]", "3", '"x"', "null", DEEP, '{"format": 1}'])
def test_a_manifest_of_a_bundle_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=r"manifest\.json: "):
        verify(tmp_path)
