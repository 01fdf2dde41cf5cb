"""Object detection: convax, the same with operations in XLA's own form, and torchvision, in turns.

    python benchmarks/detection.py [--only RoIAlign] [--torch PYTHON]

Ratios above 1 are in favor of convax. That all keep as many boxes, read the same, or train as many
parameters is seen to.
"""

import sys
from math import isclose
from statistics import median

from contest import (
    OURS,
    Contestant,
    ContestantError,
    Page,
    Worker,
    chosen,
    parse,
    rounds,
    spread,
    without,
)
from detection_cases import REGIONS, SUPPRESSIONS, TRAINING

CONTESTANTS = {
    OURS: Contestant("detection_jax"),
    "torchvision": Contestant("detection_torch", "torch"),
}
FORMS = {OURS: ("convax", "plain"), "torchvision": ("",)}
# A worker's program, and what of it is the same for all; and the cases.
KINDS = {
    ("suppression", "kept"): SUPPRESSIONS,
    ("region", "value"): REGIONS,
    ("training", "parameters"): TRAINING,
}
HEAD = (
    "| | convax, ms | plain, ms | plain / convax | torchvision, ms | torchvision / convax "
    "| middle half |",
    "|---|---|---|---|---|---|---|",
)


def main() -> None:
    options = parse(__doc__ or "", turn=0.03)
    page = Page("detection", options)
    workers = {name: Worker(c, options) for name, c in without(CONTESTANTS, options).items()}
    try:
        for name, worker in list(workers.items()):
            try:
                worker.greet()
                page.versions |= worker.versions
            except ContestantError as failure:
                if name == OURS:
                    sys.exit(f"{name}: {failure}")
                page.add("", f"{name}: left out, {failure}.")
                workers.pop(name).close()
        page.add("", *HEAD)
        for case in chosen([*SUPPRESSIONS, *REGIONS, *TRAINING], options):
            page.add(row(workers, case, options))
    finally:
        for worker in workers.values():
            worker.close()
    page.finish()


def row(workers: dict[str, Worker], case: str, options) -> str:
    """One line of the table."""
    kind, what = next(about for about, cases in KINDS.items() if case in cases)
    entries, found = {}, {}
    for name, worker in workers.items():
        worker.prepare(kind, case=case)
        found[name] = worker.about[what]
        entries |= {form or name: (worker, form) for form in FORMS[name]}
    if not all(isclose(value, found[OURS], rel_tol=1e-4) for value in found.values()):
        sys.exit(f"{case}: the contestants compute different things: {found}")
    times, _, failed = rounds(entries, options)
    if failed:
        sys.exit(f"{case}: {failed}")
    cells = [f"{1e3 * median(times[name]):.3f}" for name in (OURS, "plain")]
    cells.append(f"{spread(times['plain'], times[OURS])[0]:.2f}")
    if "torchvision" in times:
        middle, low, high = spread(times["torchvision"], times[OURS])
        cells.append(f"{1e3 * median(times['torchvision']):.3f}")
        cells += [f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
    else:
        cells += ["", "", ""]
    return f"| {case} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
