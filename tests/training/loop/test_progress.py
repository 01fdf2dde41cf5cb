"""Progress that cannot be shown ends no training; a terminal that hangs up has the state saved."""

import errno
import io
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convax.training.loop.progress import Bar, Lines, display_for_command
from convax.training.loop.signals import InterruptedRun, signals_noted
from convax.training.run.directory import Run, open_run


class Gone(io.RawIOBase):
    """What a terminal that is gone, a closed pipe or a full disk is to whoever writes to it."""

    def __init__(self, code):
        self.code = code

    def writable(self):
        return True

    def write(self, content):
        if self.code is None:
            return len(content)
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("code", [errno.EIO, errno.EPIPE, errno.ENOSPC])
@pytest.mark.parametrize("make", [Lines, Bar])
def test_progress_that_cannot_be_written_is_dropped(monkeypatch, code, make):
    gone = Gone(code)
    stream = io.TextIOWrapper(io.BufferedWriter(gone), line_buffering=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        display = make()
        for step in (1, 2):
            display.note("a line")
            display.step(step, 2, {"loss": 0.5})
        display.close()
    with pytest.raises(OSError, match=os.strerror(code)):
        stream.flush()  # it was really written to; a stream of a file would lead nowhere by now
    gone.code = None
    stream.close()


def test_from_the_first_failure_on_a_file_leads_nowhere(monkeypatch, tmp_path):
    """So that Python, which flushes it at the end, fails at nothing."""
    with Path("/dev/full").open("w", encoding="utf-8") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        display_for_command().note("a line")
        print("another", flush=True)


def test_sighup_is_noted_unless_it_is_ignored():
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        with signals_noted() as noted:
            os.kill(os.getpid(), signal.SIGHUP)
            assert noted == [signal.SIGHUP]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with signals_noted() as noted:
            os.kill(os.getpid(), signal.SIGHUP)
            assert noted == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_was_hung_up_says_how_to_go_on(tmp_path):
    stopped = InterruptedRun(Run(tmp_path), 3, 9, signal.SIGHUP)
    assert stopped.exit_code == 129 and "stopped by SIGHUP at step 3 of 9, state saved" in str(
        stopped
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ignored", "code", "status"), [(True, 0, "finished"), (False, 129, "running")]
)
def test_a_training_whose_terminal_is_gone(tiny, tmp_path, ignored, code, status):
    """Under `nohup` it goes on; else it saves and stops."""
    steps = 600 if ignored else 60_000  # what stops must not be done before
    tiny.write_text(tiny.read_text().replace("steps = 60", f"steps = {steps}"))
    ours, theirs = pty.openpty()

    begin = f"""
import os, signal, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))  # which makes it the controlling terminal
signal.signal(signal.SIGHUP, signal.SIG_IGN if {ignored} else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "convax", *sys.argv[1:]])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", begin, "train", str(tiny), "--out", str(tmp_path / "run")],
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),  # type: ignore[call-overload]
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"validation at step" not in seen:
        seen += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(timeout=120) == code
    assert open_run(tmp_path / "run").info()["status"] == status
