"""One fault after the other, and what came of each."""

import errno
import json
import random
import re
import resource
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from convax.training.run.directory import Run
from convax.training.run.metrics_log import TIMINGS
from convax.training.run.provenance import relevant_config
from convax.training.run.study_directory import Study, is_study
from tests.fault_injection import faults
from tests.fault_injection.table import Outcome
from tests.fault_injection.victim import Ended, Send, convax_process
from tests.fault_injection.victims import VICTIMS

FULL = ("open", "write", "mkdir")
READ_ONLY = ("open", "mkdir", "rename", "remove")
STUDY = ("study.json", "study.toml")
# A run hangs that takes so many seconds, and so many times those of the first one, which compiles.
SHORTEST, FACTOR, UNKNOWN = 300.0, 10, 3600.0


class Bench:
    """A run that was never stopped, and others that are."""

    def __init__(self, folder: Path, seed: str, victim: str):
        self._folder, self._rng, self._victim = folder, random.Random(seed), VICTIMS[victim]
        self._config = self._victim.write(folder)
        self._data = folder / self._victim.data
        place = self._place("whole")
        events = folder / "events"
        self._patience = UNKNOWN
        ended = self._train(place, partial(faults.count, place, events))
        assert ended.code == 0, ended.output
        self._patience = max(SHORTEST, FACTOR * ended.seconds)
        self.events = events.read_text().splitlines()
        self._seconds = self._train(self._place("timed")).seconds
        self._whole = fingerprint(place / "run")
        assert fingerprint(self._folder / "timed" / "run") == self._whole
        self._kinds: list[Callable[[Path], Outcome]] = [
            self._killed_at_the_disk,
            self._killed_at_the_disk,
            self._killed_by_the_clock,
            self._signaled,
            self._starved,
            self._damaged,
            self._damaged,
            self._data_changed,
        ]
        if self._victim.streams:
            self._kinds.append(self._worker_killed)

    def trial(self, number: int) -> Outcome:
        """The fault of that number: of one kind after the other, of random detail."""
        place = self._place(f"trial-{number}")
        outcome = self._kinds[number % len(self._kinds)](place)
        first = outcome.detail.partition("\n")[0]
        print(f"{number:4}  {outcome.fault}: {outcome.end}  {first}", flush=True)
        shutil.rmtree(place)
        return outcome

    def _killed_at_the_disk(self, place: Path) -> Outcome:
        """SIGKILL in the middle of a use of the disk; the resumed run too, perhaps."""
        kind = self._rng.choice(sorted(set(self.events)))
        at = self._rng.choice([i for i, label in enumerate(self.events) if label == kind])
        ended = [self._train(place, partial(faults.kill_at, place, at))]
        for _ in range(self._rng.randrange(3)):
            again = self._rng.randrange(len(self.events))
            ended.append(self._resume(place, partial(faults.kill_at, place, again)))
        return self._outcome(place, _if_killed(ended, f"SIGKILL in {_group(kind)}"))

    def _killed_by_the_clock(self, place: Path) -> Outcome:
        """SIGKILL at a random instant, up to three times."""
        ended = [self._train(place, send=self._sometime(signal.SIGKILL))]
        for _ in range(self._rng.randrange(3)):
            ended.append(self._resume(place, send=self._sometime(signal.SIGKILL)))
        return self._outcome(place, _if_killed(ended, "SIGKILL at a random instant"))

    def _worker_killed(self, place: Path) -> Outcome:
        """SIGKILL of a process that reads ahead, at a random instant: a line says so."""
        ended = self._train(place, send=self._sometime(signal.SIGKILL, to_worker=True))
        name = "SIGKILL of a worker process"
        said = "a worker process that decodes images was killed" in ended.error
        if ended.crashed or ended.code not in (0, 2) or (ended.code == 2 and not said):
            return Outcome(name, "lost", f"exit code {ended.code}: {ended.output[-1500:]}")
        return self._outcome(place, name if ended.code else "ended before the SIGKILL")

    def _signaled(self, place: Path) -> Outcome:
        """SIGTERM or Ctrl-C at a random instant."""
        signum = self._rng.choice([signal.SIGTERM, signal.SIGINT])
        ended = self._train(place, send=self._sometime(signum))
        name = f"{signum.name} at a random instant"
        if ended.crashed or ended.code not in (0, 128 + signum):
            return Outcome(name, "lost", f"exit code {ended.code}: {ended.output[-1500:]}")
        return self._outcome(place, name)

    def _starved(self, place: Path) -> Outcome:
        """A disk full, a file too large, a disk that turns read-only or fails to flush."""
        at = self._rng.randrange(len(self.events))
        name, fault = self._rng.choice(
            [
                ("disk full", partial(faults.fail_from, place, at, errno.ENOSPC, FULL)),
                ("disk read-only", partial(faults.fail_from, place, at, errno.EROFS, READ_ONLY)),
                ("fsync fails", partial(faults.fail_from, place, at, errno.EIO, ("fsync",))),
                ("limit on a file's size", partial(_limit_size, self._rng.randrange(200, 9000))),
            ]
        )
        ended = self._train(place, fault)
        if ended.crashed or ended.code not in (0, 2) or (ended.code == 2 and not ended.error):
            return Outcome(name, "lost", f"exit code {ended.code}: {ended.output[-1500:]}")
        return self._outcome(place, name)

    def _damaged(self, place: Path) -> Outcome:
        """A file of an unfinished run cut short, or with a bit flipped, or gone."""
        self._stop_somewhere(place)
        run = place / "run"
        files = [f for f in run.rglob("*") if f.is_file() and f.name != "lock" and f.stat().st_size]
        file = self._rng.choice(sorted(files))  # none of them empty
        kind = self._rng.choice(["cut short", "bit flipped", "removed"])
        content = file.read_bytes()
        self._damage(file, kind)
        name = f"{kind}: {_group(faults.label('', file.relative_to(place)).strip())}"
        return self._outcome(place, name, lambda: file.write_bytes(content), damaged=file)

    def _data_changed(self, place: Path) -> Outcome:
        """The data under an unfinished run."""
        self._stop_somewhere(place)
        content = self._data.read_bytes()
        if self._rng.random() < 0.5:
            self._victim.change(self._data, self._rng)
            name = "data changed"
        else:
            self._damage(self._data, self._rng.choice(["cut short", "removed"]))
            name = "data damaged"
        put_back = partial(self._data.write_bytes, content)
        try:
            return self._outcome(place, name, put_back, forced=name == "data changed")
        finally:
            put_back()

    def _damage(self, file: Path, kind: str) -> None:
        content = bytearray(file.read_bytes())
        if kind == "removed":
            file.unlink()
        elif kind == "cut short":
            file.write_bytes(content[: self._rng.randrange(len(content))])
        else:
            content[self._rng.randrange(len(content))] ^= 1 << self._rng.randrange(8)
            file.write_bytes(content)

    def _stop_somewhere(self, place: Path) -> None:
        """A run that was killed behind its first checkpoint, and before its result was written."""
        renames = [i for i, label in enumerate(self.events) if label == "rename last"]
        results = [i for i, label in enumerate(self.events) if label == "rename run.json"]
        at = self._rng.randrange(renames[1] + 1, results[-1])
        ended = self._train(place, partial(faults.kill_at, place, at))
        assert ended.killed, f"ended before it was killed: {ended.output}"

    def _outcome(
        self,
        place: Path,
        name: str,
        restore: Callable[[], Any] | None = None,
        *,
        forced: bool = True,
        damaged: Path | None = None,
    ) -> Outcome:
        """Resume, and compare; where it is refused, put back what was damaged and try again."""
        run = place / "run"
        if not run.exists():  # nothing had begun
            ended = self._train(place)
        elif _status(run) == "finished":
            return Outcome(name, *self._compared(run))
        else:
            ended = self._resume(place)
        if ended.code == 0:
            return Outcome(name, *self._compared(run))
        if ended.crashed or ended.code != 2 or not ended.error or restore is None:
            return Outcome(name, "lost", f"exit code {ended.code}: {ended.output[-1500:]}")
        said = self._anonymous(ended.error, place)
        forced &= damaged is None or damaged.name not in STUDY  # without which there is no study
        if forced and (problem := self._remedied(place, damaged)):
            return Outcome(name, "lost", f"after the remedy: {problem}")
        restore()
        ended = self._resume(place)
        end, detail = self._compared(run) if ended.code == 0 else ("lost", ended.output[-1500:])
        return Outcome(name, "refused" if end == "identical" else end, detail or said)

    def _remedied(self, place: Path, damaged: Path | None) -> str | None:
        """What is wrong with a copy that goes on without that file, or else with --force."""
        copy, options = self._place("remedied"), ["--force"]
        shutil.copytree(place / "run", copy / "run")
        if damaged is not None and damaged.name in ("config.toml", "run.json"):
            (copy / damaged.relative_to(place)).unlink(missing_ok=True)
            options = []
        ended = self._resume(copy, options=options)
        end, detail = ("", "") if ended.code or options else self._compared(copy / "run")
        shutil.rmtree(copy)
        if ended.crashed or ended.code or end == "lost":
            return f"exit code {ended.code}: {detail}{ended.output[-1500:]}"
        return None

    def _compared(self, run: Path) -> tuple[str, str]:
        try:
            found = fingerprint(run)
        except OSError as error:  # a file is gone, or a pointer names none
            return "lost", str(error)
        odd = sorted(k for k in {**found, **self._whole} if found.get(k) != self._whole.get(k))
        return (
            ("lost", f"other than the whole run in {', '.join(odd)}") if odd else ("identical", "")
        )

    def _train(
        self, place: Path, fault: Callable[[], None] | None = None, send: Send | None = None
    ) -> Ended:
        options = [text for option in self._victim.options for text in ("--set", option)]
        options += self._victim.arguments
        arguments = ["train", str(self._config), "--out", str(place / "run"), *options]
        return self._convax(arguments, fault, send)

    def _resume(
        self,
        place: Path,
        fault: Callable[[], None] | None = None,
        send: Send | None = None,
        options: list[str] | None = None,
    ) -> Ended:
        if not (place / "run").exists():
            return self._train(place, fault, send)
        arguments = ["train", "--resume", str(place / "run"), *(options or [])]
        return self._convax(arguments, fault, send)

    def _convax(
        self, arguments: list[str], fault: Callable[[], None] | None, send: Send | None
    ) -> Ended:
        return convax_process(arguments, self._folder / "output", self._patience, fault, send)

    def _sometime(self, signum: int, *, to_worker: bool = False) -> Send:
        return Send(self._rng.uniform(0, self._seconds), signum, to_worker)

    def _place(self, name: str) -> Path:
        place = self._folder / name
        place.mkdir()
        return place

    def _anonymous(self, text: str, place: Path) -> str:
        text = text.replace(str(place / "run"), "RUN").replace(str(self._folder), "FOLDER")
        text = re.sub(r"\b[0-9a-f]{64}\b", "...", text)
        return re.sub(r"step-\d+", "STEP", text.removeprefix("error: "))


def fingerprint(path: Path) -> dict[str, Any]:
    """All that must be the same in the end, of a run or of all runs of a study."""
    if not is_study(path):
        return _fingerprint_of_run(Run(path))
    study = Study(path)
    found = {
        f"{name}/{key}": value
        for name in study.members
        for key, value in _fingerprint_of_run(study.run(name)).items()
    }
    found |= {name: (path / name).read_bytes() for name in ("results.json", "results.csv")}
    found["study.toml"] = relevant_config(study.config().model_dump(mode="json"))
    return found | {"status": study.info()["status"]}


def _fingerprint_of_run(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pointer in ("last", "best"):
        name = (run.checkpoints / pointer).read_text()
        found[pointer] = name
        for file in sorted((run.checkpoints / name.strip()).iterdir()):
            found[f"{pointer}/{file.name}"] = file.read_bytes()
    found["metrics.jsonl"] = [
        {k: v for k, v in json.loads(line).items() if k not in TIMINGS}
        for line in run.metrics_file.read_text().splitlines()
    ]
    # A file that is cut short within keys that decide nothing goes on, as an edited one would.
    found["config.toml"] = relevant_config(run.config().model_dump(mode="json"))
    found["dataset.json"] = (run.path / "dataset.json").read_bytes()
    info = run.info()
    found["result"] = [info["status"], info["result"]["step"], info["result"]["test"]]
    return found


def _if_killed(ended: list[Ended], name: str) -> str:
    """The row of the table: another where no kill came in time, which then counts as none."""
    return name if any(process.killed for process in ended) else "ended before the SIGKILL"


def _status(path: Path) -> str | None:
    """The status of a run or a study; None where that cannot be read."""
    try:
        return (Study(path) if is_study(path) else Run(path)).info().get("status")
    except ValueError:
        return None


def _limit_size(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _group(label: str) -> str:
    """Rows of the table: what the file is for, not how it is called."""
    if "safetensors" in label or "manifest" in label or "checkpoint" in label:
        return "a checkpoint"
    if label.endswith((" last", " best")) or label in ("last", "best"):
        return "the pointers"
    if label.endswith(".png"):
        return "the figures"
    file = label.split(" ")[-1]
    if file in ("config.toml", "run.json", "dataset.json", "metrics.jsonl", *STUDY):
        return file
    if file.startswith("results."):
        return "the results"
    return "the folders"
