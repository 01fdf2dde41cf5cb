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

import numpy as np

from convax.training.run.directory import Run
from convax.training.run.metrics_log import TIMINGS
from convax.training.run.provenance import relevant_config
from tests.fault_injection import faults
from tests.fault_injection.table import Outcome
from tests.fault_injection.victim import Ended, convax_process
from tests.fault_injection.victims import VICTIMS

FULL = ("open", "write", "mkdir")
READ_ONLY = ("open", "mkdir", "rename", "remove")


class Bench:
    """A run that was never stopped, and others that are."""

    def __init__(self, folder: Path, seed: str, victim: str):
        self._folder, self._rng, self._victim = folder, random.Random(seed), VICTIMS[victim]
        self._config = self._victim.write(folder)
        self._data = folder / self._victim.data
        place = self._place("whole")
        events = folder / "events"
        ended = self._train(place, partial(faults.count, place, events))
        assert ended.code == 0, ended.output
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
        ended = self._train(place, partial(faults.kill_at, place, at))
        for _ in range(self._rng.randrange(3)):
            again = self._rng.randrange(len(self.events))
            ended = self._resume(place, partial(faults.kill_at, place, again))
        del ended
        return self._outcome(place, f"SIGKILL in {_group(kind)}")

    def _killed_by_the_clock(self, place: Path) -> Outcome:
        """SIGKILL at a random instant, up to three times."""
        self._train(place, send=(self._rng.uniform(0, self._seconds), signal.SIGKILL))
        for _ in range(self._rng.randrange(3)):
            self._resume(place, send=(self._rng.uniform(0, self._seconds), signal.SIGKILL))
        return self._outcome(place, "SIGKILL at a random instant")

    def _signaled(self, place: Path) -> Outcome:
        """SIGTERM or Ctrl-C at a random instant."""
        signum = self._rng.choice([signal.SIGTERM, signal.SIGINT])
        ended = self._train(place, send=(self._rng.uniform(0, self._seconds), signum))
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
            arrays = dict(np.load(self._data))
            arrays[self._victim.images][self._rng.randrange(100), 0, 0] ^= 1
            np.savez(self._data, **arrays)
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
        self._train(place, partial(faults.kill_at, place, at))

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
        elif Run(run).info().get("status") == "finished" if _readable(run) else False:
            return Outcome(name, *self._compared(run))
        else:
            ended = self._resume(place)
        if ended.code == 0:
            return Outcome(name, *self._compared(run))
        if ended.crashed or ended.code != 2 or not ended.error or restore is None:
            return Outcome(name, "lost", f"exit code {ended.code}: {ended.output[-1500:]}")
        said = self._anonymous(ended.error, place)
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
            (copy / "run" / damaged.name).unlink(missing_ok=True)
            options = []
        ended = self._resume(copy, options=options)
        end, detail = ("", "") if ended.code or options else self._compared(copy / "run")
        shutil.rmtree(copy)
        if ended.crashed or ended.code or end == "lost":
            return f"exit code {ended.code}: {detail}{ended.output[-1500:]}"
        return None

    def _compared(self, run: Path) -> tuple[str, str]:
        found = fingerprint(run)
        odd = sorted(k for k in {**found, **self._whole} if found.get(k) != self._whole.get(k))
        return (
            ("lost", f"other than the whole run in {', '.join(odd)}") if odd else ("identical", "")
        )

    def _train(
        self, place: Path, fault: Callable[[], None] | None = None, send: Any = None
    ) -> Ended:
        options = [text for option in self._victim.options for text in ("--set", option)]
        arguments = ["train", str(self._config), "--out", str(place / "run"), *options]
        return convax_process(arguments, self._folder / "output", fault, send)

    def _resume(
        self,
        place: Path,
        fault: Callable[[], None] | None = None,
        send: Any = None,
        options: list[str] | None = None,
    ) -> Ended:
        if not (place / "run").exists():
            return self._train(place, fault, send)
        arguments = ["train", "--resume", str(place / "run"), *(options or [])]
        return convax_process(arguments, self._folder / "output", fault, send)

    def _place(self, name: str) -> Path:
        place = self._folder / name
        place.mkdir()
        return place

    def _anonymous(self, text: str, place: Path) -> str:
        text = text.replace(str(place / "run"), "RUN").replace(str(self._folder), "FOLDER")
        text = re.sub(r"\b[0-9a-f]{64}\b", "...", text)
        return re.sub(r"step-\d+", "STEP", text.removeprefix("error: "))


def fingerprint(run: Path) -> dict[str, Any]:
    """All that must be the same in the end."""
    found: dict[str, Any] = {}
    opened = Run(run)
    for pointer in ("last", "best"):
        name = (opened.checkpoints / pointer).read_text()
        found[pointer] = name
        for file in sorted((opened.checkpoints / name.strip()).iterdir()):
            found[f"{pointer}/{file.name}"] = file.read_bytes()
    found["metrics.jsonl"] = [
        {k: v for k, v in json.loads(line).items() if k not in TIMINGS}
        for line in opened.metrics_file.read_text().splitlines()
    ]
    # A file that is cut short within keys that decide nothing goes on, as an edited one would.
    found["config.toml"] = relevant_config(opened.config().model_dump(mode="json"))
    found["dataset.json"] = (run / "dataset.json").read_bytes()
    info = opened.info()
    found["result"] = [info["status"], info["result"]["step"], info["result"]["test"]]
    return found


def _readable(run: Path) -> bool:
    try:
        Run(run).info()
    except ValueError:
        return False
    return True


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
    if label.split(" ")[-1] in ("config.toml", "run.json", "dataset.json", "metrics.jsonl"):
        return label.split(" ")[-1]
    return "the folders"
