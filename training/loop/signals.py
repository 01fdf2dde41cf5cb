"""Ctrl-C and SIGTERM while there is a state to be saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Within the block they are noted for the loop to act on; a second Ctrl-C is final.

    Outside of it they end the process at once, as ever: what is on the disk is whole.
    """
    noted: list[int] = []

    def note(signum: int, frame: Any) -> None:
        del frame
        if noted and signum == signal.SIGINT:
            raise KeyboardInterrupt
        noted.append(signum)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals are somebody else's affair
        yield noted
        return
    try:
        yield noted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
