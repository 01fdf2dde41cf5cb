"""One process at a time in a run directory: a lock that vanishes with its process.

`flock` belongs to an open file, so the kernel lets go of it however the process ends, by SIGKILL
too. The file itself stays, and says who holds it.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from .directory import RunError


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold the run's ``lock`` within the block.

    Raises:
        RunError: another process holds it; says which.
    """
    with (run / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{run}: in use by {_holder(file)}; wait for it to end, or stop it, and try again"
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
        by = json.loads(file.read())
        return f"process {by['pid']} on {by['host']}, since {by['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
