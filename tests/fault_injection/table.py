"""Write the outcomes of the faults as a table."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ENDS = ("identical", "refused", "lost")


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
    file: Path, outcomes: Sequence[Outcome], victim: str, seed: int, workers: int, seconds: float
) -> None:
    """Write the outcomes of a victim into its section of docs/fault-injection.md."""
    head, *sections = file.read_text().split("\n## ")
    new = section(outcomes, victim, seed, workers, seconds)
    kept = {text.partition("\n")[0].lower(): text for text in sections}
    kept[victim] = f"{victim.capitalize()}\n\n{new}"
    file.write_text("\n## ".join([head, *(text.rstrip() + "\n" for text in kept.values())]))


def section(
    outcomes: Sequence[Outcome], victim: str, seed: int, workers: int, seconds: float
) -> str:
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
    return f"""Written by
`python -m tests.fault_injection {chosen}--faults {faults} --seed {seed} --workers {workers}`.
SIGKILL ended {killed + more} of the {faults} runs: {killed} of these had no other fault, and in {more} a file or the data
was then damaged or changed. Python {platform.python_version()}, jax {version("jax")}, {os.cpu_count()} cores, {seconds:.0f} s.

{as_table(outcomes)}
{messages}"""
