"""A small round of `tests.fault_injection`; `make fault-injection` is the long one."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from convax.training.config.schema import load_config
from convax.training.config_data import load_data
from convax.training.data import fingerprint
from tests.fault_injection.table import Outcome, as_table, write_section
from tests.fault_injection.victims import VICTIMS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # every kind of fault has a test of its own
@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks into /proc")
@pytest.mark.parametrize(("victim", "faults"), [("classifier", 8), ("study", 1)])
def test_no_run_is_lost(victim, faults):
    """Of a classifier one fault of each kind, another set than the long round's; of a study a kill."""
    command = [sys.executable, "-m", "tests.fault_injection", "--victim", victim]
    command += ["--faults", str(faults), "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"| all | {faults} |" in done.stdout
    assert f"{faults} faults in" in done.stdout


def test_each_victim_has_its_section_of_the_page_and_its_row_of_the_sums(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Head\n\nWords.\n\n## Classifier, seed 0\n\nold\n\n## Others\n\nMore.\n")
    for victim, seed in (("classifier", 0), ("detector", 3), ("classifier", 1), ("classifier", 0)):
        ends = [Outcome(f"SIGKILL in {victim}", "identical"), Outcome("disk full", "refused")]
        count = 2 if victim == "detector" else 1
        write_section(page, ends[:count], victim, seed, f"--faults {count}", 1.0)
    head, sums, first, again, second, others = page.read_text().split("\n## ")
    assert head == "# Head\n\nWords.\n" and "old" not in first
    assert others == "Others\n\nMore.\n"
    assert sums.splitlines()[4:] == [
        "| Classifier, seed 0 | 1 | 1 | 1 | 0 | 0 |",
        "| Classifier, seed 1 | 1 | 1 | 1 | 0 | 0 |",
        "| Detector, seed 3 | 2 | 1 | 1 | 1 | 0 |",
        "| all | 4 | 3 | 3 | 1 | 0 |",
    ]
    assert first.startswith("Classifier, seed 0\n\nAn MLP. Written by")
    assert "| SIGKILL in classifier | 1 |" in first and "--seed 1 --faults 1`" in again
    assert second.startswith("Detector, seed 3\n\nFaster R-CNN") and "--victim detector" in second


@pytest.mark.parametrize("name", VICTIMS)
def test_every_victim_is_an_experiment_whose_data_can_change(tmp_path, name):
    victim = VICTIMS[name]
    config = load_config(victim.write(tmp_path), victim.options)
    before = fingerprint(load_data(config))
    victim.change(tmp_path / victim.data, random.Random(0))
    assert fingerprint(load_data(config)) != before


def test_a_lost_run_would_show():
    rows = as_table(
        [Outcome("kill", "identical"), Outcome("kill", "lost"), Outcome("rot", "refused")]
    )
    assert rows.splitlines()[2:] == [
        "| kill | 2 | 1 | 0 | 1 |",
        "| rot | 1 | 0 | 1 | 0 |",
        "| all | 3 | 1 | 1 | 1 |",
    ]
