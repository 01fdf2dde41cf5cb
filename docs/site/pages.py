"""Make the pages beside those of docs/: the front page, the reference, sources linked to."""

import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import ziamath
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import api_reference
import config_reference
from formulas import Formulas

ROOT = Path(__file__).parents[2]
# Files of the root that are pages, and their place on the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


@event_priority(100)  # before mkdocstrings reads where packages are
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the folders of the repository as packages, as they are installed."""
    config.markdown_extensions.append(Formulas())  # type: ignore[arg-type] -- an instance will do
    python = config.plugins["mkdocstrings"].config["handlers"]["python"]
    python["paths"] = [str(_packages(Path(tempfile.mkdtemp(prefix="convax-docs-"))))]
    return config


def _packages(folder: Path) -> Path:
    """Link the package ``convax`` together in `folder`, from pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for name, source in settings["tool"]["setuptools"]["package-dir"].items():
        package = folder / name.replace(".", "/")
        package.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / source).glob("*.py"):
            (package / file.name).symlink_to(file)
    return folder


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made: of the root's files, of the code, and of sources linked to."""
    made = {
        page: (ROOT / name).read_text() for name, page in PAGES.items() if name != "SECURITY.md"
    }
    made["reference/config.md"] = config_reference.page()
    made |= {f"reference/{name}.md": text for name, text in api_reference.pages(ROOT).items()}
    made["style.css"] = Path(__file__).with_name("style.css").read_text()
    texts = [(ROOT / "docs", file.content_string) for file in files.documentation_pages()]
    texts += [(ROOT, (ROOT / name).read_text()) for name in PAGES]
    for folder, text in texts:
        for _, target, _ in _LINK.findall(text):
            if path := _source(folder, target):
                made |= _source_pages(path)
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    font = Path(ziamath.__file__).with_name("fonts") / "STIXTwoMath-Regular.ttf"
    files.append(File.generated(config, "fonts/math.ttf", abs_src_path=str(font)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to where their targets are on the site."""
    uri = page.file.src_uri
    if uri.startswith(("reference/", "source/")):
        return markdown
    folder = ROOT if uri in PAGES.values() and not (ROOT / "docs" / uri).exists() else ROOT / "docs"

    def moved(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match.group(0)
        path = (folder / target).resolve()
        if path.is_relative_to(ROOT / "docs"):
            return before + path.relative_to(ROOT / "docs").as_posix() + after
        if (name := path.relative_to(ROOT).as_posix()) in PAGES:
            return before + PAGES[name] + after
        return f"{before}source/{name}.md{after}" if path.exists() else match.group(0)

    return _LINK.sub(moved, markdown)


def _source(folder: Path, target: str) -> Path | None:
    """Return the file or folder of the repository that a link leads to, if it is no page."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path = (folder / target).resolve()
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return path if path.exists() and name not in PAGES and not name.startswith("docs/") else None


def _source_pages(path: Path) -> dict[str, str]:
    """Return the page of a file, or of a folder and each file in it."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_file():
        kind = {".py": "python", ".toml": "toml", ".h": "cpp"}.get(path.suffix, "text")
        return {f"source/{name}.md": f"# {name}\n\n````{kind}\n{path.read_text()}\n````\n"}
    inside = sorted(file for file in path.iterdir() if file.suffix in (".py", ".md", ".toml"))
    lines = "".join(f"- [{file.name}]({path.name}/{file.name}.md)\n" for file in inside)
    pages = {f"source/{name}.md": f"# {name}\n\n{lines}"}
    for file in inside:
        pages |= _source_pages(file)
    return pages
