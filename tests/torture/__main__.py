"""Kill, starve and damage a training, and see what is left:

    python -m tests.torture --kills 200 --seed 0 [--write docs/torture.md]

A tiny network trains for forty steps, with an evaluation and a checkpoint every five. Then it
trains again, N times with a fault each, and is resumed without one. What ends must be the same: every
file of the checkpoints "last" and "best", the metrics without their timings, the result of the
test. Or it is refused, with a message and exit code 2: then what was damaged is put back, and the
same must be reached; and a copy that is told to go on by --force, or from which the file is
removed that the message says to remove, has to go on. Anything else is lost.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

# Compiled programs come out of a cache, which is another one each time: a run takes half as long.
COMPILED = tempfile.mkdtemp(prefix="torture-compiled-")
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": COMPILED,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "OPENBLAS_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}


def main() -> None:
    from tests.torture.table import as_table, page
    from tests.torture.trials import Bench

    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many faults")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--minutes", type=float, default=600, help="begin none after so long")
    parser.add_argument("--write", type=Path, help="the page to write, with the table")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        bench = Bench(Path(folder), options.seed)
        outcomes = []
        while len(outcomes) < options.kills and time.perf_counter() - began < 60 * options.minutes:
            outcomes.append(bench.trial(len(outcomes)))
    shutil.rmtree(COMPILED)
    print(as_table(outcomes))
    seconds = time.perf_counter() - began
    if options.write:
        options.write.write_text(page(outcomes, options.seed, seconds))
    lost = [outcome for outcome in outcomes if outcome.end == "lost"]
    for outcome in lost:
        print(f"\nLOST {outcome.fault}: {outcome.detail}")
    print(f"{len(outcomes)} faults in {seconds:.0f} s, {len(lost)} runs lost")
    raise SystemExit(1 if lost else 0)


if __name__ == "__main__":
    main()
