"""One contestant in a process of its own, timed on request.

    python worker.py MODULE        reads requests from stdin, a line of JSON each

`contest` starts it and asks; between requests it sleeps in a read, so that those who wait take
nothing from the one who runs. The module has ``PROGRAMS``, a table of functions that return a
`programs.Program`, and ``LIBRARIES``, whose versions are told first. The requests:

    {"prepare": NAME, "arguments": {...}}   makes a program and runs each of its forms once
    {"time": FORM, "count": N}              the seconds of N runs; where N > 1, one more goes before
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from programs import Program


def main() -> None:
    # Answers go where stdout was; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers)

    try:
        module = importlib.import_module(sys.argv[1])
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    imported = peak_memory()
    answer(versions={name: version(name) for name in module.LIBRARIES})

    program = Program({}, {})
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            program = module.PROGRAMS[request["prepare"]](**request["arguments"])
            first = {form: timed(run, 1)[0] for form, run in program.forms.items()}
            answer(first=first, about=program.about)
        else:
            run = program.forms[request["time"]]
            if request["count"] > 1:
                timed(run, 1)  # wakes the threads and fills the caches
            seconds, value = timed(run, request["count"])
            answer(seconds=seconds, value=value, memory=peak_memory() - imported)


def timed(run: Callable[[int], float], count: int) -> tuple[float, float]:
    """The seconds of so many runs, and their value."""
    began = time.perf_counter()
    value = run(count)
    return time.perf_counter() - began, value


def peak_memory() -> float:
    """The largest resident size of this process so far, in MiB."""
    try:  # ru_maxrss starts from what the parent had when it forked; this does not
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
