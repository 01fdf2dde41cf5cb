"""Provenance of a run: which sources, keys, settings and versions decide its bytes."""

import shutil
from functools import reduce
from importlib import resources
from pathlib import Path

import jax
import pytest

from convax.training.config.schema import load_config
from convax.training.experiment import prepare
from convax.training.loop import resume
from convax.training.run import provenance
from convax.training.run.directory import RunError, create_run


def test_code_hash_covers_every_source_in_every_folder(tmp_path, monkeypatch):
    """One file more in a folder below operations, networks or training is another code."""
    packages = {name: Path(str(resources.files(name))) for name in provenance._PACKAGES}
    for name, folder in packages.items():
        shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance.resources, "files", lambda name: tmp_path / name)
    code = provenance.code_hash.__wrapped__
    assert code() == provenance.code_hash()
    folders = {file.parent for file in tmp_path.rglob("*.py")}
    assert tmp_path / "convax.training/data/augment" in folders
    hashes = {code()}
    for folder in folders:
        (folder / "more.py").write_text("")
        hashes.add(code())
    assert len(hashes) == len(folders) + 1
    (tmp_path / "convax.ops/notes.txt").write_text("decides nothing")
    assert code() in hashes


def test_keys_that_decide_nothing_exist_and_are_left_out(tiny):
    elsewhere = {"init_from": {"path": "x"}, "proposals": {"path": "x"}, "callbacks": []}
    config = load_config(tiny).model_dump(exclude_none=True) | elsewhere
    config["data"] |= {"num_workers": 2, "unreadable": "skip"}
    kept = provenance.relevant_config(config)
    for *tables, key in provenance._FREE:
        assert key in reduce(dict.__getitem__, tables, config)
        assert key not in reduce(dict.__getitem__, tables, kept)
    assert kept.keys() == config.keys() - {"callbacks", "checkpoints", "logging"}


def test_check_unchanged_compares_settings_of_jax_that_the_run_recorded(tiny, tmp_path):
    experiment = prepare(load_config(tiny))
    run = create_run(experiment.config, tmp_path / "run", experiment.card)
    assert resume.check_unchanged(run, experiment, force=False)
    with jax.default_matmul_precision("highest"), pytest.raises(RunError) as caught:
        resume.check_unchanged(run, experiment, force=False)
    assert '  settings.jax_default_matmul_precision: (none) -> "highest"' in str(caught.value)
    old = run.info()["provenance"]
    del old["settings"]
    run.update_info(provenance=old)
    with jax.default_matmul_precision("highest"):
        assert resume.check_unchanged(run, experiment, force=False)
    # From here on they are.
    with pytest.raises(RunError, match=r'matmul_precision: "highest" -> \(none\)'):
        resume.check_unchanged(run, experiment, force=False)


def test_provenance_has_the_version_of_pillow_only_of_streamed_data(tiny, monkeypatch):
    config = load_config(tiny)
    folder = load_config(
        tiny, ['data={source="folder",path="x",channels=3,validation=0,size=[8,8],stream=true}']
    )
    versions = [provenance.provenance(c, "")["versions"].keys() for c in (config, folder)]
    assert versions[1] - versions[0] == {"pillow"}
    old, now = provenance.provenance(config, ""), provenance.provenance(folder, "")
    assert "pillow" not in provenance.comparable(now, old)["versions"]
    assert provenance.comparable(now, now) == now
