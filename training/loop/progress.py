"""The progress of a training for people: a live bar on a terminal, plain lines elsewhere.

What cannot be written, as the terminal or the reader is gone, is dropped: training goes on.
"""

import sys
from collections.abc import Mapping
from typing import IO, Any, Protocol, cast

import jax

from ..common import waiting
from ..common.forgiving import Forgiving
from ..common.text import printable
from ..tasks.metric_names import format_metrics


class Display(Protocol):
    """Where the training loop reports."""

    def note(self, text: str) -> None:
        """Say one thing."""
        ...

    def step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Report a window of training steps."""
        ...

    def close(self) -> None:
        """Leave the screen tidy."""
        ...


class Silent:
    """Reports nothing: for use as a library."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Report nothing."""

    def close(self) -> None:
        """Nothing to tidy."""


class Lines:
    """One plain line for each report."""

    def note(self, text: str) -> None:
        """Print it."""
        print(printable(text), file=Forgiving(sys.stdout), flush=True)

    def step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Print the step and what was measured."""
        self.note(f"step {step}/{total}  {format_metrics(record)}")

    def close(self) -> None:
        """Nothing to tidy."""


class Quiet(Silent):
    """What there is to say besides progress, on standard error."""

    def note(self, text: str) -> None:
        """Print it."""
        print(printable(text), file=Forgiving(sys.stderr), flush=True)


class Bar:
    """A progress bar with the newest figures; notes scroll above it."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
        self._progress = Progress(
            *columns,
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
            console=Console(file=cast(IO[str], Forgiving(sys.stdout))),
        )
        self._task = None

    def note(self, text: str) -> None:
        """Print it above the bar."""
        from rich.text import Text

        self._progress.console.print(Text(printable(text)))

    def step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._progress.add_task("training", total=total, figures="")
            self._progress.start()
        self._progress.update(
            self._task, completed=step, total=total, figures=format_metrics(record)
        )

    def close(self) -> None:
        """Stop drawing."""
        self._progress.stop()


def display_for_command(*, quiet: bool = False) -> Display:
    """Return a bar on a terminal, lines elsewhere; of several processes only the first reports.

    What else is said of long work is turned on or off with it (`training.common.waiting`).
    """
    first = jax.process_index() == 0
    waiting.show(first and not quiet)
    if not first:
        return Silent()
    if quiet:
        return Quiet()
    return Bar() if sys.stdout.isatty() else Lines()
