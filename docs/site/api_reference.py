"""The pages of the API reference: public names by the files that define them.

Of a package that exports names these are public; of a room of `training` all that its files define
without an underscore. mkdocstrings shows each with its docstring.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

# The packages that export names, and their folders.
PACKAGES = {
    "convax": "app",
    "convax.ops": "ops",
    "convax.model": "model",
    "convax.explain": "explain",
    "convax.inference": "inference",
}


def pages(root: Path) -> dict[str, str]:
    """Return the text of each page by its name."""
    shown: set[str] = set()  # each name is on the first page that has it
    found = {}
    for package, folder in PACKAGES.items():
        names = list(_exported(package, root / folder)) or _defined(
            package, root / folder, (root / folder).rglob("*.py")
        )
        found[package.removeprefix("convax.")] = _page(package, root / folder, names, root, shown)
    for folder in (root / "training", *sorted((root / "training").iterdir())):
        if (folder / "__init__.py").exists():
            package = f"convax.{folder.relative_to(root).as_posix().replace('/', '.')}"
            files = folder.glob("*.py") if folder.name == "training" else folder.rglob("*.py")
            names = _defined(package, folder, files)
            found[f"training/{folder.name}"] = _page(package, folder, names, root, shown)
    return found


def _page(
    package: str, folder: Path, names: Iterable[tuple[str, str]], root: Path, shown: set[str]
) -> str:
    sections: dict[str, str] = {}
    for module, name in names:
        if f"{module}.{name}" not in shown:
            file = root.joinpath(*module.split(".")[1:])
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            title = module.removeprefix(f"{package}.")
            sections.setdefault(module, f"\n## {title}\n\n{_summary(file)}\n")
            sections[module] += f"\n::: {module}.{name}\n"
            shown.add(f"{module}.{name}")
    return f"# {package}\n\n{_summary(folder / '__init__.py')}\n" + "".join(sections.values())


def _exported(package: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of everything that a package exports."""
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parents = package.split(".")[: package.count(".") + 2 - node.level]
            module = ".".join([*parents, node.module]) if node.level else node.module
            if module.startswith("convax."):
                yield from ((module, alias.name) for alias in node.names)


def _defined(package: str, folder: Path, files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of all public functions and classes that files define."""
    for file in sorted(files):
        parts = file.relative_to(folder).with_suffix("").parts
        module = ".".join([package, *(part for part in parts if part != "__init__")])
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                yield module, node.name


def _summary(file: Path) -> str:
    """Return the first paragraph of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n\n")[0]
