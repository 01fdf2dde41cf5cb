"""Where the libraries are that the tests are about."""

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
    found = {level: folder / f"libconvax_kernels_{level}.so" for level in LEVELS}
    plain = load(found["plain"])
    return {
        level: load(path)
        for level, path in found.items()
        if level == "plain" or plain.convax_kernels_supports(LEVELS[level])
    }
