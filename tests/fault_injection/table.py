"""Write the outcomes of the faults as a table."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
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


def page(outcomes: Sequence[Outcome], seed: int, workers: int, seconds: float) -> str:
    """Return docs/fault-injection.md."""
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
    return f"""# What a run survives

Written by
`python -m tests.fault_injection --faults {faults} --seed {seed} --workers {workers}`:
a tiny network trains for forty steps with a checkpoint every five, again and again. Each time there
is one fault, or up to three kills in a row, and the run is then resumed. SIGKILL ended
{killed + more} of the {faults} runs: {killed} of these had no other fault, and in {more} a file or the data was then damaged
or changed. Python {platform.python_version()}, jax {version("jax")}, {os.cpu_count()} cores, {seconds:.0f} s.

{as_table(outcomes)}

- **Resumed identical**: every byte of the last and the best checkpoint, every line of the metrics
  except timings, and the test result are those of a run that was never stopped.
- **Refused**: exit code 2 and a message that names the problem and the remedy. Each of these runs was
  resumed to the same bytes once the file was restored. A copy of the run was continued to its end
  with `--force`; if `config.toml` or `run.json` could not be used, a copy was resumed without that
  file, which is then rewritten, to the same bytes.
- **Lost**: anything else.

A kill happens at a use of the disk (open, half a write, fsync, rename, mkdir, remove) or at a random
time. These are the messages of refused runs, one for each fault:

{quoted}
"""
