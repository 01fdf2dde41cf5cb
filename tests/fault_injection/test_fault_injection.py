"""A small round of `tests.fault_injection`; `make fault-injection` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault_injection.table import Outcome, as_table

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # every kind of fault has a test of its own
@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks into /proc")
def test_no_run_is_lost():
    """One fault of each kind, another set than the long round's."""
    command = [sys.executable, "-m", "tests.fault_injection", "--faults", "8", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "| all | 8 |" in done.stdout
    assert "8 faults in" in done.stdout


def test_a_lost_run_would_show():
    rows = as_table(
        [Outcome("kill", "identical"), Outcome("kill", "lost"), Outcome("rot", "refused")]
    )
    assert rows.splitlines()[2:] == [
        "| kill | 2 | 1 | 0 | 1 |",
        "| rot | 1 | 0 | 1 | 0 |",
        "| all | 3 | 1 | 1 | 1 |",
    ]
