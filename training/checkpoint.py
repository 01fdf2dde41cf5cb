"""Checkpoints that exist whole or not at all.

A checkpoint is a directory ``step-00001407`` of safetensors files and a ``manifest.json`` with
the SHA-256 of each. It is written under another name, flushed to the disk and then renamed, so a
process killed at any instant leaves either the whole checkpoint or none. Two small files, ``last``
and ``best``, name a checkpoint each and are replaced in the same manner. Nothing is pickled.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from .paths import named_leaves
from .step import TrainState
from .tensors import parse, to_numpy

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another network; one line."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    train_state: TrainState
    memory: dict[str, Any]  # JSON: what the loop must remember beside the train state


def save(folder: Path, train_state: TrainState, memory: dict[str, Any]) -> str:
    """Write a checkpoint of this state into `folder` and return its name."""
    step = int(train_state.step)
    name = f"step-{step:08d}"
    if (folder / name).exists():
        return name  # the same step is the same state: training is deterministic
    aside = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    files = {}
    for part, tree in _parts(train_state).items():
        arrays = {path: to_numpy(leaf) for path, leaf in named_leaves(tree)}
        content = safetensors.numpy.save(arrays)
        _write_through(aside / f"{part}.safetensors", content)
        files[f"{part}.safetensors"] = hashlib.sha256(content).hexdigest()
    manifest = {"format": FORMAT, "step": step, "sha256": files, "memory": memory}
    manifest["checksum"] = _checksum(manifest)
    _write_through(aside / "manifest.json", json.dumps(manifest, indent=2).encode())
    _flush_directory(aside)
    aside.rename(folder / name)
    _flush_directory(folder)
    return name


def point(folder: Path, pointer: str, name: str) -> None:
    """Make `pointer`, "last" or "best", name a checkpoint that exists."""
    aside = folder / f".{pointer}.{os.getpid()}"
    _write_through(aside, f"{name}\n".encode())
    aside.replace(folder / pointer)
    _flush_directory(folder)


def prune(folder: Path) -> None:
    """Remove the checkpoints that no pointer names, and what killed processes left behind."""
    kept = {named(folder, pointer) for pointer in ("last", "best")}
    for entry in folder.iterdir():
        if _NAME.fullmatch(entry.name) and entry.name not in kept:
            shutil.rmtree(entry.rename(folder / f".{entry.name}"))  # gone at once, then at leisure
        elif _ASIDE.fullmatch(entry.name):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


# What is ours in the folder: a checkpoint, and what is on its way to be one or to be none.
_NAME = re.compile(r"step-\d{8,}")
_ASIDE = re.compile(r"\.(step-\d{8,}|last|best)(\.\d+)?")


def named(folder: Path, pointer: str) -> str | None:
    """The checkpoint that a pointer names, if any.

    Raises:
        CheckpointError: the pointer is there, but holds something else.
    """
    try:
        name = (folder / pointer).read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{folder / pointer}: cannot be read: {error.strerror}") from None
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{folder / pointer}: damaged: it names no checkpoint")
    return name


def restore(folder: Path, pointer: str, template: TrainState) -> Checkpoint:
    """Read the checkpoint that "last" or "best" names ("best" falls back on "last").

    Args:
        folder: the run's ``checkpoints`` directory.
        pointer: which one.
        template: a train state with the right tree, shapes and dtypes; its arrays may be
            `jax.ShapeDtypeStruct`.

    Raises:
        CheckpointError: nothing was saved, a file is missing or differs from its checksum, or
            an array differs from the template in name, shape or dtype.
    """
    parts, manifest = _restore(folder, pointer, _parts(template))
    state = TrainState(parts["params"], parts["state"], **parts["training"])
    return Checkpoint(state, manifest["memory"])


def restore_network(folder: Path, pointer: str, params: Any, state: Any) -> tuple[Any, Any, int]:
    """Parameters, state and step of a checkpoint, without what only training needs.

    Takes templates and raises as `restore` does.
    """
    parts, manifest = _restore(folder, pointer, {"params": params, "state": state})
    return parts["params"], parts["state"], manifest["step"]


def _parts(train_state: TrainState) -> dict[str, Any]:
    """The files of a checkpoint: parameters and state stand alone, for use elsewhere."""
    training = {k: getattr(train_state, k) for k in ("opt_state", "step", "key")}
    return {"params": train_state.params, "state": train_state.state, "training": training}


def _restore(folder: Path, pointer: str, templates: dict[str, Any]) -> tuple[Any, Any]:
    """The named parts of a checkpoint, and its manifest."""
    name = named(folder, pointer) or named(folder, "last")
    if name is None:
        raise CheckpointError(f"{folder}: no checkpoint was saved here; nothing to load")
    manifest = _read_manifest(folder / name)
    parts = {
        part: _restore_part(folder / name / f"{part}.safetensors", tree, manifest["sha256"])
        for part, tree in templates.items()
    }
    return parts, manifest


def _read_manifest(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        written = manifest["format"]
        types = {"sha256": dict, "memory": dict, "step": int}
        if not all(isinstance(manifest[key], kind) for key, kind in types.items()):
            raise TypeError
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: damaged: not a checkpoint's manifest") from None
    checksum = manifest.pop("checksum", None)
    if checksum is not None and checksum != _checksum(manifest):
        raise CheckpointError(f"{path}: damaged: its SHA-256 differs from what it says")
    if written != FORMAT:
        raise CheckpointError(f"{path}: format {written}, but this convax reads format {FORMAT}")
    return manifest


def _checksum(manifest: dict[str, Any]) -> str:
    """The SHA-256 of all else in a manifest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _restore_part(path: Path, template: Any, checksums: dict[str, str]) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != checksums.get(path.name):
        raise CheckpointError(f"{path}: damaged: its SHA-256 differs from the manifest's")
    arrays = parse(content)
    wanted = named_leaves(template)
    names = {name for name, _ in wanted}
    if names != arrays.keys():
        odd = sorted(names ^ arrays.keys())
        raise CheckpointError(f"{path}: of another network: {', '.join(odd[:3])} on one side only")
    leaves = [_from_numpy(arrays[name], leaf, f"{path}: {name}") for name, leaf in wanted]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _from_numpy(array: np.ndarray, template: Any, where: str) -> jax.Array:
    if jax.numpy.issubdtype(template.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jax.numpy.asarray(array))
    if (array.shape, array.dtype) != (template.shape, template.dtype):
        raise CheckpointError(
            f"{where} is {array.dtype}{list(array.shape)}, "
            f"but the network has {template.dtype}{list(template.shape)}"
        )
    return jax.numpy.asarray(array)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(folder: Path) -> None:
    """A rename is on the disk only once its directory is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
