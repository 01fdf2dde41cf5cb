"""One process at a time in a run directory: a lock that vanishes with its process.

The file itself stays, and says who holds it. Some file systems have no locks: ``CONVAX_LOCK`` is
how to train there all the same.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from ..common.file_lock import NoLocksError, try_lock
from ..common.json_io import parse_json
from ..common.text import plain_line
from .directory import RunError


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold the run's ``lock`` within the block.

    Raises:
        RunError: another process holds it; says which. Or the file system has no locks, and
            the environment does not say ``CONVAX_LOCK=none``.
    """
    with (run / "lock").open("a+", encoding="utf-8") as file:
        try:
            if not try_lock(file.fileno()):
                raise RunError(
                    f"{run}: in use by {_holder(file)}; wait for it to end, or stop it, and try "
                    "again"
                )
        except NoLocksError as error:
            if os.environ.get("CONVAX_LOCK") != "none":
                raise RunError(
                    f"{run}: its file system has no locks ({error.strerror}), which keep two "
                    "processes from training in one run; choose a folder on another disk, mount "
                    "this one with locks, or set CONVAX_LOCK=none and see to it yourself"
                ) from None
        _write(file, _ourselves())
        try:
            yield
        finally:
            file.truncate(0)


def _ourselves() -> str:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text + "\n")
    file.flush()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        by = parse_json(file.read())
        return plain_line(f"process {by['pid']} on {by['host']}, since {by['since']}", 200)
    except (ValueError, KeyError, TypeError):
        return "another process"
