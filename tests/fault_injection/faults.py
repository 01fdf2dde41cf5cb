"""What can go wrong in a process, at the k-th time that it touches the disk.

`count`, `kill_at` and `fail_from` replace `open`, `os.fsync`, `os.rename`, `os.replace`, `os.mkdir`, `os.unlink`
and `os.rmdir` in this process, for paths inside one folder: each use, and each write to a file
opened there, is an event with a label. So every instant at which the disk can be in another state
than before has a number, and can be chosen.
"""

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

Event = Callable[[str, Path, Callable[[], None]], None]  # kind, path, and what does half of it


def count(folder: Path, into: Path) -> None:
    """Write the label of each event into a file, a line each."""
    log = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _watch(folder, lambda kind, path, half: _say(log, label(kind, path)))


def kill_at(folder: Path, number: int) -> None:
    """SIGKILL to itself at that event; of a write, half is done."""
    _at(folder, number, lambda: os.kill(os.getpid(), signal.SIGKILL))


def fail_from(folder: Path, number: int, code: int, kinds: tuple[str, ...]) -> None:
    """Every event of these kinds from that one on fails with an errno: a disk full, read-only."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    _at(folder, number, fail, kinds=kinds, lasting=True)


def label(kind: str, path: Path) -> str:
    """``write metrics.jsonl``, ``rename checkpoint``: an event as the table names it."""
    names = [part.lstrip(".") for part in path.parts]
    names = [name for name in names if name]
    about = next((name for name in names if name.startswith("step-")), None)
    last = names[-1].rstrip("0123456789").rstrip(".") if names else ""
    if about is not None and last.startswith("step-"):
        return f"{kind} checkpoint"
    return f"{kind} {last}"


def _at(
    folder: Path,
    number: int,
    act: Callable[[], None],
    *,
    kinds: tuple[str, ...] = (),
    lasting: bool = False,
) -> None:
    seen = -1

    def event(kind: str, path: Path, half: Callable[[], None]) -> None:
        nonlocal seen
        seen += 1
        due = seen >= number if lasting else seen == number
        if due and (not kinds or kind in kinds):
            half()
            act()

    _watch(folder, event)


def _say(log: int, text: str) -> None:
    os.write(log, text.encode() + b"\n")


def _nothing() -> None:
    pass


def _watch(folder: Path, event: Event) -> None:
    inside = _inside(folder)
    wrapped = {
        "rename": ("rename", 1),
        "replace": ("rename", 1),
        "mkdir": ("mkdir", 0),
        "unlink": ("remove", 0),
        "rmdir": ("remove", 0),
    }
    for name, (kind, which) in wrapped.items():
        setattr(os, name, _before(getattr(os, name), kind, which, inside, event))
    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        path = inside(Path(f"/proc/self/fd/{descriptor}").readlink())
        if path is not None:
            event("fsync", path, _nothing)
        fsync(descriptor)

    os.fsync = watched_fsync
    opened = io.open

    def watched_open(file: Any, mode: str = "r", *more: Any, **keywords: Any) -> Any:
        path = inside(file) if set(mode) & set("wax+") else None
        if path is None or path.name == "lock":
            return opened(file, mode, *more, **keywords)
        event("open", path, _nothing)
        return _Watched(opened(file, mode, *more, **keywords), path, event)

    io.open = builtins.open = watched_open


def _inside(folder: Path) -> Callable[[Any], Path | None]:
    """The path within the folder, of a path that may be anything."""
    root = folder.resolve()

    def inside(file: Any) -> Path | None:
        if isinstance(file, int):
            return None
        path = Path(os.fsdecode(file)).absolute()
        return path.relative_to(root) if path.is_relative_to(root) else None

    return inside


def _before(function: Any, kind: str, which: int, inside: Any, event: Event) -> Any:
    def watched(*arguments: Any, **keywords: Any) -> Any:
        relative = keywords.get("dir_fd") is not None  # as in shutil.rmtree
        found = Path("checkpoint") if relative else inside(arguments[which])
        if found is not None:
            event(kind, found, _nothing)
        return function(*arguments, **keywords)

    return watched


class _Watched:
    """An open file whose writes are events."""

    def __init__(self, file: Any, path: Path, event: Event):
        self._file, self._path, self._event = file, path, event

    def write(self, content: Any) -> int:
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._event("write", self._path, half)
        return self._file.write(content)

    def __enter__(self) -> "_Watched":
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
