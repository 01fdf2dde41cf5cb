"""What is said of long work: nothing of short work, nothing to a library, and it goes at its end."""

import io
import time
from contextlib import redirect_stderr

import pytest

from convax.training.common import waiting


@pytest.fixture(params=[False, True], ids=["a file", "a terminal"])
def said(request, monkeypatch):
    """Standard error, and whether it is a terminal; every delay is a hundredth of a second."""
    stream = io.StringIO()
    stream.isatty = lambda: request.param  # type: ignore[method-assign]
    monkeypatch.setattr(waiting, "_shown", True)
    for name in ("_SOON", "_LATER"):
        monkeypatch.setattr(waiting, name, 0.01)
    return stream


def count(stream, total):
    with redirect_stderr(stream), waiting.counted("decoding images", total) as seen:
        for _ in range(total):
            time.sleep(0.006)
            seen()


def work(stream, seconds):
    with redirect_stderr(stream), waiting.working("compiling"):
        time.sleep(seconds)


def test_long_work_is_said(said):
    count(said, 20)
    lines = said.getvalue()
    assert lines.startswith("decoding images: ") != said.isatty() and "decoding images" in lines
    assert lines.count(" of 20\n") == (0 if said.isatty() else 1)  # the next after half a minute
    work(said, 0.2)
    assert "compiling ..." in said.getvalue()


def test_short_work_is_not(said, monkeypatch):
    for name in ("_SOON", "_LATER"):
        monkeypatch.setattr(waiting, name, 9.0)
    count(said, 2)
    work(said, 0.0)
    assert said.getvalue() == ""


def test_a_library_says_nothing(said):
    waiting.show(False)
    count(said, 5)
    work(said, 0.05)
    assert said.getvalue() == ""
