"""Convolutions in bfloat16 and float16 against float32, all three directions of each.

    python benchmarks/dtypes.py [--only depthwise]

What is timed is the forward pass with both gradients. Ratios below 1 are faster than float32.
"""

import sys
from statistics import median

from contest import OURS, Contestant, ContestantError, Page, Worker, chosen, parse, rounds, spread
from op_cases import KINDS

SHORT = ("bfloat16", "float16")
HEAD = (
    "| | float32, ms | bfloat16 / float32 | middle half | float16 / float32 | middle half |",
    "|---|---|---|---|---|---|",
)


def main() -> None:
    options = parse(__doc__ or "", turn=0.05)
    page = Page("dtypes", options)
    worker = Worker(Contestant("ops_jax"), options)
    try:
        worker.greet()
        page.versions = worker.versions
        page.add("", *HEAD)
        for case in chosen(KINDS, options):
            page.add(row(worker, case, options))
    except ContestantError as failure:
        sys.exit(str(failure))
    finally:
        worker.close()
    page.finish()


def row(worker, case, options) -> str:
    """One line of the table."""
    worker.prepare("dtypes", case=case)
    forms = {OURS: "float32"} | {dtype: dtype for dtype in SHORT}
    times, _, failed = rounds({name: (worker, form) for name, form in forms.items()}, options)
    if failed:
        sys.exit(f"{case}: {failed}")
    cells = [f"{1e3 * median(times[OURS]):.2f}"]
    for dtype in SHORT:
        ratio, low, high = spread(times[dtype], times[OURS])
        cells += [f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"]
    return f"| {' | '.join([case, *cells])} |"


if __name__ == "__main__":
    main()
