"""Batches on their way from worker processes: where there is room, and what a kill leaves."""

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from convax.training.data import DataError, spool

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.arange(6.0).reshape(2, 3)[:, ::2],
    np.zeros((2, 0, 4), np.int32),
]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of this test's own for memory and temporary files."""
    found = [tmp_path / "memory", tmp_path / "temporary"]
    for place in found:
        place.mkdir()
    monkeypatch.setattr(spool, "_MEMORY", found[0])
    monkeypatch.setattr(spool.tempfile, "gettempdir", lambda: str(found[1]))
    monkeypatch.setattr(spool, "_own_folder", spool.cache(spool._own_folder.__wrapped__))
    monkeypatch.setattr(spool.atexit, "register", lambda *_: None)
    monkeypatch.setitem(spool.multiprocessing.current_process()._config, "semprefix", "/mp")
    return found


def test_what_is_put_is_taken_once(places):
    first, second = (spool.Spool(most=100, ahead=2) for _ in range(2))
    stored = first.put(7, ARRAYS)
    for array, put in zip(first.take(stored), ARRAYS, strict=True):
        assert array.dtype == put.dtype and array.flags.writeable
        np.testing.assert_array_equal(array, put)
    first.put(8, ARRAYS)
    kept = second.put(8, ARRAYS)
    first.clear()
    (folder,) = places[0].iterdir()
    assert list(folder.iterdir()) == [Path(kept.file)]


Usage = namedtuple("Usage", "free")


@pytest.mark.parametrize(("free", "place"), [(199, 1), (200, 0)])
def test_batches_are_in_memory_where_that_has_room_for_all(places, monkeypatch, free, place):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free))
    stored = spool.Spool(most=100, ahead=2).put(0, ARRAYS)
    assert Path(stored.file).parents[1] == places[place]


def fill(monkeypatch, times):
    """Have so many writes find no room, half of their content written."""
    write, left = os.write, [times]

    def full(descriptor, content):
        if left[0] == 0:
            return write(descriptor, content)
        left[0] -= 1
        write(descriptor, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)


def test_a_batch_that_finds_no_room_in_memory_is_among_temporary_files(places, monkeypatch):
    """As where several readers have seen the same room; those before and after it are in memory."""
    reader = spool.Spool(most=100, ahead=3)
    before = reader.put(0, ARRAYS)
    fill(monkeypatch, 1)
    stored = [before, reader.put(1, ARRAYS), reader.put(2, ARRAYS)]
    assert [Path(each.file).parents[1] for each in stored] == [places[i] for i in (0, 1, 0)]
    (folder,) = places[0].iterdir()
    assert sorted(folder.iterdir()) == [Path(stored[0].file), Path(stored[2].file)]
    for each in stored[:2]:
        for array, put in zip(reader.take(each), ARRAYS, strict=True):
            np.testing.assert_array_equal(array, put)
    fill(monkeypatch, 1)
    reader.put(3, ARRAYS)
    reader.clear()
    assert not [file for place in places for file in place.rglob("*.batch")]


def test_memory_is_enough_where_there_is_no_place_for_temporary_files(places):
    places[1].rmdir()
    stored = spool.Spool(most=100, ahead=2).put(0, ARRAYS)
    assert Path(stored.file).parents[1] == places[0]


def test_full_folders_are_named_with_the_remedies(places, monkeypatch):
    reader = spool.Spool(most=3 * 2**20, ahead=14)
    fill(monkeypatch, 2)
    message = (
        r"temporary/convax-batches-\w{8}: No space left on device: 14 batches of 3.0 MiB wait there; "
        r"give it more room \(of a container: docker run --shm-size=2g\), name another folder by "
        r"TMPDIR, or lower data.num_workers \(in the config.toml of a run\)$"
    )
    with pytest.raises(DataError, match=message):
        reader.put(0, ARRAYS)
    assert not [file for place in places for file in place.rglob("*.batch")]


def test_a_folder_that_is_gone_is_named(places):
    reader = spool.Spool(most=100, ahead=2)
    stored = reader.put(0, ARRAYS)
    folder = Path(stored.file).parent
    Path(stored.file).write_bytes(b"cut")
    with pytest.raises(DataError, match=rf"{folder}: its content is gone"):
        reader.take(stored)
    shutil.rmtree(folder)
    message = rf"{folder}: No such file or directory: somebody has removed it, as systemd's Remove"
    for use in (lambda: reader.put(1, ARRAYS), lambda: reader.take(stored)):
        with pytest.raises(DataError, match=message):
            use()


def test_a_place_that_is_missing_is_named(places):
    for place in places:
        place.rmdir()
    with pytest.raises(
        DataError, match=r"temporary: No such file or directory: 2 batches of .*TMP"
    ):
        spool.Spool(most=100, ahead=2)


def test_what_is_in_use_or_is_not_ours_stays(places, tmp_path):
    """Of a name like ours: in use, with a file of somebody's, a link, a file."""
    spool.Spool(most=100, ahead=2).put(0, ARRAYS)
    (in_use,) = places[0].iterdir()
    theirs = places[0] / "convax-batches-imagenet"
    theirs.mkdir()
    for name in ("photo.png", "0-1.batch"):
        (theirs / name).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "0-1.batch").touch()
    (places[1] / "convax-batches-linked__").symlink_to(elsewhere)
    (places[1] / "convax-batches-a_file__").touch()
    (places[1] / "convax-batches-longer___").mkdir()
    spool.remove_leftovers()
    assert len(list(in_use.iterdir())) == 1
    assert [file.name for file in theirs.iterdir()] == ["photo.png"]
    # There is one more, the other folder of the one that is in use.
    assert len(list(elsewhere.iterdir())) == 1 and len(list(places[1].iterdir())) == 4


def test_without_locks_there_is_a_folder_and_nothing_is_removed(places, monkeypatch):
    left = places[0] / "convax-batches-leftover"
    left.mkdir()

    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    reader = spool.Spool(most=100, ahead=2)
    np.testing.assert_array_equal(reader.take(reader.put(0, ARRAYS))[0], ARRAYS[0])
    assert left.is_dir()


READS = """
import multiprocessing, sys
import numpy as np
from convax.training.data.spool import Spool
if __name__ == "__main__":
    reader = Spool(most=10, ahead=1)
    reader.put(0, [np.zeros(10, np.uint8)])
    semaphore = multiprocessing.get_context("spawn").Lock()
    print(reader._folders[0], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no /dev/shm")
def test_what_a_killed_group_leaves_the_next_process_removes():
    """And a process that ends leaves nothing."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", READS]
    with (
        subprocess.Popen(command, start_new_session=True, **pipes) as killed,
        subprocess.Popen(command, stderr=subprocess.PIPE, **pipes) as ended,
    ):
        assert killed.stdout is not None and ended.stdout is not None
        folders = [Path(pipe.readline().strip()) for pipe in (killed.stdout, ended.stdout)]
        left = [_files_of(folder) for folder in folders]
        assert re.fullmatch(r"0-0.batch sem.convax-batches-\w{8}-\w+", " ".join(left[0]))
        assert len(left[1]) == 2
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        spool.remove_leftovers()
        assert not folders[0].exists() and not _files_of(folders[0])
        assert _files_of(folders[1]) == left[1]
        _, err = ended.communicate("", timeout=60)
    assert (
        (ended.returncode, err) == (0, "") and not folders[1].exists() and not _files_of(folders[1])
    )


def _files_of(folder):
    """Return what the process of this folder has in it, and beside it."""
    inside = folder.iterdir() if folder.exists() else ()
    return sorted(file.name for file in (*inside, *Path("/dev/shm").glob(f"sem.{folder.name}-*")))
