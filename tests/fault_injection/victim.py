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
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import matplotlib.pyplot  # noqa: F401 -- with all else that a run imports late

import convax.cli.main
import convax.inference.predictor
import convax.training.loop.loop


class Send(NamedTuple):
    """A signal to be sent.

    Attributes:
        at: so many seconds after the process has begun.
        signum: the signal.
        to_worker: whether one of its worker processes gets it; it is not sent where there is none.
    """

    at: float
    signum: int
    to_worker: bool = False


class Ended(NamedTuple):
    """How a process ended."""

    code: int  # as a shell says it: 128 + n after signal n
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Return whether SIGKILL ended it."""
        return self.code == 128 + signal.SIGKILL

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
    patience: float,
    fault: Callable[[], None] | None = None,
    send: Send | None = None,
) -> Ended:
    """``convax ARGUMENTS``, and how it ended.

    Args:
        arguments: of the command line.
        output: where its output goes.
        patience: seconds after which it hangs.
        fault: called in the process before all else.
        send: a signal that it, or a worker process of it, gets.
    """
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "forking needs a process with one thread"
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's, on forking: its backend is not there yet
        child = os.fork()
    if child == 0:
        _become(arguments, output, fault)
    code = _wait(child, began, patience, send)
    return Ended(code, output.read_text(errors="replace"), time.perf_counter() - began)


def _become(arguments: list[str], output: Path, fault: Callable[[], None] | None) -> None:
    code = 70
    try:
        output.unlink(missing_ok=True)  # what a killed one has started may still write to it
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `convax.__main__` does
        sys.argv = ["convax", *arguments]
        sys.modules["__main__"] = ModuleType("__main__")  # or worker processes import this program
        tracker = resource_tracker._resource_tracker
        tracker._fd = tracker._pid = None  # or that of this program would remove its semaphores
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


def _wait(child: int, began: float, patience: float, send: Send | None) -> int:
    """Its exit code; sends the signal when it is due."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        elapsed = time.perf_counter() - began
        if send is not None and elapsed >= send.at:
            for process in _workers(child)[:1] if send.to_worker else [child]:
                with suppress(ProcessLookupError):
                    os.kill(process, send.signum)
            send = None
        if elapsed > patience:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 99
        time.sleep(0.002)


def _workers(process: int) -> list[int]:
    """The processes that it has started to compute something."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):  # one ends meanwhile
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            for child in task.read_text().split():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


assert threading.active_count() == 1
