"""A worker's share of the faults."""

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports NumPy, which starts threads unless the environment says otherwise
    from .table import Outcome


def try_share(victim: str, seed: int, minutes: float, numbers: range) -> "list[Outcome]":
    """What came of the faults of those numbers, in a process of their own."""
    began, outcomes = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="fault-injection-") as folder:
        # Compiled programs come out of a cache: a run takes half as long.
        os.environ |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "OPENBLAS_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
        }
        from .trials import Bench  # which imports JAX

        bench = Bench(Path(folder), f"{seed}, {numbers.start}", victim)
        for number in numbers:
            if time.perf_counter() - began < 60 * minutes:
                outcomes.append(bench.trial(number))
    return outcomes
