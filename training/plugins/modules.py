"""The modules that ``[plugins]`` of a config names: found, run, identified, copied into a run.

A module is a file, or a package, beside the config, or anything that can be imported. The former
are copied into the run directory, as ``plugins/my_nets.py``, and are run from there when the run
is opened again: a run has its code with it. What is installed is found where it is installed.
Either way provenance has the SHA-256 of the sources, and a run does not go on with others.

To load a config that names modules runs their code, as importing them does: open no run of somebody
whose programs you would not run. ``--no-plugins``, or CONVAX_NO_PLUGINS=1, refuses it.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..common import waiting
from ..common.errors import ConvaxError
from ..common.python_sources import python_sources
from ..common.text import plain_line

FOLDER = "plugins"  # of a run directory, for the copies
GROUP = "convax.plugins"  # of entry points, by which an installed package says what it has
_FORBIDDEN = "CONVAX_NO_PLUGINS"  # in the environment: --no-plugins


class PluginError(ConvaxError, ValueError):
    """A module that a config names cannot be run; one line that names it and the remedy."""


class Plugin(NamedTuple):
    """A module that was run."""

    place: Path | None  # its file, or the folder of its package; None of what is installed
    sha256: str  # of its sources


_loaded: dict[str, Plugin] = {}


def load_modules(names: Sequence[str], folder: Path | None) -> None:
    """Run modules, so that what they register is there, if that was not done before.

    Args:
        names: of the modules, in the order in which to run them.
        folder: of the config, where it is a file: that of a run has the copies in it.

    Raises:
        PluginError: there is none of a name, it failed, or that is forbidden.
    """
    if os.environ.get(_FORBIDDEN):
        raise PluginError(
            f"{plain_line(', '.join(names), 200)}: code that --no-plugins refuses to run"
        )
    for name in names:
        place = _beside(name, folder)
        if place is None and name in _loaded:
            continue  # a config that is not a file is of one that was
        digest = None if place is None else _digest(place)
        if digest is not None and name in _loaded and _loaded[name].sha256 == digest:
            _loaded[name] = _loaded[name]._replace(place=place)
            continue
        _loaded[name] = _run(name, place, digest)


def digests(names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of the sources of modules that were run, by name."""
    return {name: _loaded[name].sha256 for name in names}


def sources_of(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path, in a run directory, and content of the sources of modules beside a config."""
    for name in names:
        place = _loaded[name].place
        for path, content in () if place is None else _sources(place):
            yield f"{FOLDER}/{path}", content


def line_of(error: BaseException) -> str | None:
    """Return ``file, line n`` where an error was raised in a module that a config names."""
    places = [str(plugin.place) for plugin in _loaded.values() if plugin.place is not None]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if any(frame.filename == p or frame.filename.startswith(f"{p}{os.sep}") for p in places):
            return f"{frame.filename}, line {frame.lineno}"
    return None


def installed_plugins() -> list[str]:
    """Return the names of modules that installed packages offer, by their entry points."""
    return sorted({point.value for point in importlib.metadata.entry_points(group=GROUP)})


def _beside(name: str, folder: Path | None) -> Path | None:
    """Return the file or package of a module in the folder of a config; None if it has none."""
    if folder is None or "." in name:
        return None
    for base in (folder / FOLDER, folder):
        if (base / f"{name}.py").is_file():
            return (base / f"{name}.py").absolute()
        if (base / name / "__init__.py").is_file():
            return (base / name).absolute()
    return None


def _sources(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each source of a file or package, from the folder it is in."""
    if place.is_dir():
        yield from python_sources(place, place.name)
    else:
        yield place.name, place.read_bytes()


def _digest(place: Path) -> str:
    digest = hashlib.sha256()
    for path, content in _sources(place):
        digest.update(f"{path}\0".encode() + content + b"\0")
    return digest.hexdigest()


def _run(name: str, place: Path | None, digest: str | None) -> Plugin:
    """Import a module, or run it once more where its sources are others than before."""
    try:
        if place is None:
            module = _installed(name)
            if module.__file__ is None:
                raise PluginError(f"{name}: a folder without __init__.py; name a module in it")
            found = Path(module.__file__)
            source = found.parent if found.name == "__init__.py" else found
            waiting.note(f"plugins: ran {name}, which is installed: {plain_line(str(found), 200)}")
            return Plugin(None, _digest(source))
        if _is_installed(name):
            raise PluginError(f"{name}: {place} has the name of an installed module; rename it")
        if not _is_imported(name, digest):
            _execute(name, place)
    except PluginError:
        raise
    except Exception as error:  # whatever their code raises
        where = _place_of(error, place)
        raise PluginError(
            f"{name}: {where}: {type(error).__name__}: {plain_line(str(error), 300)}; correct it"
        ) from error
    waiting.note(f"plugins: ran {name}, which is beside the config: {plain_line(str(place), 200)}")
    assert digest is not None
    return Plugin(place, digest)


def _is_installed(name: str) -> bool:
    """Return whether a file of this name would hide a module of Python or of a package."""
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return name in sys.stdlib_module_names or bool(PathFinder.find_spec(name, places))


def _is_imported(name: str, digest: str | None) -> bool:
    """Return whether whoever calls convax has imported the same sources himself."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or not Path(file).exists():
        return False
    place = Path(file).parent if Path(file).name == "__init__.py" else Path(file)
    return _digest(place) == digest


def _installed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        offered = installed_plugins()
        more = f"; installed packages offer {', '.join(offered)}" if offered else ""
        raise PluginError(
            f"{name}: neither {name}.py beside the config nor an installed module{more}"
        ) from None


def _execute(name: str, place: Path) -> None:
    """Run a file or package as the module of a name; a former one of that name is forgotten."""
    for known in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[known]
    file = place / "__init__.py" if place.is_dir() else place
    inside = [str(place)] if place.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    assert isinstance(spec, ModuleSpec) and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # none in a run directory
    try:
        # Not by the loader, which would take compiled code of an earlier source for this one.
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = before


def _place_of(error: BaseException, place: Path | None) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if place is not None and f.filename.startswith(str(place))]
    if inside:
        return f"{inside[-1].filename}, line {inside[-1].lineno}"
    return "installed" if place is None else str(place)
