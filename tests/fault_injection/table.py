"""Write the outcomes of the faults as a table."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from .victims import VICTIMS

ENDS = ("identical", "refused", "lost")
SUMS = "All"


class Outcome(NamedTuple):
    """The outcome of one fault."""

    fault: str
    end: str  # one of ENDS
    detail: str = ""


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return a table in Markdown with a row for each kind of fault."""
    faults = sorted({outcome.fault for outcome in outcomes})
    lines = [
        "| fault | count | resumed identical | refused with a message | lost |",
        "|---|---|---|---|---|",
    ]
    for fault in [*faults, None]:
        ends = [o.end for o in outcomes if fault in (None, o.fault)]
        figures = [len(ends), *(ends.count(end) for end in ENDS)]
        lines.append(f"| {fault or 'all'} | {' | '.join(map(str, figures))} |")
    return "\n".join(lines)


def write_section(
    file: Path, outcomes: Sequence[Outcome], victim: str, seed: int, options: str, seconds: float
) -> None:
    """Write the outcomes of a victim and seed into a section of docs/fault-injection.md, and the sums.

    Args:
        file: the page; what else is in it stays.
        outcomes: of the faults.
        victim, seed: make the title.
        options: of the command line, but for these two.
        seconds: that all of it took.
    """
    head, *sections = file.read_text().split("\n## ")
    kept = {text.partition("\n")[0]: text for text in sections}
    kept.pop(SUMS, None)
    title = f"{victim.capitalize()}, seed {seed}"
    kept[title] = f"{title}\n\n{section(outcomes, victim, f'--seed {seed} {options}', seconds)}"
    order = [name.capitalize() for name in VICTIMS]
    titles = [title for title in kept if title.partition(",")[0] in order]
    titles.sort(key=lambda title: (order.index(title.partition(",")[0]), title))
    measured = {title: kept.pop(title) for title in titles}
    texts = [head, f"{SUMS}\n\n{sums(measured)}", *measured.values(), *kept.values()]
    file.write_text("\n## ".join(text.rstrip() + "\n" for text in texts))


def sums(sections: Mapping[str, str]) -> str:
    """Return a table with a row for each section of the page, and their sums."""
    rows = {}
    for title, text in sections.items():
        kills = re.search(r"^SIGKILL ended (\d+) of", text, re.M)
        figures = re.search(r"^\| all \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.M)
        assert kills is not None and figures is not None, f"{title}: not a section of this page"
        count, *ends = map(int, figures.groups())
        rows[title] = [count, int(kills[1]), *ends]
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines = [
        "| training | faults | with a SIGKILL | resumed identical | refused with a message | lost |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def section(outcomes: Sequence[Outcome], victim: str, options: str, seconds: float) -> str:
    """Return what came of the faults of a victim."""
    faults = len(outcomes)
    damaged = ("bit flipped", "cut short", "removed", "data")  # of a run that was killed before
    killed, more = (
        sum(outcome.fault.startswith(kind) for outcome in outcomes) for kind in ("SIGKILL", damaged)
    )
    refused = sorted({(o.fault, o.detail) for o in outcomes if o.end == "refused"})
    said = dict(reversed(refused))
    quoted = "\n\n".join(
        f"{fault}:\n\n" + "\n".join(f"    {line}" for line in detail.splitlines())
        for fault, detail in sorted(said.items())
    )
    about = "These are the messages of refused runs, one for each fault:"
    messages = f"\n{about}\n\n{quoted}\n" if said else ""
    chosen = "" if victim == "classifier" else f"--victim {victim} "
    return f"""{VICTIMS[victim].about} Written by
`python -m tests.fault_injection {chosen}{options}`.
SIGKILL ended {killed + more} of the {faults} runs: {killed} of these had no other fault, and in {more} a file or the data
was then damaged or changed. Python {platform.python_version()}, jax {version("jax")}, {os.cpu_count()} cores, {seconds:.0f} s.

{as_table(outcomes)}
{messages}"""
