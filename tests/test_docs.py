"""The documentation: its links lead somewhere, its code runs, it names everything there is."""

import re
from pathlib import Path

import numpy as np
import pytest

from convax import ops

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, f"no heading for {target}"
        elif not target.startswith("http"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_operation_has_its_mathematics():
    """And stands where the page says it does."""
    text = (ROOT / "docs" / "mathematics.md").read_text()
    for name in ops.__all__:
        if name.endswith("_output_shape") or name in (
            "INITIALIZERS",
            "implementation",
            "zeros",
            "ones",
        ):
            continue
        assert re.search(rf"`{name}`", text), f"{name} is not in docs/mathematics.md"
    for name, file in re.findall(r"\[`(\w+)`\]\(\.\./(ops/\w+\.py)\)", text):
        assert f"def {name}(" in (ROOT / file).read_text(), f"{name} is not in {file}"


def test_the_mathematics_lists_every_operation():
    text = (ROOT / "docs" / "mathematics.md").read_text().partition("## Notation")[0]
    missing = [name for name in ops.__all__ if f"`{name}`" not in text]
    assert missing in ([], ["INITIALIZERS"])


@pytest.mark.slow
def test_the_code_in_the_docs_runs(tmp_path, monkeypatch):
    """docs/networks.md, block after block."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "networks.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    step, *trained = (names[n] for n in ("step", "params", "state", "opt_state"))
    images, labels = np.zeros((4, 8, 8, 3), np.float32), np.arange(4)
    *_, first = step(*trained, images, labels)  # type: ignore[operator]
    assert np.isfinite(first)
