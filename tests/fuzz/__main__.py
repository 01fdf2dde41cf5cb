"""Try many cases, and print the table of what came of them."""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .annotations import try_annotations
from .configs import try_configs
from .files import try_files
from .verdict import table

TRIES = {"configs": try_configs, "files": try_files, "annotations": try_annotations}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("what", choices=TRIES)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first case, to repeat one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print what was said of each case")
    args = parser.parse_args()
    began, cases = time.perf_counter(), range(args.first, args.first + args.count)
    shares = [cases[i :: args.workers] for i in range(args.workers)]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        tried = pool.map(TRIES[args.what], [args.seed] * args.workers, shares)
        verdicts = [verdict for share in tried for verdict in share]
    for verdict in verdicts:
        if args.show or verdict.outcome == "FAILED":
            print(f"{verdict.case}: {verdict.outcome}: {verdict.message}\n", file=sys.stderr)
    print(table(verdicts))
    print(f"\n{len(verdicts)} cases, seed {args.seed}: {time.perf_counter() - began:.0f} s")
    return 1 if any(verdict.outcome == "FAILED" for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
