"""Compiled programs kept on disk, so that the next process need not compile them again.

It is JAX's own persistent cache: a program is found by its content, its devices, the versions of
JAX and XLA and their flags. The folder has one part for each kind of processor: code compiled for
one may use instructions that another lacks.
"""

import hashlib
import os
import platform
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax

from ..training.common.cache import cache_directory
from ..training.common.waiting import detail


def enable_compile_cache() -> Path | None:
    """Have JAX keep what it compiles in a folder of the user's; to be called before it compiles.

    That is ``compiled`` in ``$XDG_CACHE_HOME/convax``, or in this system's folder for caches. A
    folder that was chosen for JAX, by ``$JAX_COMPILATION_CACHE_DIR`` as a rule, is taken instead;
    ``JAX_ENABLE_COMPILATION_CACHE=false`` turns it off.

    Returns:
        The folder; None where nothing is kept: turned off, or no folder can be written that is the
        user's alone. Compiled programs are trusted by whoever loads them.
    """
    settings: Any = jax.config  # which makes its attributes as it goes
    if not settings.jax_enable_compilation_cache:
        return None
    chosen = settings.jax_compilation_cache_dir
    folder = _cache_folder() if chosen is None else Path(chosen)
    if folder is None:
        return None
    if chosen is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:  # a second, as JAX has it
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A full disk or a damaged entry costs time, and nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    detail(f"compiled programs: kept in {folder}")
    return folder


def _cache_folder() -> Path | None:
    try:
        root = cache_directory() / "compiled"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(root):
            return None
        folder = root / _processor_digest()
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # the latter where there is no home
        return None


def _is_private(folder: Path) -> bool:
    """Return whether nobody else can put a program there."""
    if not hasattr(os, "getuid"):  # Windows, where such folders are the user's
        return True
    about = folder.stat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o022


def _processor_digest() -> str:
    """Return a name for the kind of processor and what it can do."""
    said = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for key in ("model name", "flags", "Features"):  # of the first, all are alike
        said += [line for line in lines if line.startswith(key)][:1]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
