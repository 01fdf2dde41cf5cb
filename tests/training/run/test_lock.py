"""One process at a time in a run."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys

import pytest

from convax.training.run import lock
from convax.training.run.directory import RunError

HOLD = """
import sys
from pathlib import Path
from convax.training.run import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_tells_who_holds_it_until_that_process_is_gone(tmp_path, command, whole):
    run = tmp_path / "run"
    run.mkdir()
    arguments = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        message = rf"run: in use by process {holder.pid} on \S+, since 20\d\d-\S+; wait for it"
        for _ in range(2):  # asking does not wipe out the answer
            with pytest.raises(RunError, match=message), lock.held(run):
                pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lock.held(run):
            assert f'"pid": {os.getpid()}' in (run / "lock").read_text()
    assert (run / "lock").read_text() == ""


def test_a_lock_held_by_nobody_knows_whom(tmp_path):
    with lock.held(tmp_path):
        (tmp_path / "lock").write_text("{")
        with pytest.raises(RunError, match=re.escape("in use by another process; wait")):
            lock.held(tmp_path).__enter__()


def test_resume_and_train_hold_it(copied, command):
    copied.update_info(status="running")
    with lock.held(copied.path):
        code, _, err = command("train", "--resume", copied.path)
    assert code == 2
    assert f"in use by process {os.getpid()}" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_and_can_be_trained_on(tmp_path, monkeypatch, code):
    def none(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(RunError, match=r"its file system has no locks .* set CONVAX_LOCK=none and"):
        lock.held(tmp_path).__enter__()
    monkeypatch.setenv("CONVAX_LOCK", "none")
    with lock.held(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / "lock").read_text()
    assert (tmp_path / "lock").read_text() == ""


def test_a_lock_that_fails_otherwise_is_no_missing_lock(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    monkeypatch.setenv("CONVAX_LOCK", "none")
    with pytest.raises(OSError, match="Input/output error"):
        lock.held(tmp_path).__enter__()
