"""The libraries of convax-kernels: found, checked, tried and registered with XLA.

They are loaded when a convolution first asks for them, and checked before a line of them runs: a
file that is not the one that was installed, or is for another convax or an older jaxlib, is not
loaded. What was loaded is tried on small arrays (`self_test`) before XLA hears of it.
"""

import base64
import ctypes
import hashlib
import re
import threading
import time
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax

from ...common.implementation import Implementation
from .call import ALGORITHMS
from .self_test import KINDS, kernel_failing

PACKAGE = "convax-kernels"
_INTERFACE = 2  # of native/src/c_api.h and the handlers of ffi.cc
_LEVELS = {"x86-64-v4": 4, "x86-64-v3": 3}  # the best first; "plain" runs everywhere
_LOADING = threading.Lock()


class Kernels(NamedTuple):
    """The native kernels that this process has."""

    version: str  # of the package
    level: str  # the instructions they are compiled for: "x86-64-v4", "x86-64-v3" or "plain"
    digest: str  # SHA-256 of the library
    seconds: float  # that finding, checking and trying them took

    def __str__(self) -> str:
        return f"{self.version} ({self.level}, {self.digest[:12]})"


class KernelsError(Exception):
    """Why there are no native kernels, in one line."""


class KernelsMissingError(KernelsError):
    """Nobody has installed them."""


def resolve_implementation(chosen: Implementation) -> Implementation:
    """Return what an implementation comes to on this CPU; load the kernels where it takes some.

    Args:
        chosen: one of those of `ops.implementation`.

    Returns:
        For "auto", "native" and "native-direct" one of the last two, or "cpu" where there are no
        kernels: without a warning under "auto" where nobody has installed them, with one otherwise.
        All others as they are.
    """
    if chosen not in ("auto", "native", "native-direct"):
        return chosen
    try:
        load_kernels()
    except KernelsError as error:
        if chosen != "auto" or not isinstance(error, KernelsMissingError):
            _warn_once(str(error))
        return "cpu"
    return "native" if chosen == "auto" else chosen


@cache
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"no native convolutions: {problem}; they run as under CONVAX_LOWERING=cpu",
        RuntimeWarning,
        stacklevel=3,
    )


def load_kernels() -> Kernels:
    """Find, check, try and register the kernels; the first call does, and others return the same.

    Raises:
        KernelsError: they are not there or cannot be used; the message says why and what to do.
    """
    with _LOADING:
        found = _load()
    if isinstance(found, KernelsError):
        raise found.with_traceback(None)
    return found


@cache
def _load() -> Kernels | KernelsError:
    try:
        return _load_checked()
    except KernelsError as error:
        return error
    except OSError as error:  # of a file that is there, but cannot be read
        return KernelsError(f"{PACKAGE} cannot be read: {error}; {_REINSTALL}")


def _load_checked() -> Kernels:
    began = time.perf_counter()
    version, files = _installed()
    file, digest = _verified(files, "plain")
    library, level = _open(version, file), "plain"
    known = {name: n for name, n in _LEVELS.items() if name in files}  # to the compiler
    best = next((name for name, n in known.items() if library.convax_kernels_supports(n)), level)
    if best != level:
        file, digest = _verified(files, best)
        library, level = _open(version, file), best
    if failing := kernel_failing(library):
        raise KernelsError(
            f"{PACKAGE} {version} ({level}) computes a wrong {failing} on this processor; please "
            f"report it, and pip uninstall {PACKAGE}"
        )
    for algorithm in ALGORITHMS:
        for kind in KINDS:
            name = f"convax_{algorithm}_{kind}"
            capsule = jax.ffi.pycapsule(getattr(library, name))
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return Kernels(version, level, digest, time.perf_counter() - began)


def _installed() -> tuple[str, dict[str, metadata.PackagePath]]:
    """Return the version that is installed, and its libraries by level."""
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise KernelsMissingError(
            f"{PACKAGE} is not installed: make native, in a clone of convax, installs it"
        ) from None
    pattern = re.compile(r"libconvax_kernels_(.+)\.(so|dylib)")
    matches = ((pattern.fullmatch(file.name), file) for file in package.files or ())
    return package.version, {match[1]: file for match, file in matches if match}


def _verified(files: dict[str, metadata.PackagePath], level: str) -> tuple[Path, str]:
    """Return the library of a level, and its SHA-256, which was noted when it was installed.

    A file that has been cut short would else end the process when it is loaded.
    """
    file = files.get(level)
    path = None if file is None else Path(str(file.locate()))
    if file is None or path is None or file.hash is None or not path.is_file():
        raise KernelsError(f"{PACKAGE} lacks its library for {level}; {_REINSTALL}")
    digest = hashlib.sha256(path.read_bytes())
    # As a wheel's RECORD has it.
    if base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=") != file.hash.value:
        raise KernelsError(f"{path} is damaged; {_REINSTALL}")
    return path, digest.hexdigest()


_REINSTALL = "make native, in a clone of convax, installs it anew"


def _open(version: str, path: Path) -> ctypes.CDLL:
    """Load a library, and raise KernelsError unless it fits this convax and this jaxlib."""
    try:
        library = ctypes.CDLL(str(path))
        interface = library.convax_kernels_interface()
    except (OSError, AttributeError) as error:
        raise KernelsError(f"{path} cannot be loaded: {error}; {_REINSTALL}") from None
    if interface != _INTERFACE:
        raise KernelsError(
            f"{PACKAGE} {version} is not for this convax (interface {interface}, not "
            f"{_INTERFACE}); {_REINSTALL}"
        )
    major, minor = ctypes.c_int32(), ctypes.c_int32()
    library.convax_kernels_ffi_api(ctypes.byref(major), ctypes.byref(minor))
    built, here = (major.value, minor.value), _ffi_api()
    if built[0] != here[0] or built[1] > here[1]:  # which would end the process
        raise KernelsError(
            f"{PACKAGE} {version} is built for XLA's FFI {built[0]}.{built[1]}, jaxlib has "
            f"{here[0]}.{here[1]}: pip install --upgrade jaxlib, or {_REINSTALL}"
        )
    return library


def _ffi_api() -> tuple[int, int]:
    """Return the version of XLA's FFI in this jaxlib, as its header says."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        text = header.read_text()
    except OSError as error:
        raise KernelsError(f"the version of jaxlib's FFI is not known: {error}") from None
    found = [re.search(rf"define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    if None in found:
        raise KernelsError(f"the version of jaxlib's FFI is not in {header}")
    major, minor = (int(match[1]) for match in found if match)
    return major, minor
