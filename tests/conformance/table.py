"""Every cell of the table, worked out by several processes."""

import multiprocessing
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed

import jax
import numpy as np

from .catalog import ENTRIES
from .checks import CHECKS
from .entry import Entry


def run(entries: list[int], workers: int):
    """Every cell: op -> check -> the outcomes of its entries."""
    cells: dict[str, dict[str, list[str]]] = {}
    failures = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=strict) as pool:
        jobs = [pool.submit(run_entry, n) for n in entries]
        for done, job in enumerate(as_completed(jobs), start=1):
            n, outcomes = job.result()
            entry = ENTRIES[n]
            print(f"{done:3} of {len(jobs)}: {entry.name}", file=sys.stderr, flush=True)
            for check, outcome in outcomes.items():
                cells.setdefault(entry.op, {}).setdefault(check, []).append(outcome)
                if outcome.startswith("FAILED"):
                    failures.append(f"{entry.name}, {check}: {outcome}")
    return cells, failures


def strict() -> None:
    """As under pytest: silent casts and silent broadcasts are errors."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


def run_entry(n: int) -> tuple[int, dict[str, str]]:
    return n, {check: run_cell(ENTRIES[n], check) for check in CHECKS}


def run_cell(entry: Entry, check: str) -> str:
    """Either ok, why there is no such check, or how it failed."""
    if (why := entry.why_not(check)) is not None:
        return why
    try:
        CHECKS[check](entry, np.random.default_rng(zlib.crc32(f"{entry.name} {check}".encode())))
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {error}"
    return "ok"
