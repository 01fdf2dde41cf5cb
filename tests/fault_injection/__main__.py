"""Kill, starve and damage a training, and see what is left:

    python -m tests.fault_injection --faults 200 --seed 0 [--workers 2] [--write docs/fault-injection.md]
    python -m tests.fault_injection --victim study --faults 20

A tiny network, one of `victims.VICTIMS`, trains for forty steps, with an evaluation and a
checkpoint every five. Then it trains again, N times with a fault each, and is resumed without one.
What ends must be the same: every file of the checkpoints "last" and "best", the metrics without
their timings, the result of the test; of a study all of this of each network, and its results. Or it
is refused, with a message and exit code 2: then what was damaged is put back, and the
same must be reached; and a copy that is told to go on by --force, or from which the file is
removed that the message says to remove, has to go on. Anything else is lost.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from .share import try_share
from .table import as_table, write_section
from .victims import VICTIMS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_injection", description=__doc__)
    parser.add_argument("--victim", choices=VICTIMS, default="classifier", help="what is trained")
    parser.add_argument("--faults", type=int, default=100, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--workers", type=int, default=2, help="so many runs at a time")
    parser.add_argument("--minutes", type=float, default=600, help="begin none after so long")
    parser.add_argument("--write", type=Path, help="the page of whose sections to write one")
    options = parser.parse_args()
    began = time.perf_counter()
    workers = min(options.workers, options.faults)  # each trains a run of its own to compare with
    shares = [range(i, options.faults, workers) for i in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        asked = (options.victim, options.seed, options.minutes)
        started = [pool.submit(try_share, *asked, share) for share in shares]
        outcomes = [outcome for share in started for outcome in share.result()]
    print(as_table(outcomes))
    seconds = time.perf_counter() - began
    if options.write:
        faults = f"--faults {options.faults} --workers {workers}"
        if len(outcomes) < options.faults:
            faults += f" --minutes {options.minutes:g}"
        write_section(options.write, outcomes, options.victim, options.seed, faults, seconds)
    lost = [outcome for outcome in outcomes if outcome.end == "lost"]
    for outcome in lost:
        print(f"\nLOST {outcome.fault}: {outcome.detail}")
    print(f"{len(outcomes)} faults in {seconds:.0f} s, {len(lost)} runs lost")
    raise SystemExit(1 if lost else 0)


if __name__ == "__main__":
    main()
