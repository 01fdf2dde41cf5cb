"""What a tracker is to convax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ..common.errors import ConvaxError

Ending: TypeAlias = Literal["finished", "stopped", "failed"]


class TrackerError(ConvaxError):
    """A tracker cannot be used; one line that names the remedy."""


class Subject(NamedTuple):
    """The run that is to be tracked.

    Attributes:
        name: of its directory.
        path: the directory.
        project: what runs are gathered under.
        config: all of it, as nested dicts.
    """

    name: str
    path: Path
    project: str
    config: Mapping[str, Any]


class Tracker(Protocol):
    """A run at a tracker, open.

    All of it is called from one thread, the one that has opened it.
    """

    @property
    def id(self) -> str:
        """Return what finds the run there again."""
        ...

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Record figures, by names such as "train/loss"."""
        ...

    def finish(self, ending: Ending) -> None:
        """Send what is left, and say how the training ended."""
        ...


class Open(Protocol):
    """What opens a tracker."""

    def __call__(self, subject: Subject, known: str | None) -> Tracker:
        """Open a run there: a new one, or that of this id.

        Raises:
            TrackerError: what is wrong is known, and so is the remedy.
            Exception: whatever the package raises.
        """
        ...


class Service(NamedTuple):
    """A kind of tracker.

    Attributes:
        open: opens a run there.
        remedy: what a line about a failure says that may help.
    """

    open: Open
    remedy: str


def flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return the values of nested tables by their dotted keys.

    Example:
        >>> flat({"seed": 0, "data": {"source": "digits"}})
        {'seed': 0, 'data.source': 'digits'}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= (
            flat(value, f"{before}{key}.")
            if isinstance(value, Mapping)
            else {f"{before}{key}": value}
        )
    return found
