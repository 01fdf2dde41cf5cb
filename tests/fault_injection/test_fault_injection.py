"""A small round of `tests.fault_injection`; `make fault-injection` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault_injection.table import Outcome, as_table, write_section

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # every kind of fault has a test of its own
@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks into /proc")
@pytest.mark.parametrize(("victim", "faults"), [("classifier", 8), ("detector", 1)])
def test_no_run_is_lost(victim, faults):
    """Of a classifier one fault of each kind, another set than the long round's; of both a kill."""
    command = [sys.executable, "-m", "tests.fault_injection", "--victim", victim]
    command += ["--faults", str(faults), "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"| all | {faults} |" in done.stdout
    assert f"{faults} faults in" in done.stdout


def test_each_victim_has_its_section_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Head\n\nWords.\n\n## Classifier\n\nold\n")
    for victim in ("detector", "classifier"):
        write_section(page, [Outcome(f"kill {victim}", "identical")], victim, 0, 2, 1.0)
    head, first, second = page.read_text().split("\n## ")
    assert head == "# Head\n\nWords.\n" and "old" not in first
    assert first.startswith("Classifier\n\nWritten by") and "| kill classifier | 1 |" in first
    assert second.startswith("Detector\n\nWritten by") and "--victim detector" in second


def test_a_lost_run_would_show():
    rows = as_table(
        [Outcome("kill", "identical"), Outcome("kill", "lost"), Outcome("rot", "refused")]
    )
    assert rows.splitlines()[2:] == [
        "| kill | 2 | 1 | 0 | 1 |",
        "| rot | 1 | 0 | 1 | 0 |",
        "| all | 3 | 1 | 1 | 1 |",
    ]
