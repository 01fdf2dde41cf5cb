"""Single operations: convax, the same on plain `lax`, and PyTorch, taking turns.

    python benchmarks/ops.py [--only depthwise] [--torch PYTHON]

A convolution is timed three times: forward, the input's gradient and the kernel's. The forward pass
of a transposed convolution is the input gradient of one with its stride. Pools, norms and the rest
are timed forward, and forward with backward. Ratios above 1 are in favor of convax.
"""

import sys
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
from op_cases import CONVOLUTIONS, OTHERS

CONTESTANTS = {OURS: Contestant("ops_jax"), "PyTorch": Contestant("ops_torch", "torch")}
FORMS = {OURS: ("convax", "plain"), "PyTorch": ("",)}
HEAD = (
    "| | | plain, ms | convax, ms | plain / convax | middle half | PyTorch / convax | middle half "
    "| rule |",
    "|---|---|---|---|---|---|---|---|---|",
)
WHICH = {
    "convolution": ("forward", "input grad", "kernel grad"),
    "other": ("forward", "forward and backward"),
}


def main() -> None:
    options = parse(__doc__ or "", turn=0.03)
    page = Page("ops", options)
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
        for case in chosen([*CONVOLUTIONS, *OTHERS], options):
            kind = "convolution" if case in CONVOLUTIONS else "other"
            for which in WHICH[kind]:
                page.add(row(workers, kind, case, which, options))
    finally:
        for worker in workers.values():
            worker.close()
    page.finish()


def row(workers, kind, case, which, options) -> str:
    """One line of the table."""
    entries, failed = {}, {}
    for name, worker in workers.items():
        try:
            worker.prepare(kind, case=case, which=which)
            entries |= {form or name: (worker, form) for form in FORMS[name]}
        except ContestantError as failure:
            failed[name] = failure
    times, _, fell_out = rounds(entries, options)
    failed |= fell_out
    if OURS not in times or "plain" not in times:
        sys.exit(f"{case}, {which}: {failed.get(OURS) or failed['plain']}")
    cells = [f"{1e3 * median(times[name]):.2f}" for name in ("plain", OURS)]
    for name in ("plain", "PyTorch"):
        if name in times:
            ratio, low, high = spread(times[name], times[OURS])
            cells += [f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"]
        else:
            cells += [str(failed.get(name, "")), ""]
    return f"| {' | '.join([case, which, *cells, workers[OURS].about.get('rule', '')])} |"


if __name__ == "__main__":
    main()
