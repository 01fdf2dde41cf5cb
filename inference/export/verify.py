"""Whether a bundle is what was exported, and says here what it said there."""

import datetime
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from ...training.common.json_io import parse_json
from ...training.common.text import first_line
from ...training.run.checkpoint import checksum
from ...training.tasks.registry import TASKS
from ...training.tasks.spec import compare_values
from ...training.weights.safetensors_io import WeightsError, parse_file
from .manifest import (
    FORMATS,
    MANIFEST,
    BundleError,
    allowed_difference,
    expected_keys,
    input_names,
    runs_here,
)
from .sign import SIGNATURE, check_signature, read_public_key

FILES = {
    *("program.stablehlo", "weights.safetensors", "self_test.safetensors"),
    *("about.json", "load.py", "README.md"),
}


class Verification(NamedTuple):
    """What was compared."""

    files: int
    images: int  # of the self-test
    origin: str  # where they are from
    difference: float  # the largest
    tolerance: float
    manifest: str  # its SHA-256
    signed: bool  # with the key that was given


def verify(
    bundle: str | Path, *, key: str | Path | None = None, today: datetime.date | None = None
) -> Verification:
    """Check every file of a bundle against its checksum, and run its self-test.

    Checksums find accidents, a signature finds people. Who may replace files can replace their
    checksums: the self-test still finds other weights, but neither other labels, nor another
    loader, nor a bundle exported anew. Without a key compare `Verification.manifest` with what
    `export` returned.

    Args:
        bundle: the folder.
        key: the file of the public key that it has to be signed with, see `sign`; nothing is run
            before that is clear.
        today: to be compared with the date of expiry.

    Raises:
        BundleError: names each file that is missing, altered or not of the bundle; not signed with
            the key; an unknown format; an expired one; wrong predictions.
    """
    folder = Path(bundle)
    public = None if key is None else read_public_key(key)
    manifest, content = _manifest(folder)
    if public is not None:
        check_signature(folder, content, public)
    files = _read_files(folder, manifest["sha256"])
    today = today or datetime.datetime.now(datetime.UTC).date()
    # The release that wrote it reads it for ever; to others JAX promises six months.
    expired = today > datetime.date.fromisoformat(manifest["expires"])
    if expired and manifest["jax"] != jax.__version__:
        raise BundleError(
            f"{folder}: expired on {manifest['expires']}: made by jax {manifest['jax']}, this is "
            f"{jax.__version__}; export the run again, or install jax=={manifest['jax']}"
        )
    if not runs_here(manifest["platforms"]):
        here, made_for = jax.export.default_export_platform(), ", ".join(manifest["platforms"])
        raise BundleError(
            f"{folder}: files as written, but not tested: made for {made_for}, and this machine "
            f"has {here}"
        )
    try:
        about = parse_json(files["about.json"])
        test = about["self_test"]
        origin, tolerance = str(test["images"]), float(test["tolerance"])
        count, difference, most = _self_test(folder, files, about)
    except (WeightsError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{folder}: the self-test cannot be run: {first_line(error)}{_other_jax(manifest)}"
        ) from None
    except Exception as error:  # whatever JAX says of a program that is none
        raise BundleError(
            f"{folder}/program.stablehlo: does not run: {first_line(error)}{_other_jax(manifest)}"
        ) from None
    if not tolerance <= min(most * (1 + 1e-6), sys.float_info.max):  # nan and infinity as well
        raise BundleError(
            f"{folder}/about.json: self_test.tolerance: got {tolerance:.3g}, need at most "
            f"{most:.3g}, as export writes it; it was altered"
        )
    if not difference <= tolerance:
        raise BundleError(
            f"{folder}: wrong predictions: {count} images of the self-test differ by up to "
            f"{difference:.3g}, more than {tolerance:.3g}; program or weights were replaced"
        )
    digest = hashlib.sha256(content).hexdigest()
    return Verification(
        len(FILES) + 1, count, origin, difference, tolerance, digest, public is not None
    )


def _other_jax(manifest: dict[str, Any]) -> str:
    """Return what to do where another version of JAX made a program that does not run."""
    if manifest["jax"] == jax.__version__:
        return ""
    return (
        f"; jax {manifest['jax']} made it, this is {jax.__version__}: install "
        f"jax=={manifest['jax']}"
    )


def _manifest(folder: Path) -> tuple[dict[str, Any], bytes]:
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}; is it a bundle?") from None
    try:
        manifest = parse_json(content)
        version = manifest["format"]
        whole = manifest["checksum"] == checksum(manifest)
        # One spelling only: no byte of it may change.
        whole &= (json.dumps(manifest, indent=2) + "\n").encode() == content
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{path}: damaged") from None
    if not whole:
        raise BundleError(f"{path}: altered: its checksum differs")
    if version not in FORMATS:
        known = ", ".join(map(str, FORMATS))
        raise BundleError(f"{path}: unknown format: got {version!r}, need one of {known}")
    try:
        datetime.date.fromisoformat(manifest["expires"])
        texts = [manifest["jax"], *manifest["platforms"]]
        fits = set(manifest["sha256"]) == FILES and all(isinstance(t, str) for t in texts)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise BundleError(f"{path}: not of a bundle: need the checksums of {sorted(FILES)}")
    return manifest, content


def _read_files(folder: Path, sums: dict[str, str]) -> dict[str, bytes]:
    """Read every file, once: what is checked is what is run, whoever replaces it in between."""
    files, problems = {}, []
    for name in sorted(FILES):
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror}")
            continue
        if hashlib.sha256(files[name]).hexdigest() != sums[name]:
            problems.append(f"{name}: altered")
    for path in sorted(folder.iterdir()):
        if path.name == "__pycache__":  # Python would run what is in it in place of load.py
            problems.append("__pycache__: where load.py was imported; remove it")
        elif path.name not in {*FILES, MANIFEST, SIGNATURE}:
            problems.append(f"{path.name}: not of the bundle")
    if problems:
        raise BundleError(f"{folder}: " + "; ".join(problems))
    return files


def _self_test(
    folder: Path, files: dict[str, bytes], about: dict[str, Any]
) -> tuple[int, float, float]:
    """Return how many images there are, the largest difference of what is said of them, and the
    most that may be allowed.
    """
    test, weights = (
        parse_file(files[name], folder / name)
        for name in ("self_test.safetensors", "weights.safetensors")
    )
    keys = expected_keys(about)
    expected = {name: test[key] for name, key in keys.items()}
    program = jax.export.deserialize(bytearray(files["program.stablehlo"]))
    inputs = [test[name] for name in input_names(about)]
    arrays = jax.tree.leaves(program.call(weights, *inputs))
    found = dict(zip(keys, map(np.asarray, arrays), strict=True))
    for name, array in found.items():
        if array.shape != expected[name].shape or not len(array):
            raise ValueError(f"{name}: got {array.shape}, need {expected[name].shape}")
        if not np.isfinite(expected[name]).all():
            raise ValueError(f"{name}: what is expected is no number")
    # A task of somebody's own need not be registered here.
    spec = TASKS.get(about["task"])
    compare = spec.compare if spec else compare_values
    scale = compare(expected, expected).scale
    most = allowed_difference(found.values(), scale if spec else max(scale, 1.0))
    return len(test["images"]), compare(found, expected).difference, most
