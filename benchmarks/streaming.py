"""Memory and speed of training on pictures in files, against all of them in memory.

Pictures of noise, `--images` of them and ten times as many, are written to a temporary folder; each
case trains LeNet-5 on them in a process of its own.

    python benchmarks/streaming.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, STEPS, BATCH = 64, 150, 64

PROGRAM = """
import json, sys, time
import convax
from convax.training.config.schema import load_config

if __name__ == "__main__":
    out, *overrides = sys.argv[1:]
    run = convax.train(load_config("lenet5-digits", overrides), out)
    rates = [r["images_per_second"] for r in run.metrics() if r["kind"] == "train"]
    peak = run.info()["result"]["peak_bytes"]["process"]
    print(json.dumps({"peak": peak, "rate": sorted(rates)[len(rates) // 2]}))
"""


def write_pictures(folder: Path, count: int) -> None:
    """JPEGs of noise, in two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(noise).save(place / f"{i}.jpg")


def measure(folder: Path, stream: bool, workers: int) -> dict[str, float]:
    """The peak of the training process in bytes, and its images a second."""
    streamed = f", stream=true, num_workers={workers}" if stream else ""
    data = (
        f'data={{source="folder", path="{folder}", channels=3, validation=64, test=64, '
        f"size=[{SIDE}, {SIDE}]{streamed}}}"
    )
    short = [f"training.steps={STEPS}", f"training.batch_size={BATCH}", "training.log_every=25"]
    with tempfile.TemporaryDirectory() as out:
        program = Path(out) / "program.py"
        program.write_text(PROGRAM)
        command = [sys.executable, str(program), f"{out}/run", data, *short]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("| images | | peak of the process, MiB | images/s |\n|---|---|---|---|")
    for count in (options.images, 10 * options.images):
        with tempfile.TemporaryDirectory() as folder:
            write_pictures(Path(folder), count)
            for stream in (True, False):
                found = measure(Path(folder), stream, options.workers)
                how = f"streamed, {options.workers} workers" if stream else "in memory"
                print(f"| {count:,} | {how} | {found['peak'] / 2**20:.0f} | {found['rate']:,.0f} |")


if __name__ == "__main__":
    main()
