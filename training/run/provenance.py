"""What decides the bytes of a run beside its checkpoint, and how to tell that it has changed.

A resumed run ends with the bytes of one that was never stopped only where these are the same:

    config        every key, but for where data lie, what is left out and how they are split
                  (`data.path`, `proposals.path`, `data.unreadable`, `data.stratify`, as the data
                  have a fingerprint), which checkpoints are kept, what is recorded besides, who
                  looks on, and how many steps that are not finite may be left out: that decides
                  where a run ends, and no step
    data          the fingerprint of the dataset
    code          the SHA-256 of convax's sources: operations, networks, training
    versions      of jax, jaxlib and numpy: another compiler rounds otherwise; of Pillow where
                  images are streamed, as the fingerprint is then of files, and not of pixels; of
                  the native kernels and their library, where convolutions take them
    device        platform and kind; of a CPU the model and the number of cores, as XLA compiles
                  for its instructions, and divides sums among threads
    environment   CONVAX_LOWERING, as it comes to here: by default "native" on CPU where the kernels
                  are installed, else "cpu"; and XLA_FLAGS
    plugins       the SHA-256 of the modules that the config names, where it does; and of what
                  else was registered and is used; and of the traced programs of what was given
                  in Python
    settings      JAX's own, however they were set, of precision and random numbers

The version of Python changes no bit, and is noted only.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from ...ops.common.implementation import Implementation, current_implementation
from ...ops.conv.native.library import PACKAGE, KernelsError, load_kernels, resolve_implementation
from ..common.hashing import json_digest
from ..common.python_sources import python_sources
from ..plugins.modules import digests
from ..plugins.tables import without_module

if TYPE_CHECKING:
    from ..config.schema import Config

# A run may go on elsewhere, read by more or fewer processes, keep more or fewer checkpoints, and
# leave out more steps that are not finite, without another result up to there.
_FREE = (
    ("data", "path"),
    ("data", "num_workers"),
    ("data", "stratify"),
    ("data", "unreadable"),
    ("proposals", "path"),
    ("init_from", "path"),
    ("checkpoints",),
    ("logging",),
    ("callbacks",),
    ("training", "skip_nonfinite"),
)
_PACKAGES = ("convax.ops", "convax.model", "convax.training")
_LOWERING = "CONVAX_LOWERING"
_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


def provenance(config: "Config", fingerprint: str) -> dict[str, Any]:
    """Collect all of the above as JSON, for ``run.json``."""
    streamed = getattr(config.data, "stream", False)
    packages = ("jax", "jaxlib", "numpy", *(["pillow"] if streamed else []))
    tables = config.model_dump(mode="json", exclude_none=True)
    own = digests(tables.get("plugins", {}).get("modules", ())) | without_module(tables)
    own |= config.given_programs
    return {
        "config": tables,
        "data": fingerprint,
        "code": code_hash(),
        "versions": {name: version(name) for name in packages} | _kernels(),
        "device": _device(),
        "environment": {_LOWERING: lowering(), "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
        "settings": {name: getattr(jax.config, name, None) for name in _SETTINGS},
    } | ({"plugins": own} if own else {})


def comparable(now: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """Return `now`, without what an earlier convax did not write down in `then`."""
    kept = {key: value for key, value in now.items() if key in then or key != "settings"}
    old = then.get("versions", {})
    versions = {k: v for k, v in now["versions"].items() if k in old or k != "pillow"}
    environment = dict(now["environment"])
    if then.get("environment", {}).get(_LOWERING) == "" and environment[_LOWERING] == "cpu":
        environment[_LOWERING] = ""  # which meant that
    return kept | {"versions": versions, "environment": environment}


def summarized(whole: dict[str, Any]) -> dict[str, Any]:
    """Replace the config by its SHA-256, for a checkpoint's manifest."""
    versions = {"convax": version("convax"), "python": platform.python_version()}
    config = whole.get("config", {})
    return whole | {
        "config": config if isinstance(config, str) else json_digest(relevant_config(config)),
        "versions": {**whole.get("versions", {}), **versions},
    }


def relevant_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config that decide the result."""
    kept = {k: dict(v) if isinstance(v, dict) else v for k, v in config.items()}
    for *tables, key in _FREE:
        table = kept.get(tables[0]) if tables else kept
        if isinstance(table, dict):
            table.pop(key, None)
    return kept


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List what is not as it was, one line each: ``key: old -> new``.

    Example:
        >>> differences({"seed": 0, "data": {"test": 0.1}}, {"seed": 1, "data": {"test": 0.1}})
        ['seed: 0 -> 1']
    """
    old, new = dict(_flat(then)), dict(_flat(now))
    return [
        f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def lowering() -> Implementation:
    """Return the implementation of operations that is in use: on CPU with or without kernels."""
    chosen = current_implementation()
    if jax.devices()[0].platform == "cpu":
        return resolve_implementation(chosen)
    return chosen if chosen in ("xla", "jaxpr") else "cpu"


def lowering_remedy(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Return what to write to have the implementation of `then` again; None where it is the same.

    Args:
        then: what decided the bytes of a run.
        now: what decides them here.
    """
    old, new = (of.get("environment", {}).get(_LOWERING) or "cpu" for of in (then, now))
    if old == new:
        return None
    remedy = f"{_LOWERING}={old}"
    if old.startswith("native"):
        try:
            load_kernels()
        except KernelsError as error:
            return f"{remedy}, and {error}"
    return remedy


def convolutions_in_use() -> str:
    """Return what decides the bits of convolutions: the implementation, and which kernels."""
    chosen = lowering()
    return f"{chosen} {load_kernels().version}" if chosen.startswith("native") else chosen


def _kernels() -> dict[str, str]:
    """Return which native kernels convolutions take, where they take some."""
    return {PACKAGE: str(load_kernels())} if lowering().startswith("native") else {}


@cache
def code_hash() -> str:
    """Compute the SHA-256 of the sources that decide what a step computes."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path, content in python_sources(resources.files(package), package):
            digest.update(f"{path}\0".encode() + content + b"\0")
    return digest.hexdigest()


def _device() -> str:
    device = jax.devices()[0]
    kind = _processor() if device.platform == "cpu" else device.device_kind
    return f"{device.platform}: {kind}"


def _processor() -> str:
    """Return the model of this machine's processor, and how many cores this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return f"{_model()}, cores: {len(available(0)) if available else os.cpu_count()}"


def _model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a tree of dicts and lists, by its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{i}")
    else:
        yield path, value


def _shown(value: Any) -> str:
    text = "(none)" if value is None else json.dumps(value)
    return text if len(text) < 60 else f"{text[:12]}..."
