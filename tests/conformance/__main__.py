"""Print the conformance table, or write the table of accuracy."""

import argparse
import os
import sys
from importlib.util import find_spec

from convax.ops.conv.native.library import KernelsError, load_kernels

from .accuracy import write_accuracy
from .catalog import ENTRIES, WITHOUT
from .checks import CHECKS
from .table import run

LABELS = {
    "finite differences": "differ.",
    "linearize": "linear.",
    "grad of grad": "g(g)",
    "jvp of grad": "j(g)",
    "hessian": "hess.",
    "vmap of grad": "v(g)",
    "grad of vmap": "g(v)",
    "low precision": "16 bit",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--accuracy", metavar="FILE", help="write the table of accuracy to FILE")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("ops", nargs="*", help="only these operations")
    args = parser.parse_args()
    entries = [n for n, e in enumerate(ENTRIES) if not args.ops or e.op in args.ops]
    if unknown := set(args.ops) - {e.op for e in ENTRIES}:
        print(f"no entry for {', '.join(sorted(unknown))}; give public names of convax.ops")
        return 2
    if args.accuracy and find_spec("torch") is None:
        print("the table of accuracy has PyTorch beside us: pip install torch")
        return 2
    if args.accuracy:
        try:
            load_kernels()
        except KernelsError as error:
            print(f"the table of accuracy has the native kernels beside the others: {error}")
            return 2
        write_accuracy(args.accuracy, [ENTRIES[n] for n in entries])
        return 0
    cells, failures = run(entries, args.workers)
    show(cells, failures)
    return 1 if failures else 0


def show(cells, failures) -> None:
    """The table, then what its numbers stand for, then every failure whole."""
    notes: dict[str, int] = {}
    width = max(map(len, cells))
    head = [f"{LABELS.get(check, check):>7}" for check in CHECKS]
    print(" " * width, "cases", *head)
    order = {entry.op: None for entry in ENTRIES}
    for op in [op for op in order if op in cells]:
        row = []
        for check in CHECKS:
            outcomes = cells[op][check]
            if any(outcome.startswith("FAILED") for outcome in outcomes):
                row.append("FAILED")
            elif "ok" in outcomes:
                row.append("ok")
            else:
                row.append(f"({notes.setdefault(outcomes[0], len(notes) + 1)})")
        count = len(cells[op]["loops"])
        print(f"{op:{width}} {count:5}", *(f"{cell:>7}" for cell in row))
    for why, n in notes.items():
        print(f"\n({n}) {why}")
    for why in dict.fromkeys(WITHOUT.values()):
        print(f"\nnot in the table: {', '.join(op for op in WITHOUT if WITHOUT[op] == why)}: {why}")
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
