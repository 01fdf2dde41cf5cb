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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..common import waiting
from ..common.errors import ConvaxError
from ..common.python_sources import python_sources
from ..common.text import plain_line
from .tables import RegistrationError

FOLDER = "plugins"  # of a run directory, for the copies
GROUP = "convax.plugins"  # of entry points, by which an installed package says what it has
_FORBIDDEN = "CONVAX_NO_PLUGINS"  # in the environment: --no-plugins


class PluginError(ConvaxError, ValueError):
    """A module that a config names cannot be run; one line that names it and the remedy."""


class Plugin(NamedTuple):
    """A module that was run."""

    place: Path | None  # its file, or the folder of its package; None of what is installed
    sources: tuple[tuple[str, bytes], ...]  # that were run: path below its folder, and content
    sha256: str  # of these


_loaded: dict[str, Plugin] = {}


def load_modules(names: Sequence[str], folder: Path | None) -> None:
    """Run modules, so that what they register is there, if that was not done before.

    Behind one that is not as it was when it was run, all are run again: they may have imported it.

    Args:
        names: of the modules, in the order in which to run them.
        folder: of the config, where it is a file: that of a run has the copies in it.

    Raises:
        PluginError: there is none of a name, it failed, or that is forbidden.
    """
    if os.environ.get(_FORBIDDEN):
        raise PluginError(
            f"{plain_line(', '.join(names), 200)}: code that --no-plugins refuses to run; read it, "
            "and leave that out"
        )
    anew = False
    for name in names:
        place = _beside(name, folder)
        if place is None and name in _loaded and not anew:
            continue  # a config that is not a file is of one that was
        found = None if place is None else _read(place)
        if found and name in _loaded and _loaded[name].sha256 == found.sha256 and not anew:
            _loaded[name] = found
            continue
        _loaded[name], anew = _run(name, found, names), True


def digests(names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of the sources of modules that were run, by name."""
    return {name: _loaded[name].sha256 for name in names}


def check_loaded(known: Mapping[str, str]) -> None:
    """Raise a PluginError unless modules are those that were run when a config was read.

    Args:
        known: their SHA-256 by name.
    """
    for name, sha256 in known.items():
        if name not in _loaded or _loaded[name].sha256 != sha256:
            raise PluginError(
                f"{name}: another config has brought another module of this name since this config "
                "was read; read it again"
            )


def sources_of(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path, in a run directory, and content of the sources of modules beside a config."""
    for name in names:
        if _loaded[name].place is not None:
            yield from ((f"{FOLDER}/{path}", content) for path, content in _loaded[name].sources)


def line_of(error: BaseException, places: Iterable[Path | None] | None = None) -> str | None:
    """Return ``file, line n`` where an error was raised, or cannot be parsed, in some code.

    Args:
        error: what was raised.
        places: files and folders of the code; by default those of the modules that were run.

    Returns:
        The innermost such line; None where there is none.
    """
    if places is None:
        places = [plugin.place for plugin in _loaded.values()]
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    within = [place for place in places if place is not None]
    for file, line in reversed(lines):
        if any(_is_within(file, place) for place in within):
            return f"{file}, line {line}"
    return None


def _is_within(file: str, place: Path) -> bool:
    return file == str(place) or file.startswith(f"{place}{os.sep}")


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


def _read(place: Path, *, installed: bool = False) -> Plugin:
    """Read the sources of a file, or of all of Python in the folder of a package."""
    if place.is_dir():
        sources = tuple(python_sources(place, place.name))
    else:
        sources = ((place.name, place.read_bytes()),)
    digest = hashlib.sha256()
    for path, content in sources:
        digest.update(f"{path}\0".encode() + content + b"\0")
    return Plugin(None if installed else place, sources, digest.hexdigest())


def _run(name: str, found: Plugin | None, names: Sequence[str]) -> Plugin:
    """Import a module, or run it once more where its sources are others than before."""
    place = None if found is None else found.place
    try:
        if found is None or place is None:
            return _imported(name)
        if _is_installed(name):
            raise PluginError(f"{name}: {place} has the name of an installed module; rename it")
        before = set(sys.modules)
        if not _is_imported(name, found):
            _execute(name, found, place)
        _check_named(name, place, names, before)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # whatever their code raises
        where = line_of(error, [place]) or ("installed" if place is None else place)
        if isinstance(error, RegistrationError):
            raise PluginError(f"{name}: {where}: {error}") from error
        said = plain_line(str(error), 300)
        raise PluginError(f"{name}: {where}: {type(error).__name__}: {said}; correct it") from error
    waiting.note(f"plugins: ran {name}, which is beside the config: {plain_line(str(place), 200)}")
    return found


def _imported(name: str) -> Plugin:
    """Import an installed module."""
    module = _installed(name)
    if module.__file__ is None:
        raise PluginError(f"{name}: a folder without __init__.py; name a module in it")
    file = Path(module.__file__)
    waiting.note(f"plugins: ran {name}, which is installed: {plain_line(str(file), 200)}")
    return _read(_whole(file), installed=True)


def _whole(file: Path) -> Path:
    """Return the folder of a package, by the file of its module; any other file is itself."""
    return file.parent if file.name == "__init__.py" else file


def _check_named(name: str, place: Path, names: Sequence[str], before: Collection[str]) -> None:
    """Raise where a module has imported a file beside it that the run would not have."""
    for other in set(sys.modules) - set(before):
        file = getattr(sys.modules[other], "__file__", None)
        top = other.partition(".")[0]
        if file is not None and place.parent in Path(file).parents and top not in {name, *names}:
            raise PluginError(
                f"{name}: imports {top}, which is beside it and not named; write it before {name} "
                "in plugins.modules"
            )


def _is_installed(name: str) -> bool:
    """Return whether a file of this name would hide a module of Python or of a package."""
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return name in sys.stdlib_module_names or bool(PathFinder.find_spec(name, places))


def _is_imported(name: str, found: Plugin) -> bool:
    """Return whether whoever calls convax has imported the same sources himself."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if name in _loaded or file is None or not Path(file).exists():
        return False
    return _read(_whole(Path(file))).sha256 == found.sha256


def _installed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise
        package = name.partition(".")[0]
        if package in _loaded:
            raise PluginError(f"{name}: no such module in {package}, which is named") from None
        offered = installed_plugins()
        more = f"; installed packages offer {', '.join(offered)}" if offered else ""
        raise PluginError(
            f"{name}: neither {package}.py beside the config nor an installed module{more}"
        ) from None


def _execute(name: str, found: Plugin, place: Path) -> None:
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
        path = f"{place.name}/__init__.py" if place.is_dir() else place.name
        exec(compile(dict(found.sources)[path], str(file), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = before
