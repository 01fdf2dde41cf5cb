"""The house rules that hold across files: imports, docstrings' examples, what is installed."""

import ast
import doctest
import importlib
import pkgutil
from importlib import resources
from pathlib import Path

import pytest

import convax

LEVELS = ["ops", "model", "training", "explain", "inference", "convax"]
# Where the packages are in the repository; installed elsewhere, the same files are the modules'.
PACKAGES = {
    "convax.ops": "ops",
    "convax.model": "model",
    "convax.training": "training",
    "convax.training.data.augment": "training/augment",
    "convax.training.data": "training",
    "convax.explain": "explain",
    "convax.inference": "inference",
    "convax.inference.serve": "inference/serve",
    "convax": "convax",
}


def modules():
    for package in (*PACKAGES, "convax.configs"):
        yield package
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
            name = f"{package}.{found.name}"
            if not found.ispkg and name != "convax.__main__":
                yield name


MODULES = sorted(set(modules()))


def source_of(module: str) -> Path:
    file = importlib.import_module(module).__file__
    assert file is not None
    return Path(file)


def imported(module: str):
    """The absolute name of everything a module imports, inside functions too."""
    path = source_of(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)]
            start = ".".join(base) if node.level else ""
            whole = ".".join(filter(None, [start, node.module]))
            names = [f"{whole}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else whole for name in names)


def level(module: str) -> str | None:
    """Which floor of the house a module is on."""
    parts = module.split(".")
    if parts[0] != "convax":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else "convax"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards_only(module):
    here = level(module)
    for other in imported(module):
        there = level(other)
        if there is not None and other != "convax.configs":
            assert LEVELS.index(there) <= LEVELS.index(here), f"{module} imports {other}"


@pytest.mark.parametrize("module", [m for m in MODULES if level(m) == "ops"])
def test_ops_import_jax_and_numpy_alone(module):
    standard = {
        "collections",
        "contextlib",
        "functools",
        "itertools",
        "math",
        "operator",
        "os",
        "re",
        "string",
        "typing",
    }
    for other in imported(module):
        root = other.partition(".")[0]
        assert root in standard | {"jax", "numpy", "convax"}, f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert not failed


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    assert (importlib.import_module(module).__doc__ or "").strip()


def test_no_file_grew_a_second_idea():
    longest = {m: len(source_of(m).read_text().splitlines()) for m in MODULES}
    assert not {m: n for m, n in longest.items() if n > 550}


def test_configs_and_the_type_marker_are_installed():
    assert resources.files("convax").joinpath("py.typed").is_file()
    assert resources.files("convax.configs").joinpath("lenet5-digits.toml").is_file()


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert convax.__version__ == version("convax")
