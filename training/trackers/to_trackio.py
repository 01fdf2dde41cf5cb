"""Trackio: ``pip install 'convax[trackio]'``; its records are files of this machine's.

`trackio show` is the page to look at them; TRACKIO_DIR says where they lie.
"""

import builtins
import secrets
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .tracker import Ending, Subject, Tracker


def open_trackio(subject: Subject, known: str | None) -> Tracker:
    """Open a run there; see `tracker.Open`."""
    trackio = import_module("trackio")
    _quiet()
    name = known or f"{subject.name}-{secrets.token_hex(3)}"  # which is what finds a run there
    run = trackio.init(
        project=subject.project,
        name=name,
        config=dict(subject.config),
        resume="allow" if known else "never",
        embed=False,
    )
    return _Run(run, name)


def _quiet() -> None:
    """Have trackio print nothing on this thread: standard output has results, or JSON."""
    own = threading.get_ident()

    def print_elsewhere(*texts: Any, **how: Any) -> None:
        if threading.get_ident() != own:
            builtins.print(*texts, **how)

    for name in ("trackio", "trackio.run", "trackio.utils"):
        vars(import_module(name))["print"] = print_elsewhere


class _Run:
    def __init__(self, run: Any, name: str):
        self._run, self.id = run, name

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def finish(self, ending: Ending) -> None:
        self._run.log({"ending": ending})
        self._run.finish()
