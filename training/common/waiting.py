"""Say on standard error what a command is at while nothing else would be seen of it.

On a terminal that is a bar, or a turning sign, which goes when the work is done; elsewhere a line
now and then. Short work is not worth a word. What came from where, and how long it took, is said on
demand. The command line asks for these, by `show` and `show_details`; as a library convax does not.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, cast

from .forgiving import Forgiving
from .text import printable

_SOON, _LATER, _AGAIN = 1.0, 5.0, 30.0  # seconds: on a terminal; elsewhere, the first line and more
_shown = _detailed = False


def show(wanted: bool) -> None:
    """Turn on or off, for this process, what is said of long work."""
    global _shown
    _shown = wanted


def show_details(wanted: bool) -> None:
    """Turn on or off, for this process, what `detail` says."""
    global _detailed
    _detailed = wanted


def detail(text: str) -> None:
    """Say a line that is for those alone who have asked for details."""
    if _detailed:
        say(text)


def note(text: str) -> None:
    """Say a line, where what is done is said at all."""
    if _shown:
        say(text)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Give a function to call for each of `total` things that are done, on any thread.

    Args:
        what: is done: "decoding images".
        total: how many there are.
    """
    if not _shown:
        yield lambda: None
        return
    with ExitStack() as stack:
        yield _Counter(what, total, stack)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what is done, such as "compiling", where it takes long."""
    if not _shown:
        yield
        return
    with ExitStack() as stack:
        lock, ended = threading.Lock(), threading.Event()  # it may end while it is being said

        def begin() -> None:
            with lock:
                if ended.is_set():
                    return
                if sys.stderr.isatty():
                    stack.enter_context(_console().status(f"{what} ..."))
                else:
                    say(f"{what} ...")

        timer = threading.Timer(_SOON if sys.stderr.isatty() else _LATER, begin)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with lock:
                ended.set()


class _Counter:
    def __init__(self, what: str, total: int, stack: ExitStack):
        self._what, self._total, self._stack = what, total, stack
        self._done, self._lock, self._bar = 0, threading.Lock(), None
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + (_SOON if self._terminal else _LATER)

    def __call__(self) -> None:
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if now < self._next:
                return
            if self._terminal:
                self._next = now + 0.1
                self._draw()
            else:
                self._next = now + _AGAIN
                say(f"{self._what}: {self._done:,} of {self._total:,}")

    def _draw(self) -> None:
        if self._bar is None:
            from rich.progress import Progress

            drawn = self._stack.enter_context(Progress(console=_console(), transient=True))
            task = drawn.add_task(self._what, total=self._total)
            self._bar = drawn, task
        drawn, task = self._bar
        drawn.update(task, completed=self._done)


def _console() -> Any:
    from rich.console import Console

    return Console(file=cast(IO[str], Forgiving(sys.stderr)))


def say(text: str) -> None:
    """Print a line on standard error, if there is one that can be written to."""
    if sys.stderr is not None:
        print(printable(text), file=Forgiving(sys.stderr), flush=True)
