"""What is written on a terminal until a command says something itself."""

import io
import sys
import time

import pytest

from convax.training.common.first_word import announce


class Terminal(io.StringIO):
    def isatty(self):
        return True


def streams(monkeypatch):
    """Standard output and error, both on a terminal; during a test, as pytest replaces them before."""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def wait_for(stream, text):
    ends = time.monotonic() + 30
    while stream.getvalue() != text:
        assert time.monotonic() < ends, stream.getvalue()
        time.sleep(0.005)


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_it_goes_with_the_first_word(monkeypatch, which):
    out, err = streams(monkeypatch)
    announce("evaluate ...", after=0)
    wait_for(err, "evaluate ...")
    print("a result", file=getattr(sys, which))
    said = err.getvalue() + out.getvalue()
    assert said == "evaluate ...\r\x1b[2Ka result\n"
    assert (sys.stdout, sys.stderr) == (out, err)


def test_it_is_not_written_where_a_word_was(monkeypatch):
    out, err = streams(monkeypatch)
    announce("evaluate ...", after=0.05)
    print("a result")
    time.sleep(0.1)
    assert (out.getvalue(), err.getvalue()) == ("a result\n", "")


def test_it_is_written_on_a_terminal_alone(monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    announce("evaluate ...", after=0)
    assert sys.stderr is plain
