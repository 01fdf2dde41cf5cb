"""The sources of packages, whose digest says whether code has changed."""

from collections.abc import Iterator
from importlib.resources.abc import Traversable


def python_sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file of Python in a folder and those in it, in order.

    Args:
        folder: of a package, by `importlib.resources.files`.
        path: what its paths begin with.
    """
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from python_sources(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{path}/{entry.name}", entry.read_bytes()
