"""Ctrl-C, SIGTERM and SIGHUP while there is a state to be saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..common.errors import ConvaxError
from ..run.directory import Run


class InterruptedRun(ConvaxError):  # noqa: N818 -- not an error: the run was saved
    """A signal stopped the run after its state was saved."""

    in_all_processes = True

    def __init__(self, run: Run, step: int, total: int, signum: int):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} at step {step} of {total}, state saved; "
            f"continue with: {run.again}"
        )
        self.signum = signum
        self.exit_code = 128 + signum  # as a shell has it


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Note signals in the block, for the loop to act on; a second Ctrl-C is final.

    SIGHUP, of a terminal that is gone, is one of them unless it is ignored, as `nohup` has it.
    Outside of the block they end the process at once, as ever: what is on the disk is whole.
    """
    noted: list[int] = []

    def note(signum: int, frame: Any) -> None:
        del frame
        if noted and signum == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(signum)

    try:
        before = {s: signal.signal(s, note) for s in _noted()}
    except ValueError:  # not in the main thread: signals are somebody else's affair
        yield noted
        return
    try:
        yield noted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _noted() -> list[int]:
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]
