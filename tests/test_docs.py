"""The documentation: its links lead somewhere, its code runs, it names everything there is."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer

import convax
from convax import explain, model, ops
from convax.cli.main import app

ROOT = Path(__file__).parents[1]
COMMON = {"--verbose", "--no-cache", "--device", "--help"}  # of every command
SITE = ROOT / "docs" / "site"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def headings_of(page):
    """The anchors of a page, as GitHub and the site make them."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in page.read_text().splitlines()
        if line.startswith("#")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            other = page.parent / name if name else page
            assert other.exists(), target
            assert not anchor or anchor in headings_of(other), f"no heading for {target}"


def test_every_page_is_on_the_site():
    """In the navigation of mkdocs.yml; `make docs` holds the rest of it, in strict mode."""
    places = set(re.findall(r": ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= places
    rooms = {folder.parent.name for folder in (ROOT / "training").glob("*/__init__.py")}
    made = {"ops", "model", "explain", "inference", *(f"training/{room}" for room in rooms)}
    assert {"index.md", "reference/config.md", *(f"reference/{m}.md" for m in made)} <= places


def load(name):
    """A module of docs/site."""
    spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def test_every_public_name_is_in_the_reference_once():
    pages = load("api_reference").pages(ROOT)
    shown = re.findall(r"^::: (\S+)$", "".join(pages.values()), re.MULTILINE)
    assert len(shown) == len(set(shown)) > 1000
    for package in (convax, ops, model, explain):
        names = {path.rpartition(".")[2] for path in shown if path.startswith(package.__name__)}
        for name in {*package.__all__} - names:
            thing = getattr(package, name)  # from elsewhere
            assert isinstance(thing, ModuleType) or f"{thing.__module__}.{name}" in shown, name


def test_every_key_of_a_config_is_explained():
    """In docs/site/config_keys.toml or a docstring; and nothing else is."""
    page = load("config_reference").page()
    assert "| `batch_size` | integer above 0 | required | images in a step |" in page
    assert "## augment {#augment}" in page and '### `name = "resnet_cifar"`' in page


def test_the_survey_names_what_there_is():
    named = re.findall(r"`(ops|model)\.(\w+)`", (ROOT / "docs" / "survey.md").read_text())
    found = {(package, name) for package, name in named}
    assert len(found) > 80
    assert all(name in {"ops": ops, "model": model}[package].__all__ for package, name in found)
    losses = {name for name in ops.__all__ if name.endswith("_loss")}
    assert losses <= {name for _, name in found}


PATTERN = re.compile(r"(?:^ {4}|^\$ |`)convax ([a-z][a-z-]*(?: [^`\n]*)?)", re.MULTILINE)
COMMANDS = sorted(
    {
        (page.name, found.partition("  #")[0].split(" (")[0].strip())
        for page in PAGES
        for found in PATTERN.findall(page.read_text())
    }
)


@pytest.mark.parametrize("page, line", COMMANDS)
def test_commands_and_options_exist(page, line):
    """Of every command that a page shows; `test_docs_commands` runs those that can be run."""
    name, *words = shlex.split(re.sub(r"[\[\]|]|\.\.\.", " ", line), comments=True)
    command = typer.main.get_command(app).commands.get(name)  # type: ignore[attr-defined]
    assert command is not None, f"{page}: convax {line}"
    options = {option for parameter in command.params for option in parameter.opts}
    unknown = {word for word in words if word.startswith("--")} - options - COMMON
    assert not unknown, f"{page}: convax {line}"


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
