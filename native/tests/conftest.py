"""Find the libraries that the tests are about."""

from importlib import metadata
from pathlib import Path

import pytest
from reference import load

LEVELS = {"plain": 0, "x86-64-v3": 3, "x86-64-v4": 4}


def pytest_addoption(parser):
    parser.addoption("--libraries", type=Path, help="their folder; else of what is installed")


@pytest.fixture(scope="session")
def libraries(request):
    """``{level: library}`` of those levels that this processor has."""
    folder = request.config.getoption("--libraries")
    if folder is None:
        folder = Path(metadata.distribution("convax-kernels").locate_file("convax_kernels"))
    files = folder.glob("libconvax_kernels_*.*")  # .so or .dylib, of what the compiler knows
    found = {file.stem.removeprefix("libconvax_kernels_"): load(file) for file in files}
    return {
        level: library
        for level, library in found.items()
        if level == "plain" or found["plain"].convax_kernels_supports(LEVELS[level])
    }
