"""Seconds until each command prints its first byte: `python benchmarks/first_line.py`.

A typical call of every command of `convax --help`, on a terminal, with a tiny run that is made
beforehand. Beside the seconds on the clock, which other programs lengthen, the seconds of the
processor until then, of all threads. Exits with 1 if a command takes more of these than LIMIT.
"""

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT = 1.5
CONVAX = str(Path(sys.executable).with_name("convax"))
IMAGES = "photos/disc/0.png"
CALLS = {
    "--help": "--help",
    "--version": "--version",
    "new": "new photos --out new.toml",
    "configs": "configs",
    "fetch": "fetch mnist --time-limit 1 --mirror http://127.0.0.1:9/",
    "data": "data",
    "preview-augment": "preview-augment",
    "summary": "summary",
    "lr-find": "lr-find --steps 5",
    "train": "train --set training.steps=2",
    "compare": "compare run run",
    "evaluate": "evaluate run",
    "report": "report run",
    "calibrate": "calibrate run",
    "predict": f"predict run {IMAGES}",
    "explain": f"explain run {IMAGES}",
    "export": "export run bundle",
    "verify-bundle": "verify-bundle made",
    "export-weights": "export-weights run run.safetensors",
    "serve": "serve run --port 0",
    "doctor": "doctor",
}


def main() -> None:
    """Print a line for each command."""
    late = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _prepare()
        print("command           clock    CPU  first line")
        for name, call in CALLS.items():
            clock, cpu, said = first_byte([CONVAX, *call.split()])
            print(f"{name:16} {clock:6.2f} {cpu:6.2f}  {said[:70]}", flush=True)
            late += [name] if cpu > LIMIT else []
    if late:
        sys.exit(f"more than {LIMIT} s of the processor before the first byte: {', '.join(late)}")


def first_byte(command: list[str]) -> tuple[float, float, str]:
    """Return when a command prints first: by the clock, by the processor; and its first line."""
    leader, follower = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    try:
        select.select([leader], [], [], 60)
        clock, cpu = time.perf_counter() - began, _cpu_seconds(process.pid)
        text = os.read(leader, 4096).decode(errors="replace")
    except OSError:  # it has ended without a word
        clock, cpu, text = time.perf_counter() - began, float("nan"), ""
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    shown = "".join(c if c.isprintable() else " " for c in text.partition("\n")[0])
    return clock, cpu, shown


def _cpu_seconds(pid: int) -> float:
    """Return the processor's seconds of a process and of those that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _prepare() -> None:
    rng = np.random.default_rng(0)
    for name in ("disc", "square"):
        folder = Path("photos") / name
        folder.mkdir(parents=True)
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    for call in ("train --out run --set training.epochs=0.2 --quiet", "export run made"):
        subprocess.run([CONVAX, *call.split()], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
