"""How much memory training takes: a step as it was compiled, and the process at its peak."""

import math
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ...ops.common.jax_compat import Jaxpr, inner_jaxprs


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


def largest_operation(function: Callable[..., Any], *args: Any) -> int:
    """Return the bytes of the operands and results of the largest operation in a function.

    It is traced, not compiled: what it needs at the least at a time, whatever a compiler does.

    Args:
        function: pure, of arrays.
        args: arrays, or their shapes and dtypes.

    Example:
        >>> x = jax.ShapeDtypeStruct((10, 10), "float32")
        >>> largest_operation(lambda x: jax.numpy.sin(x).sum(), x)  # x and its sine
        800
    """
    return _largest(jax.make_jaxpr(function)(*args).jaxpr)


def _largest(jaxpr: Jaxpr) -> int:
    sizes = [0]
    for equation in jaxpr.eqns:
        inner = map(_largest, inner_jaxprs(equation.params))
        own = sum(_size(variable.aval) for variable in (*equation.invars, *equation.outvars))
        sizes.append(max(inner, default=own))
    return max(sizes)


def _size(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "shape") else 0


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
