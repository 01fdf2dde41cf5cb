"""Replay a recording of the docs: run its commands in order, and compare what they print."""

import re
import shlex
from typing import NamedTuple


class Recording(NamedTuple):
    """A part of a page.

    Attributes:
        scripts: its blocks of Python, which make the data.
        commands: its lines that begin with ``convax``, in order, as words.
        printed: its blocks of text, the first of which is what `convax new` says.
    """

    scripts: list[str]
    commands: list[list[str]]
    printed: list[str]


def recording(page, heading, until=None):
    """What stands from a heading on, up to another one, or to the end."""
    text = f"\n{page.read_text()}"
    start = text.index(f"\n{heading}\n")
    text = text[start:] if until is None else text[start : text.index(f"\n{until}\n", start)]
    scripts, printed = (
        re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL) for kind in ("python", "text")
    )
    commands = re.findall(r"\n    (convax .*)", text)
    return Recording(scripts, [shlex.split(line, comments=True) for line in commands], printed)


def replay(recorded, command, smaller):
    """Run the commands in the current folder, `train` with `smaller` settings.

    `new` prints what the first block says, to the letter; each line of the others is printed by one
    of the commands, with other numbers.

    Returns:
        The commands that were run, by name, each with the words that it was given last.
    """
    first, *others = recorded.printed
    settings = [word for key in smaller.split() for word in ("--set", key)]
    said, done = {}, {}
    for _, name, *arguments in recorded.commands:
        if name == "serve":  # a port, until it is stopped: tests/inference/serve
            continue
        code, said[name], problem = command(
            name, *arguments, *(settings if name == "train" else ())
        )
        assert code == 0, problem
        done[name] = arguments
    assert said["new"] == first
    everything = [_words(line) for text in said.values() for line in text.splitlines()]
    for line in "".join(others).splitlines():
        assert _words(line) in everything, line
    return done


def _words(line):
    """The words of a line, in any order, and of numbers only that there are some."""
    return sorted(re.sub(r"[\d.,e-]*\d", "0", line).split())
