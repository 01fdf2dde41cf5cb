"""Trackers: what each records, that a resumed run goes on there, and that none stops a training."""

import importlib
import json
import struct
import sys
import threading
import time

import pytest

import convax
from convax.training.config.schema import load_config
from convax.training.experiments.study import train_study
from convax.training.loop import tracking
from convax.training.loop.signals import InterruptedRun
from convax.training.loop.tensorboard import scalars
from convax.training.trackers import worker
from convax.training.trackers.record import TrackerRecord
from convax.training.trackers.tracker import Service, Subject, TrackerError
from tests.training.loop.test_loop import Recorder, final_bytes

ON = "logging.wandb=true"


class Fake:
    """A tracker in memory: what each run there was sent, and how it ended."""

    def __init__(self):
        self.runs, self.endings, self.subjects = {}, [], []

    def open(self, subject, known):
        self.subjects.append(subject)
        return FakeRun(self, known or f"run {len(self.runs)}")


class FakeRun:
    def __init__(self, fake, id):
        self.id, self._fake = id, fake
        fake.runs.setdefault(id, [])

    def log(self, figures, step):
        self._fake.runs[self.id].append((step, dict(figures)))

    def finish(self, ending):
        self._fake.endings.append(ending)


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    monkeypatch.setitem(tracking.TRACKERS, "wandb", Service(fake.open, "help"))
    return fake


def logged(run):
    return [(record["step"], scalars(record)) for record in run.metrics()]


def without_rate(sent):
    """The same without what the clock decides."""
    return [
        (step, {name: value for name, value in figures.items() if "per_second" not in name})
        for step, figures in sent
    ]


def test_a_resumed_run_goes_on_with_its_record(tiny, whole, tmp_path, fake):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny, [ON]), tmp_path / "run", display=Recorder(34))
    # As if it had been killed behind what it has sent: from its checkpoint it sends that again.
    kept = TrackerRecord(tmp_path / "run", "wandb")
    assert kept.id == "run 0" and fake.endings == ["stopped"]
    before = len(fake.runs["run 0"])
    run = convax.resume(tmp_path / "run")
    assert fake.endings == ["stopped", "finished"] and list(fake.runs) == ["run 0"]
    assert len(fake.runs["run 0"]) > before > 0
    assert without_rate(fake.runs["run 0"]) == without_rate(logged(run))
    (subject, _) = fake.subjects
    assert (subject.name, subject.project) == ("run", "convax")
    assert subject.config["training"]["steps"] == 60
    assert final_bytes(run) == final_bytes(whole)  # with a tracker as without


def test_steps_that_were_sent_are_not_sent_again(tiny, tmp_path, fake):
    with pytest.raises(InterruptedRun):
        convax.train(load_config(tiny, [ON]), tmp_path / "run", display=Recorder(34))
    kept = json.loads((tmp_path / "run" / "trackers" / "wandb.json").read_text())
    kept["last"]["train"] = 49  # it was killed later, and began again from the checkpoint
    (tmp_path / "run" / "trackers" / "wandb.json").write_text(json.dumps(kept))
    before = len(fake.runs["run 0"])
    convax.resume(tmp_path / "run")
    steps = [s for s, f in fake.runs["run 0"][before:] if "train/loss" in f]
    assert steps and min(steps) > 49 and len(set(steps)) == len(steps)


def test_each_run_of_a_study_has_a_record(tiny, tmp_path, fake):
    study = train_study(load_config(tiny, [ON]), tmp_path / "study", seeds=[0, 1])
    assert len(fake.runs) == 2 and fake.endings == ["finished", "finished"]
    for name in study.members:
        sent = fake.runs[TrackerRecord(study.run(name).path, "wandb").id]
        assert without_rate(sent) == without_rate(logged(study.run(name)))


def fails_to_open(subject, known):
    raise TrackerError("not logged in: `wandb login`")


def fails_to_log(subject, known):
    class Failing(FakeRun):
        def log(self, figures, step):
            raise ConnectionError("no route\nto host")

    return Failing(Fake(), "run")


def ends_the_process(subject, known):
    sys.exit(3)


def never_ends(subject, known):
    threading.Event().wait(60)


@pytest.mark.parametrize(
    ("open", "said"),
    [
        (fails_to_open, "not logged in: `wandb login`"),
        (fails_to_log, "ConnectionError: no route; help"),
        (ends_the_process, "SystemExit; help"),
        (never_ends, "it is not done after 0 s; help"),
    ],
)
def test_a_tracker_that_fails_stops_no_training(tiny, whole, tmp_path, monkeypatch, open, said):
    monkeypatch.setitem(tracking.TRACKERS, "wandb", Service(open, "help"))
    finish = worker.Worker.finish
    monkeypatch.setattr(worker.Worker, "finish", lambda w, ending: finish(w, ending, 0.05))
    display = Recorder()
    run = convax.train(load_config(tiny, [ON]), tmp_path / "run", display=display)
    assert final_bytes(run) == final_bytes(whole)
    (line,) = [note for note in display.notes if "logging.wandb" in note]
    assert line == f"note: logging.wandb: {said}; training goes on without it"


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_said(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    subject = Subject("run", tmp_path, "convax", {})
    given = worker.Worker(name, tracking.TRACKERS[name], subject, scalars)
    given.finish("finished")
    assert given.problem == f"not installed: pip install 'convax[{name}]'"


def test_a_damaged_record_begins_anew(tmp_path):
    (tmp_path / "trackers").mkdir()
    for text in ("", "[]", '{"id": 3}', '{"id": "a", "last": {"train": "x"}}'):
        (tmp_path / "trackers" / "wandb.json").write_text(text)
        kept = TrackerRecord(tmp_path, "wandb")
        assert kept.id is None and kept.take({"kind": "train", "step": 0})


# -------------------------------------------------------------- the packages, where they are


@pytest.fixture
def session(tmp_path, monkeypatch):
    """``session(name, known, steps, ending)`` tracks as a training does; returns the id."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    config = {"seed": 0, "data": {"source": "digits"}}

    def run(name, steps, ending):
        subject = Subject("first", tmp_path, "numbers", config)
        given = worker.Worker(name, tracking.TRACKERS[name], subject, scalars)
        for step in steps:
            given.send({"kind": "train", "step": step, "loss": 1 / step})
        given.finish(ending)
        assert given.problem is None
        return TrackerRecord(tmp_path, name).id

    return run


@pytest.mark.filterwarnings("ignore")  # of its own packages
def test_mlflow_has_one_run_of_both_sessions(session, capsys):
    pytest.importorskip("mlflow")
    client = importlib.import_module("mlflow.tracking").MlflowClient
    first = session("mlflow", [1, 2], "stopped")
    assert client().get_run(first).info.status == "KILLED"
    assert session("mlflow", [2, 4], "finished") == first
    found = client().get_run(first)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert found.data.params == {"seed": "0", "data.source": "digits"}
    history = client().get_metric_history(first, "train/loss")
    assert [(each.step, each.value) for each in history] == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert capsys.readouterr().out == ""


def parts_of(content):
    """What a file in the format of LevelDB's log has: blocks of 32 KiB, each part with a head."""
    place, whole = 7, b""  # behind the head of the file
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or its end
            yield whole
            whole = b""


def test_wandb_keeps_one_run_of_both_sessions(session, tmp_path, capsys):
    pytest.importorskip("wandb")
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    first = session("wandb", [1, 2], "stopped")
    assert session("wandb", [2, 4], "finished") == first
    ends, found, endings = time.monotonic() + 30, [], []
    while len(endings) < 2 and time.monotonic() < ends:  # its own process writes, a little later
        found, endings = [], []
        for file in sorted((tmp_path / "wandb").glob(f"offline-run-*-{first}*/run-{first}.wandb")):
            for data in parts_of(file.read_bytes()):  # which `wandb sync` sends
                record = records.Record.FromString(data)
                items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
                if items:
                    found.append((int(items["step"]), float(items["train/loss"])))
                if record.HasField("exit"):
                    endings.append(record.exit.exit_code)
    assert found == [(1, 1.0), (2, 0.5), (4, 0.25)] and endings == [1, 0]
    assert capsys.readouterr().out == ""


def test_wandb_without_a_login_is_given_up(tmp_path, monkeypatch):
    pytest.importorskip("wandb").teardown()  # which keeps what the environment was
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    given = worker.Worker(
        "wandb", tracking.TRACKERS["wandb"], Subject("a", tmp_path, "b", {}), scalars
    )
    given.finish("finished")
    assert given.problem is not None and given.problem.startswith("not logged in: `wandb login`")


def test_trackio_keeps_one_run_of_both_sessions(session, tmp_path, monkeypatch, capsys):
    pytest.importorskip("trackio")
    storage = importlib.import_module("trackio.sqlite_storage")
    for module in (importlib.import_module("trackio.utils"), storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    first = session("trackio", [1, 2], "stopped")
    assert session("trackio", [2, 4], "finished") == first
    sent = storage.SQLiteStorage.get_logs("numbers", first)
    losses = [(each["step"], each["train/loss"]) for each in sent if "train/loss" in each]
    assert losses == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert [each["ending"] for each in sent if "ending" in each] == ["stopped", "finished"]
    assert capsys.readouterr().out == ""
