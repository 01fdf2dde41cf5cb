"""Make the pages beside those of docs/: the front page, the reference, sources linked to."""

import atexit
import posixpath
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import ziamath
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
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
}
MOVED = {**PAGES, "SECURITY.md": "security.md"}  # which leads to docs/security.md
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


@event_priority(100)  # before mkdocstrings reads where packages are
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the folders of the repository as packages, as they are installed."""
    config.markdown_extensions.append(Formulas())  # type: ignore[arg-type] -- an instance will do
    python = config.plugins["mkdocstrings"].config["handlers"]["python"]
    folder = Path(tempfile.mkdtemp(prefix="convax-docs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python["paths"] = [str(_packages(folder))]
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
    try:
        made = {"reference/config.md": config_reference.page()}
    except ValueError as error:
        raise PluginError(str(error)) from None
    made |= {f"reference/{name}.md": text for name, text in api_reference.pages(ROOT).items()}
    made["style.css"] = Path(__file__).with_name("style.css").read_text()
    here = {ROOT / name for name in PAGES} | {*(ROOT / "docs").glob("*.md")}
    todo = [*here]
    while todo:  # what a page of a source links to has a page, too
        for target in _targets(todo.pop()):
            if target not in here and target.is_relative_to(ROOT) and target.exists():
                here.add(target)
                todo.append(target)
    made |= {uri: _text(path) for path in here if (uri := _uri(path)).startswith("source/")}
    made |= {uri: (ROOT / name).read_text() for name, uri in PAGES.items()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    font = Path(ziamath.__file__).with_name("fonts") / "STIXTwoMath-Regular.ttf"
    files.append(File.generated(config, "fonts/math.ttf", abs_src_path=str(font)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links to where their targets are on the site."""
    uri = page.file.src_uri
    if uri.startswith("reference/"):
        return markdown
    folder = _path(uri).parent

    def moved(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if ":" in target:
            return match.group(0)
        place = _uri((folder / target).resolve())
        return before + posixpath.relpath(place, posixpath.dirname(uri) or ".") + after

    return _LINK.sub(moved, markdown)


def _uri(path: Path) -> str:
    """Return the place on the site of a file or folder of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name in MOVED or name.startswith("docs/"):
        return MOVED.get(name, name.removeprefix("docs/"))
    return f"source/{name}" if path.suffix == ".md" else f"source/{name}.md"


def _path(uri: str) -> Path:
    """Return the file of a page."""
    roots = {page: ROOT / name for name, page in PAGES.items()}
    if uri.startswith("source/"):
        name = uri.removeprefix("source/")
        return ROOT / name if (ROOT / name).exists() else ROOT / name.removesuffix(".md")
    return roots.get(uri, ROOT / "docs" / uri)


def _targets(path: Path) -> list[Path]:
    """Return the files that a page links to; of a folder those in it."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in (".py", ".md", ".toml"))
    links = _LINK.findall(path.read_text()) if path.suffix == ".md" else []
    return [(path.parent / target).resolve() for _, target, _ in links if ":" not in target]


def _text(path: Path) -> str:
    """Return the page of a source, or of a folder."""
    title = f"# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_dir():
        return title + "".join(f"- [{f.name}]({path.name}/{f.name})\n" for f in _targets(path))
    if path.suffix == ".md":
        return path.read_text()
    kind = {".py": "python", ".toml": "toml", ".h": "cpp"}.get(path.suffix, "text")
    return f"{title}````{kind}\n{path.read_text()}\n````\n"
