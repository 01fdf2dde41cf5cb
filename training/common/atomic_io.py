"""Files that are on the disk when the call returns, and whole whenever somebody looks.

A file is written under another name, flushed, and renamed; a rename is on the disk only once its
directory is. A directory of files is made likewise, as a whole. So a process killed at any instant,
or a power cut, leaves the old content or the new.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def atomic_write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file in one go, by bytes or by parts of them that come while it is written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_fsync(aside, content)
        aside.replace(path)
    except BaseException:  # of a part that was to come, too
        aside.unlink(missing_ok=True)  # a full disk wants its room back
        raise
    fsync_path(path.parent)


def atomic_write_dir(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Make a directory of these files, paths in it and contents, in one go.

    Raises:
        OSError: it cannot be written, or is there; nothing new is left, as after any other error.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write_all(aside, files)
        fsync_path(aside)
        aside.rename(path)
    except BaseException:  # of a file that was to come, too
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync_path(path.parent)


def write_all(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files, paths in a folder and contents, down to the disk."""
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_fsync(folder / name, content)


def write_fsync(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file down to the disk."""
    with path.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
        file.flush()
        os.fsync(file.fileno())


def fsync_path(path: Path) -> None:
    """Bring to the disk what was written to a file, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
