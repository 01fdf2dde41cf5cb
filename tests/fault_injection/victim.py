"""The command line in a forked process, with a fault in it.

The modules are imported once, in a process that never starts JAX's backend and so has one thread:
forking it is safe, and a run begins at once.
"""

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot  # noqa: F401 -- with all else that a run imports late

import convax.cli.main
import convax.inference.predictor
import convax.training.loop.loop

PATIENCE = 300.0  # seconds after which a run hangs


class Ended(NamedTuple):
    """How a process ended."""

    code: int  # as a shell says it: 128 + n after signal n
    output: str
    seconds: float

    @property
    def error(self) -> str:
        """What it says is wrong, to the end."""
        _, found, after = ("\n" + self.output).rpartition("\nerror: ")
        return f"error: {after.strip()}" if found else ""

    @property
    def crashed(self) -> bool:
        """Whether anybody saw a traceback, or it hung."""
        return "Traceback" in self.output or "looks like a bug" in self.output or self.code == 99


def convax_process(
    arguments: list[str],
    output: Path,
    fault: Callable[[], None] | None = None,
    send: tuple[float, int] | None = None,
) -> Ended:
    """``convax ARGUMENTS``, and how it ended.

    Args:
        arguments: of the command line.
        output: where its output goes.
        fault: called in the process before all else.
        send: after so many seconds, this signal.
    """
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "forking needs a process with one thread"
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's, on forking: its backend is not there yet
        child = os.fork()
    if child == 0:
        _become(arguments, output, fault)
    code = _wait(child, began, send)
    return Ended(code, output.read_text(errors="replace"), time.perf_counter() - began)


def _become(arguments: list[str], output: Path, fault: Callable[[], None] | None) -> None:
    code = 70
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `convax.__main__` does
        sys.argv = ["convax", *arguments]
        if fault is not None:
            fault()
        convax.cli.main.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(child: int, began: float, send: tuple[float, int] | None) -> int:
    """Its exit code; sends the signal when it is due."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        elapsed = time.perf_counter() - began
        if send is not None and elapsed >= send[0]:
            os.kill(child, send[1])
            send = None
        if elapsed > PATIENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 99
        time.sleep(0.002)


assert threading.active_count() == 1
