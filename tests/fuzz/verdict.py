"""What may come of bad input, and what may be said of it."""

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

# What no message may contain: it would mean nothing to who wrote the config or has the file.
INTERNALS = re.compile(
    r"Traceback|NoneType|pydantic|<class|<function|<lambda|object at 0x|Tracer|ShapedArray|"
    r"datetime\.|PosixPath|dict_keys|jaxlib|RecursionError|KeyError|AttributeError|"
    r"__\w+__|[\x00-\x09\x0b-\x1f\x7f]"
)
LONGEST_LINE = 1000  # characters
SECONDS = 20.0  # of the processor for one case, far more than any needs


class Verdict(NamedTuple):
    """What came of one case."""

    case: str  # how it was spoiled
    outcome: str  # "accepted" and the like, the name of an error of convax, or "FAILED"
    message: str  # what convax said, or what is wrong with that


class TooSlow(BaseException):
    """A case took longer than it may; no `except Exception` stops it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """`TooSlow` in the main thread after so many seconds of the processor, and each second more."""

    def stop(signum, frame):
        raise TooSlow(f"longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # a callback of the collector swallows one
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def is_own(error: BaseException) -> bool:
    """Whether it is one of convax's errors, which the command line prints as they are."""
    return type(error).__module__.startswith("convax.")


def fault_of_message(message: str, *, lines: int) -> str | None:
    """What is wrong with what was said, if anything."""
    if not message.strip():
        return "says nothing"
    if found := INTERNALS.search(message):
        return f"speaks of {found[0]!r}"
    if len(message.splitlines()) > lines:
        return f"has {len(message.splitlines())} lines, {lines} at most"
    if max(map(len, message.splitlines())) > LONGEST_LINE:
        return f"has a line of {max(map(len, message.splitlines()))} characters"
    return None


def judge(
    case: str, attempt: Callable[[], tuple[str, str | None]], refused: Callable[[str], str | None]
) -> Verdict:
    """Try a case.

    Args:
        case: how it was spoiled.
        attempt: says what came of it if it was taken, and what is wrong with that, if anything.
        refused: what is wrong with what was said of it if it was not, if anything.
    """
    try:
        with time_limit(SECONDS):
            outcome, wrong = attempt()
    except (Exception, TooSlow) as error:
        said = str(error)
        if not is_own(error):
            return Verdict(case, "FAILED", f"{type(error).__name__}: {said[:500]}")
        wrong = refused(said)
        if wrong is None:
            return Verdict(case, type(error).__name__, said)
        return Verdict(case, "FAILED", f"{wrong}: {said[:2000]}")
    return Verdict(case, outcome, "") if wrong is None else Verdict(case, "FAILED", wrong)


def table(verdicts: list[Verdict]) -> str:
    """How often what came of which kind of case, in Markdown."""
    kind = [
        re.split("[:,]", v.case)[0] if "odd" in v.case else v.case.split(":")[0] for v in verdicts
    ]
    found = sorted({v.outcome for v in verdicts} - {"FAILED"}, key=lambda o: (o[0].isupper(), o))
    outcomes = [*found, "FAILED"]
    count = Counter((k, v.outcome) for k, v in zip(kind, verdicts, strict=True))
    rows = [[k, *(count[k, o] for o in outcomes)] for k in dict.fromkeys(sorted(kind))]
    total = ["all", *(sum(row[i] for row in rows) for i in range(1, len(outcomes) + 1))]
    lines = [["", *outcomes], ["---", *["---:"] * len(outcomes)], *rows, total]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
