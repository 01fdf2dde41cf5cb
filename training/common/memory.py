"""How much memory training takes: a step as it was compiled, and the process at its peak."""

import re
import resource
import sys
from pathlib import Path
from typing import Any

import jax


def memory_usage(compiled: Any) -> int | None:
    """Return the bytes that a compiled function needs: arguments, results, temporaries.

    None where the backend does not say. An argument that is donated is counted once.
    """
    try:
        sizes = compiled.memory_analysis()
    except (jax.errors.JaxRuntimeError, NotImplementedError):
        return None
    if sizes is None:
        return None
    kept = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return int(kept + sizes.temp_size_in_bytes)


def peak_bytes() -> dict[str, int]:
    """Return the peak of memory: of this process, and of its first device if that counts.

    Example:
        >>> peak_bytes()["process"] > 10_000_000
        True
    """
    peaks = {"process": _peak_of_process()}
    on_device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return peaks if on_device is None else peaks | {"device": int(on_device)}


def format_bytes(count: int) -> str:
    """Format a number of bytes for people.

    Example:
        >>> format_bytes(64_000_000)
        '61 MiB'
        >>> format_bytes(5_000_000_000)
        '4.7 GiB'
    """
    return f"{count / 2**20:,.0f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"


def _peak_of_process() -> int:
    """Return the peak of this process, in bytes.

    Linux counts it alone; the general call also counts who started it.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
