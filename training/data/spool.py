"""Where batches wait on their way from worker processes: in files that no killed process leaves.

Batches do not fit through a pipe in one go. So a process that reads has a folder, in memory where
that has room (``/dev/shm``; a container has 64 MB of it), and one where temporary files are, for
what finds none later: others that read at the same time have seen the same room. It holds locks on
them, which the kernel lets go of however the process ends; the next one that reads removes what is
not locked. The semaphores of its worker processes bear the name of the first folder, and go with
it.
"""

import atexit
import errno
import multiprocessing
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..common.file_lock import NoLocksError, try_lock
from .errors import DataError

_MEMORY = Path("/dev/shm")
_PREFIX = "convax-batches-"
_OURS = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")
_BATCH = re.compile(r"\d+-\d+\.batch")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_readers = count()


class Stored(NamedTuple):
    """Arrays in a file, one behind the other: its path, and shape and dtype of each."""

    file: str
    types: tuple[tuple[tuple[int, ...], str], ...]


class Spool:
    """The batches of one reader; can be pickled, for its workers.

    Args:
        most: bytes of a batch.
        ahead: how many batches there are at once, at most.

    Raises:
        DataError: there is no folder to write to.
    """

    def __init__(self, *, most: int, ahead: int):
        self._most, self._ahead, self._reader = most, ahead, next(_readers)
        self._folders: list[Path] = []
        places = _places(most * ahead)
        for place in places:
            try:
                self._folders.append(_own_folder(place))
            except OSError as error:
                if place == places[-1] and not self._folders:
                    raise self._failed(place, error) from None

    def put(self, step: int, arrays: Sequence[np.ndarray]) -> Stored:
        """Write the arrays of a step.

        Raises:
            DataError: there is no room in any folder, or one is gone.
        """
        types = tuple((array.shape, array.dtype.str) for array in arrays)
        folder, *others = self._folders
        while True:
            file = folder / f"{self._reader}-{step}.batch"
            try:
                with file.open("wb", buffering=0) as out:
                    for array in arrays:
                        _write_all(out.fileno(), _bytes_of(np.ascontiguousarray(array)))
                return Stored(str(file), types)
            except OSError as error:
                file.unlink(missing_ok=True)
                if error.errno not in _FULL or not others:
                    raise self._failed(folder, error) from None
                folder, *others = others

    def take(self, stored: Stored) -> list[np.ndarray]:
        """Read them, and remove the file.

        Raises:
            DataError: it is gone.
        """
        arrays = [np.empty(shape, dtype) for shape, dtype in stored.types]
        file = Path(stored.file)
        try:
            with file.open("rb", buffering=0) as content:
                for array in arrays:
                    _read_all(content.fileno(), _bytes_of(array))
            file.unlink()
        except OSError as error:
            raise self._failed(file.parent, error) from None
        return arrays

    def clear(self) -> None:
        """Remove what was put and not taken."""
        for folder in self._folders:
            for file in folder.glob(f"{self._reader}-*.batch"):
                file.unlink(missing_ok=True)

    def _failed(self, folder: Path, error: OSError) -> DataError:
        if folder.name.startswith(_PREFIX) and isinstance(error, FileNotFoundError):
            remedy = "somebody has removed it, as systemd's RemoveIPC=yes does at a log-out"
        else:
            remedy = (
                f"{self._ahead} batches of {self._most / 2**20:.1f} MiB wait there; give it more "
                "room (of a container: docker run --shm-size=2g), name another folder by TMPDIR, "
                "or lower data.num_workers (in the config.toml of a run)"
            )
        return DataError(f"{folder}: {error.strerror}: {remedy}")


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _read_all(descriptor: int, room: memoryview) -> None:
    while room:
        if not (read := os.readv(descriptor, [room])):
            raise OSError(None, "its content is gone")
        room = room[read:]


def _places(need: int) -> list[Path]:
    """Return where to write: in memory if this many bytes have room now; among temporary files."""
    temporary = Path(tempfile.gettempdir())
    with suppress(OSError):
        if shutil.disk_usage(_MEMORY).free >= need and os.access(_MEMORY, os.W_OK):
            return [_MEMORY] if temporary == _MEMORY else [_MEMORY, temporary]
    return [temporary]


@cache
def _own_folder(room: Path) -> Path:
    """Make this process's folder there, until its end; remove, first, those of dead ones.

    Raises:
        OSError: it cannot be made.
    """
    remove_leftovers()
    folder, lock = _make(room)
    atexit.register(_remove_own, folder, lock, os.getpid())
    # Python has no public way to name semaphores; where this one is gone, killed ones are left.
    config = getattr(multiprocessing.current_process(), "_config", {})
    unnamed = not config.get("semprefix", f"/{_PREFIX}").startswith(f"/{_PREFIX}")
    if unnamed and _MEMORY.is_dir():  # of several folders the first, which is in memory, names them
        config["semprefix"] = f"/{folder.name}"
    return folder


def _make(room: Path) -> tuple[Path, int | None]:
    """Make a folder and lock it, where there are locks."""
    for _ in range(100):  # another process may find it before it is locked, and remove it
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=room))
        try:
            if (lock := _lock(folder)) is not None:
                return folder, lock
        except NoLocksError:
            return folder, None
    raise OSError(errno.EAGAIN, "the folders made there vanish")


def remove_leftovers() -> None:
    """Remove what killed processes of this user have left: what no process has locked."""
    for room in {_MEMORY, Path(tempfile.gettempdir())}:
        with suppress(OSError):
            for folder in sorted(room.iterdir()):
                if _OURS.fullmatch(folder.name):
                    with suppress(OSError):
                        if (lock := _lock(folder)) is not None:
                            for semaphore in _MEMORY.glob(f"sem.{folder.name}-*"):
                                semaphore.unlink(missing_ok=True)
                            _remove(folder, lock)


def _lock(folder: Path) -> int | None:
    """Open a folder of this user's and lock it; None if another process has, or has removed it.

    Raises:
        OSError: it cannot be opened, is another user's, or is on a file system without locks.
    """
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(lock)
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it is another user's")
        if try_lock(lock) and os.path.samestat(status, folder.lstat()):
            return lock
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _remove_own(folder: Path, lock: int | None, process: int) -> None:
    """Remove the folder of this process at its end; Python removes its semaphores."""
    if os.getpid() == process:  # not a fork of it
        _remove(folder, lock)


def _remove(folder: Path, lock: int | None) -> None:
    """Remove a folder: what is named as ours is, and nothing else."""
    with suppress(OSError):
        for file in folder.iterdir():
            if _BATCH.fullmatch(file.name):
                file.unlink(missing_ok=True)
        folder.rmdir()  # unless something else is in it
    if lock is not None:
        os.close(lock)
