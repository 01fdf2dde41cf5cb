"""Contestants taking turns: the processes, the rounds, the figures and the tables.

Every contestant is a `worker` in a process of its own, under its own interpreter, with its own
threads and its own peak of memory. They are prepared one by one and then timed in rounds: in each
round every contestant has one turn, in an order drawn anew, while the others sleep. What is
reported is the time of a turn over that of convax in the same round, so that a machine that slows
down for a minute slows both: the median over the rounds, and the range of their middle half.
"""

import argparse
import json
import math
import os
import platform
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

HERE = Path(__file__).parent
OURS = "convax"  # the name of the contestant that the others are compared with
DEVICES = {
    "cpu": {"JAX_PLATFORMS": "cpu", "TORCH_DEVICE": "cpu"},
    "gpu": {
        "JAX_PLATFORMS": "cuda",
        "TORCH_DEVICE": "cuda",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # the contestants share its memory
    },
}


class Contestant(NamedTuple):
    module: str
    python: str = "jax"  # which of the interpreters that the command was given
    arguments: Mapping[str, Any] = {}  # of every program it is asked for
    environment: Mapping[str, str] = {}


class ContestantError(Exception):
    """A contestant cannot take part; says why."""


class Worker:
    """The process of one contestant."""

    def __init__(self, contestant: Contestant, options: argparse.Namespace):
        self.contestant, self.limit = contestant, options.limit
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        python = getattr(options, contestant.python)
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), contestant.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | DEVICES[options.device] | contestant.environment,
            text=True,
            start_new_session=True,  # with what it starts, as compilers, it is ended as a group
        )
        self.python, self.versions, self.about = python, {}, {}

    def greet(self) -> None:
        """Wait until its libraries are imported."""
        answer = self._answer("importing its libraries")
        if "missing" in answer:
            raise ContestantError(f"{answer['missing']} is not installed under {self.python}")
        self.versions = answer["versions"]

    def prepare(self, program: str, **arguments: Any) -> float:
        """Make a program and run it once; the seconds of that first run, compilation included."""
        arguments |= self.contestant.arguments
        answer = self._ask("its first step", prepare=program, arguments=arguments)
        self.about = answer["about"]
        return sum(answer["first"].values())

    def time(self, form: str, count: int) -> tuple[float, float]:
        """The seconds of one of `count` runs, and the peak of memory until now in MiB."""
        answer = self._ask("a turn", time=form, count=count)
        if not math.isfinite(answer["value"]):
            raise ContestantError(f"what it computes is {answer['value']}")
        return answer["seconds"] / count, answer["memory"]

    def close(self) -> None:
        self._kill()
        self.process.communicate()
        self.errors.close()

    def _ask(self, what: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise ContestantError(self._last_words()) from None
        return self._answer(what)

    def _answer(self, what: str) -> dict[str, Any]:
        pipe = self.process.stdout
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], self.limit)
        if not ready:
            self._kill()  # or it would go on beside the others
            raise ContestantError(f"{what} took more than {self.limit:.0f} s")
        line = pipe.readline()
        if not line:
            raise ContestantError(self._last_words())
        return json.loads(line)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return f"failed: {lines[-1]}" if lines else "ended without a word"


class Figures(NamedTuple):
    """What the rounds say of one contestant."""

    ms: float  # median
    ratio: float  # to convax: median
    low: float  # and the middle half
    high: float
    first: float  # seconds of the first run
    memory: float  # MiB above what its imports took, compilation included


def contest(
    contestants: Mapping[str, Contestant],
    program: str,
    arguments: Mapping[str, Any],
    options: argparse.Namespace,
) -> tuple[dict[str, Figures | ContestantError], dict[str, str]]:
    """One program by every contestant, each in a fresh process; and the libraries' versions.

    Raises:
        ValueError: two contestants' networks differ in the number of parameters.
    """
    workers = {name: Worker(contestant, options) for name, contestant in contestants.items()}
    results: dict[str, Figures | ContestantError] = {}
    first: dict[str, float] = {}
    try:
        for name, worker in list(workers.items()):
            try:
                worker.greet()
            except ContestantError as failure:
                results[name] = failure
        for name in [name for name in workers if name not in results]:
            progress(f"{program}: the first run of {name}")
            try:
                first[name] = workers[name].prepare(program, **arguments)
            except ContestantError as failure:
                results[name] = failure
        _check_parameters({name: workers[name].about["parameters"] for name in first})
        times, memory, failed = rounds({name: (workers[name], "") for name in first}, options)
        results |= failed
        for name, own in times.items():
            if OURS not in times:
                results[name] = ContestantError("not timed, as convax fell out")
                continue
            results[name] = Figures(
                1e3 * median(own), *spread(own, times[OURS]), first[name], memory[name]
            )
        versions = {k: v for worker in workers.values() for k, v in worker.versions.items()}
    finally:
        for worker in workers.values():
            worker.close()
    return {name: results[name] for name in contestants}, versions


def rounds(
    entries: Mapping[str, tuple[Worker, str]], options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, float], dict[str, ContestantError]]:
    """The seconds of every entry's turns, its peak of memory, and who fell out.

    Without convax there is nothing to compare with, and no round.

    An entry is a worker and the form of its program. How many runs make a turn is found out in a
    turn that does not count: as many as take `options.turn` seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in entries}
    memory: dict[str, float] = {}
    counts: dict[str, int] = {}
    failed: dict[str, ContestantError] = {}
    for index in range(options.rounds + 1):
        progress(f"round {index} of {options.rounds}")
        names = sorted(entries.keys() - failed.keys())
        random.Random(index).shuffle(names)
        for name in names:
            worker, form = entries[name]
            try:
                seconds, memory[name] = worker.time(form, counts.get(name, 1))
            except ContestantError as failure:
                failed[name] = failure
                del times[name]
                continue
            if index:
                times[name].append(seconds)
            else:
                counts[name] = min(max(round(options.turn / seconds), 1), 1000)
        if OURS not in times:
            break
    progress("")
    return times, memory, failed


def progress(what: str) -> None:
    """A line that the next one overwrites, for who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def spread(own: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """The ratio within each round: the median, and the ends of the middle half."""
    ratios = [t / o for t, o in zip(own, ours, strict=True)]
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = quantiles(ratios, n=4)
    return middle, low, high


def _check_parameters(counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"contest: the networks differ: got {dict(counts)} parameters, need one number; make "
            "the builders in nets_*.py agree"
        )


# ----------------------------------------------------------------------------------- the command


def parse(description: str, *, turn: float) -> argparse.Namespace:
    """The options that every benchmark has. `turn`: the seconds a turn should last."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    add = parser.add_argument
    add(
        "--only", default="", metavar="WORD", help="only what has a word in its name that begins so"
    )
    add("--without", default=[], action="append", metavar="PART", help="leave contestants out")
    add("--rounds", type=int, default=7)
    add("--quick", action="store_true", help="three short rounds, to see that all is in order")
    add("--write", action="store_true", help="put the tables into benchmarks/results")
    add("--device", choices=DEVICES, default="cpu", help="what to run on")
    add("--jax", default=sys.executable, metavar="PYTHON", help="who runs what is on JAX")
    add("--torch", default=sys.executable, metavar="PYTHON", help="who runs PyTorch")
    add("--limit", type=float, default=120.0, help="seconds that a first step may take")
    options = parser.parse_args()
    options.turn = turn
    if options.write and (options.only or options.quick):
        parser.error("--write is for whole runs: leave out --only and --quick")
    if options.quick:
        options.rounds, options.turn = min(options.rounds, 3), turn / 4
    if options.rounds < 1:
        parser.error("--rounds: need at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # and so end the workers
    return options


def chosen(names: Iterable[str], options: argparse.Namespace) -> list[str]:
    """Those that ``--only`` wants."""
    names = list(names)
    wanted = " " + options.only.lower().strip()
    found = [name for name in names if wanted in " " + name.lower().replace("_", " ")]
    if not found:
        sys.exit(f"--only {options.only}: no such name; need the start of a word of one of these: "
                 f"{'; '.join(names)}")  # fmt: skip
    return found


def without(contestants: Mapping[str, Contestant], options: argparse.Namespace):
    """The contestants that ``--without`` leaves."""
    unwanted = [part.lower() for part in options.without]
    return {
        name: contestant
        for name, contestant in contestants.items()
        if name == OURS or not any(part in name.lower() for part in unwanted)
    }


def better_of(results: dict[str, Any], *names: str) -> None:
    """Of several ways to run the same library, keep the one that was fastest."""
    ran = [name for name in names if isinstance(results.get(name), Figures)]
    best = min(ran, key=lambda name: results[name].ms, default=names[0])
    for name in names:
        if name != best:
            results.pop(name, None)


TABLE_HEAD = (
    "| | ms | time / convax | middle half | first step, s | peak, MiB |",
    "|---|---|---|---|---|---|",
)


def table(results: Mapping[str, Figures | ContestantError]) -> list[str]:
    """One line for each contestant; who could not take part says why."""
    lines = [*TABLE_HEAD]
    for name, of in results.items():
        if isinstance(of, ContestantError):
            lines.append(f"| {name} | {of} | | | | |")
        else:
            lines.append(
                f"| {name} | {of.ms:.2f} | {of.ratio:.2f} | {of.low:.2f} to {of.high:.2f} "
                f"| {of.first:.1f} | {of.memory:.0f} |"
            )
    return lines


class Page:
    """Lines that are shown as they come, and in the end written to a file of results."""

    def __init__(self, level: str, options: argparse.Namespace):
        self.level, self.options, self.lines = level, options, []
        self.versions: dict[str, str] = {}

    def add(self, *lines: str) -> None:
        self.lines += lines
        print(*lines, sep="\n", flush=True)

    def finish(self) -> None:
        """Tell the machine and the versions, and write the file if ``--write`` was given."""
        jax = self.versions.get("jax", "none")
        words = ["PYTHON" if "/" in word else word for word in sys.argv[1:]]
        head = [
            f"# {self.level.capitalize()}, jax {jax}",
            "",
            f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *words])}`, {date.today()}, "
            f"{self.options.rounds} rounds; {machine(self.options.device)}.  ",
            ", ".join(f"{name} {version}" for name, version in self.versions.items()) + ".",
        ]
        print("\n" + "\n".join(head[2:]).strip())
        if self.options.write:
            on = "" if self.options.device == "cpu" else f"-{self.options.device}"
            path = HERE / "results" / f"{self.level}-jax{'.'.join(jax.split('.')[:2])}{on}.md"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join([*head, *self.lines]).strip() + "\n")
            print(f"written: {path}")


def machine(device: str) -> str:
    """What this runs on."""
    try:
        info = Path("/proc/cpuinfo").read_text()
        model = info.partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
        cores = len(os.sched_getaffinity(0))
    except (OSError, AttributeError):
        model, cores = "", os.cpu_count() or 1
    gpu = "no GPU"
    if device == "gpu":
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpu = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return f"{cores} core{'s' * (cores != 1)} of {model or platform.machine()}, {gpu}"
