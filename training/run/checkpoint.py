"""Checkpoints that exist whole or not at all.

A checkpoint is a directory ``step-00001407`` of safetensors files and a ``manifest.json`` with
the SHA-256 of each, and its own. It is written under another name, flushed to the disk and then
renamed, so a process killed at any instant leaves either the whole checkpoint or none. Two small
files, ``last`` and ``best``, name a checkpoint each and are replaced in the same manner. Nothing is
pickled. What belongs together is chained: the arrays to the manifest by their SHA-256, the manifest
to the directory by the step, and to the run by the config and the data that made both.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from ..common import atomic_io
from ..common.errors import ConvaxError
from ..common.hashing import json_digest
from ..common.json_io import parse_json
from ..common.pytree_paths import named_leaves
from ..common.train_state import LOSS, Ema, TrainState
from ..weights.safetensors_io import parse, to_numpy
from .json_types import MANIFEST, RUN, check_types
from .provenance import code_hash, summarized

FORMAT = 2


class CheckpointError(ConvaxError, ValueError):
    """A checkpoint is missing, damaged, or of another network; one line."""


class DamagedError(CheckpointError):
    """A file of a checkpoint is missing, or holds something else than was written."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    train_state: TrainState
    memory: dict[str, Any]  # JSON: what the loop must remember beside the train state


class Snapshot(NamedTuple):
    """A train state as arrays of the host, which training does not change any more."""

    step: int
    parts: dict[str, dict[str, np.ndarray]]  # by file and by path


def snapshot(train_state: TrainState) -> Snapshot:
    """Copy the state: the next step writes into the memory of this one."""
    parts = {
        part: {path: np.array(to_numpy(leaf)) for path, leaf in named_leaves(tree)}
        for part, tree in _parts(train_state).items()
    }
    return Snapshot(int(train_state.step), parts)


def write(
    folder: Path, taken: Snapshot, memory: dict[str, Any], provenance: dict[str, Any] | None = None
) -> str:
    """Write a checkpoint into `folder` and return its name.

    Args:
        folder: the run's ``checkpoints`` directory.
        taken: the state.
        memory: JSON: what the loop must remember beside it.
        provenance: JSON: what made it; see `training.run.provenance`.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    name = name_of(taken.step)
    if (folder / name).exists():
        return name  # the same step is the same state: training is deterministic

    def files() -> Iterator[tuple[str, bytes]]:
        sums = {}
        for part, arrays in taken.parts.items():
            content = safetensors.numpy.save(arrays)
            sums[f"{part}.safetensors"] = hashlib.sha256(content).hexdigest()
            yield f"{part}.safetensors", content
        manifest = {"format": FORMAT, "step": taken.step, "sha256": sums, "memory": memory}
        manifest["provenance"] = provenance or {}
        manifest["checksum"] = checksum(manifest)
        yield "manifest.json", json.dumps(manifest, indent=2).encode()

    atomic_io.atomic_write_dir(folder / name, files())
    return name


def copy_into(folder: Path, source: Path, provenance: dict[str, Any]) -> None:
    """Copy a checkpoint into another run, which goes on from it.

    Args:
        folder: the ``checkpoints`` directory of that run.
        source: the checkpoint.
        provenance: JSON: what that run is made by, as for `write`.

    Raises:
        DamagedError: a file is missing or differs from its checksum.
        OSError: it cannot be written; nothing of it is left.
    """
    manifest = read_manifest(source) | {"provenance": provenance}
    manifest["checksum"] = checksum(manifest)

    def files() -> Iterator[tuple[str, bytes]]:
        for file in manifest["sha256"]:
            yield file, _read_file(source / file, manifest["sha256"])
        yield "manifest.json", json.dumps(manifest, indent=2).encode()

    atomic_io.atomic_write_dir(folder / source.name, files())


def point(folder: Path, pointer: str, name: str) -> None:
    """Make `pointer`, "last" or "best", name a checkpoint that exists."""
    atomic_io.atomic_write(folder / pointer, f"{name}\n".encode())


def prune(
    folder: Path, keep_last: int = 1, forever: Callable[[int], bool] = lambda step: False
) -> None:
    """Remove the checkpoints that are not to be kept, and what killed processes left behind.

    Args:
        folder: the run's ``checkpoints`` directory.
        keep_last: how many of the newest to keep; what a pointer names is kept besides.
        forever: whether the one of a step is to be kept whatever comes.
    """
    kept = {named(folder, pointer) for pointer in ("last", "best")}
    kept |= {name for name in names(folder) if forever(step_of(name))}
    kept |= set(names(folder)[:keep_last])
    for entry in folder.iterdir():
        if _NAME.fullmatch(entry.name) and entry.name not in kept:
            shutil.rmtree(entry.rename(folder / f".{entry.name}"))  # gone at once, then at leisure
        elif _ASIDE.fullmatch(entry.name):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def names(folder: Path) -> list[str]:
    """List the checkpoints in a folder, the newest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((e.name for e in found if _NAME.fullmatch(e.name)), key=step_of, reverse=True)


def name_of(step: int) -> str:
    """Return the name of the checkpoint of a step."""
    return f"step-{step:08d}"


def step_of(name: str) -> int:
    """Return the step of a checkpoint, by its name."""
    return int(name.removeprefix("step-"))


# What is ours in the folder: a checkpoint, and what is on its way to be one or to be none.
_NAME = re.compile(r"step-\d{8,}")
_ASIDE = re.compile(r"\.(step-\d{8,}|last|best)(\.\d+)?")


def named(folder: Path, pointer: str) -> str | None:
    """Return the checkpoint that a pointer names, if any.

    Raises:
        CheckpointError: the pointer is there, but holds something else.
    """
    try:
        name = (folder / pointer).read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(f"{folder / pointer}: cannot be read: {error.strerror}") from None
    if not _NAME.fullmatch(name):
        raise DamagedError(f"{folder / pointer}: damaged: it names no checkpoint")
    return name


def restore(folder: Path, pointer: str, template: TrainState) -> Checkpoint:
    """Read the checkpoint that "last" or "best" names ("best" falls back on "last").

    Args:
        folder: the run's ``checkpoints`` directory.
        pointer: which one.
        template: a train state with the right tree, shapes and dtypes; its arrays may be
            `jax.ShapeDtypeStruct`.

    Raises:
        DamagedError: a file is missing or differs from its checksum.
        CheckpointError: nothing was saved, or an array differs from the template in name, shape
            or dtype.
    """
    return read(folder, pointed(folder, pointer), template)


def read(folder: Path, name: str, template: TrainState) -> Checkpoint:
    """Read the checkpoint of a name, as `restore`."""
    parts, manifest = _read(folder / name, _parts(template))
    training = parts.pop("training")
    if int(training["step"]) != manifest["step"]:
        raise DamagedError(f"{folder / name}: damaged: its arrays are of step {training['step']}")
    return Checkpoint(TrainState(**parts, **training), manifest["memory"])


def check(folder: Path, name: str) -> None:
    """Raise as `restore` does where a file of a checkpoint is damaged, of whatever network."""
    manifest = read_manifest(folder / name)
    for file in manifest["sha256"]:
        _read_file(folder / name / file, manifest["sha256"])


def restore_network(
    folder: Path, pointer: str, params: Any, state: Any, *, use_ema: bool = True
) -> tuple[Any, Any, int]:
    """Read parameters, state and step of a checkpoint, without what only training needs.

    They are the averages, where the checkpoint has any (`training.step.ema`), or, unless `use_ema`,
    what these are the averages of. Parameters of the loss are read where the template has them.
    Takes templates and raises as `restore` does.
    """
    place = folder / pointed(folder, pointer)
    templates: dict[str, Any] = {"params": params, "state": state}
    try:
        if use_ema and "ema.safetensors" in read_manifest(place)["sha256"]:
            parts, manifest = _read(place, {"ema": Ema(params, state)}, (f"params/{LOSS}/",))
            return *parts["ema"], manifest["step"]
        parts, manifest = _read(place, templates, (f"{LOSS}/",))
    except DamagedError as error:
        other = {"best": "last", "last": "best"}[pointer]
        raise DamagedError(f"{error}; restore it, or try --checkpoint {other}") from None
    return parts["params"], parts["state"], manifest["step"]


def _parts(train_state: TrainState) -> dict[str, Any]:
    """Split a state into the files of a checkpoint: parameters, state and averages stand alone."""
    whole = {k: v for k, v in train_state._asdict().items() if v is not None}
    alone = {part: whole.pop(part) for part in ("params", "state", "ema") if part in whole}
    return alone | {"training": whole}


def pointed(folder: Path, pointer: str) -> str:
    """Return the checkpoint that "best" or "last" names; the last of a run not yet validated.

    Raises:
        CheckpointError: another pointer, or no checkpoint.
    """
    if pointer not in ("best", "last"):
        raise CheckpointError(f"{folder}: checkpoint: got {pointer!r}, need 'best' or 'last'")
    name = named(folder, pointer) or named(folder, "last")
    if name is None:
        raise CheckpointError(f"{folder}: no checkpoint was saved here; nothing to load")
    return name


def _read(
    checkpoint: Path, templates: dict[str, Any], passed: tuple[str, ...] = ()
) -> tuple[Any, Any]:
    """Read the named parts of a checkpoint, and its manifest.

    Arrays under the names in `passed` are passed over where the template has none.
    """
    manifest = read_manifest(checkpoint)
    parts = {
        part: _restore_part(checkpoint / f"{part}.safetensors", tree, manifest["sha256"], passed)
        for part, tree in templates.items()
    }
    return parts, manifest


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint; raises as `restore` does."""
    path = checkpoint / "manifest.json"
    content = _content(path)
    try:
        manifest = parse_json(content)
        check_types(manifest, MANIFEST)
        written = manifest["format"]
    except ValueError:
        raise DamagedError(f"{path}: damaged: not a checkpoint's manifest") from None
    said = manifest.pop("checksum", None)
    if said != checksum(manifest) and (said or written == FORMAT):
        raise DamagedError(f"{path}: damaged: its SHA-256 differs from what it says")
    if written != FORMAT:
        raise CheckpointError(f"{path}: format {written}, but this convax reads format {FORMAT}")
    if _NAME.fullmatch(checkpoint.name) and manifest["step"] != step_of(checkpoint.name):
        raise DamagedError(
            f"{checkpoint}: another checkpoint was copied over it, that of step {manifest['step']}"
        )
    _check_origin(checkpoint, manifest.get("provenance", {}))
    return manifest


def _check_origin(checkpoint: Path, made: dict[str, Any]) -> None:
    """Raise where a run's ``run.json`` says that this checkpoint is of another run.

    Their digests of the config can be compared where the same code made both; and nothing can
    where the run went on by force, with something else.
    """
    try:
        info = parse_json((checkpoint.parents[1] / "run.json").read_bytes())
        check_types(info, RUN)
    except (OSError, ValueError, IndexError):
        return  # whoever needs it says so
    own = info.get("provenance", {})
    keys = ["data", *(["config"] if made.get("code") == own.get("code") == code_hash() else [])]
    own = summarized(own) if own else own
    other = [key for key in keys if key in own and key in made and own[key] != made[key]]
    if other and not info.get("forced"):
        raise DamagedError(f"{checkpoint}: a checkpoint of another run, whose {other[0]} differs")


def checksum(manifest: dict[str, Any]) -> str:
    """Compute the SHA-256 of all else in a manifest."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return json_digest(rest)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read: {error.strerror}") from None


def _read_file(path: Path, checksums: dict[str, str]) -> bytes:
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != checksums.get(path.name):
        raise DamagedError(f"{path}: damaged: its SHA-256 differs from the manifest's")
    return content


def _restore_part(
    path: Path, template: Any, checksums: dict[str, str], passed: tuple[str, ...]
) -> Any:
    arrays = parse(_read_file(path, checksums))
    wanted = named_leaves(template)
    known = {name for name, _ in wanted}
    arrays = {k: v for k, v in arrays.items() if k in known or not k.startswith(passed)}
    if known != arrays.keys():
        odd = sorted(known ^ arrays.keys())
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
