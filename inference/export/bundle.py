"""A trained network as a folder that runs without convax: on jax, numpy and flatbuffers.

    program.stablehlo      the inference function (`jax.export`), any batch size, each platform;
                           several outputs are a tuple, in the order of about.json
    weights.safetensors    its first argument
    self_test.safetensors  inputs, and what the network said of them
    about.json             labels, preprocessing, task, inputs, outputs, tolerance
                           (a network may take more than images, see `Task.more_inputs`)
    load.py, README.md     a few lines that run it, and how
    manifest.json          format, versions, expiry, and the SHA-256 of each of the others
    manifest.sig           its signature, where it was exported with a key

The folder is written aside, flushed and renamed: it is there whole or not at all.

References:
    https://docs.jax.dev/en/latest/export/export.html
"""

import datetime
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np
import safetensors.numpy
from jax import Array

from ...training.common import atomic_io
from ...training.common.pytree_paths import named_leaves
from ...training.config.schema import Config, ConfigError
from ...training.config_data import load_data
from ...training.data import DataError, Dataset
from ...training.experiment import reopen
from ...training.run.checkpoint import checksum
from ...training.run.directory import open_run
from ...training.weights.safetensors_io import to_numpy
from ..predictor import Predictor, load
from .loader import LOADER, readme
from .manifest import (
    MANIFEST,
    PLATFORMS,
    BundleError,
    allowed_difference,
    expected_keys,
    format_of,
    runs_here,
)
from .sign import SIGNATURE, read_private_key
from .verify import verify

MONTHS_6 = datetime.timedelta(days=180)  # that newer releases of JAX read what older ones wrote
SELF_TEST_IMAGES = 8  # images of the self-test


def export(
    run: str | Path,
    out: str | Path,
    *,
    platforms: tuple[str, ...] = PLATFORMS,
    sign: str | Path | None = None,
    data_path: Path | None = None,
    **loading: Any,
) -> str:
    """Write the network of a run as a bundle, and verify it where this machine is one it is for.

    Args:
        run: the run directory.
        out: the folder to make.
        platforms: what it is to run on: "cpu", "cuda", "tpu".
        sign: the file of a private key to sign it with, see `sign`.
        data_path: where the run's data lie by now, if they were moved.
        loading: keywords of `predictor.load`.

    Returns:
        The SHA-256 of its manifest, which stands for every byte of it.

    Raises:
        RunError, CheckpointError, CalibrationError: as `predictor.load`; a study is no run.
        BundleError: `out` exists or cannot be written; an unknown platform; no key; what was
            written does not say what the network says, and is gone.
    """
    out = Path(out)
    if out.exists():
        raise BundleError(f"{out}: exists; choose another folder, or remove it")
    if not platforms or not set(platforms) <= set(PLATFORMS):
        got = ",".join(platforms)
        raise BundleError(f"platforms: got {got!r}, need some of {','.join(PLATFORMS)}")
    key = None if sign is None else read_private_key(sign)
    predictor, inputs, origin, expected, about, tolerance = export_source(run, loading, data_path)
    about = {**about, "self_test": {"images": origin, "tolerance": tolerance}}
    program, weights = _program(predictor, platforms, inputs)
    test = dict(inputs)
    test |= {key: expected[name] for name, key in expected_keys(about).items()}
    today = datetime.datetime.now(datetime.UTC)
    made = {
        "format": format_of(inputs, expected),
        "jax": jax.__version__,
        "made": today.date().isoformat(),
        "expires": (today.date() + MONTHS_6).isoformat(),
        "platforms": list(platforms),
    }
    files = {
        "program.stablehlo": program,
        "weights.safetensors": safetensors.numpy.save(weights),
        "self_test.safetensors": safetensors.numpy.save(test),
        "about.json": _json(about),
        "load.py": LOADER.encode(),
        "README.md": readme(about, made).encode(),
    }
    digest = _write(out, files, made, key)
    if runs_here(platforms):
        try:
            verify(out)
        except BundleError:
            shutil.rmtree(out, ignore_errors=True)
            raise
    return digest


def _program(
    predictor: Predictor, platforms: tuple[str, ...], inputs: Mapping[str, np.ndarray]
) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return ``program(weights, *inputs)`` serialized, and the weights by name.

    It takes any number of images, and gives an array, or a tuple of several: JAX serializes no
    tuple with names.
    """
    tree = {"params": predictor.params, "state": predictor.state}
    named = named_leaves(tree)
    structure = jax.tree.structure(tree)

    @jax.jit
    def program(weights: dict[str, Array], *inputs: Array) -> Array | tuple[Array, ...]:
        both = jax.tree.unflatten(structure, [weights[name] for name, _ in named])
        arrays = jax.tree.leaves(predictor.function(both["params"], both["state"], *inputs))
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    weights = {name: to_numpy(leaf) for name, leaf in named}
    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in weights.items()}
    (batch,) = jax.export.symbolic_shape("batch")
    of_inputs = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in inputs.values()]
    exported = jax.export.export(program, platforms=platforms)(shapes, *of_inputs)
    return bytes(exported.serialize()), weights


class ExportSource(NamedTuple):
    """A network that is to be written for others, and what it says of a few images."""

    predictor: Predictor
    inputs: dict[str, np.ndarray]  # (N, ...) by name: images, and what else it takes
    origin: str  # where they are from
    expected: dict[str, np.ndarray]  # by the name of the output
    about: dict[str, Any]  # for who reads of it, as JSON
    tolerance: float  # of a difference from what is expected


def export_source(
    run: str | Path, loading: Mapping[str, Any], data_path: Path | None = None
) -> ExportSource:
    """Load the network of a run, and images that it is tried on.

    Args:
        run: the run directory.
        loading: keywords of `predictor.load`, whose errors are raised.
        data_path: where its data lie by now, if they were moved; then they have to be there.
    """
    opened, predictor = open_run(run), load(run, **loading)
    dataset = None if data_path is None else reopen(run, data_path)[1].dataset
    images, origin = sample_images(opened.config(), predictor, dataset)
    images = images[: predictor.sizes[-1]]  # as many as there is memory for at once
    more, origin = _more_inputs(predictor, images, origin)
    inputs, spec = {"images": images, **more}, predictor.task.spec
    prediction = predictor.function(predictor.params, predictor.state, *inputs.values())
    expected = {name: np.asarray(array) for name, array in spec.named(prediction).items()}
    itself = spec.compare(expected, expected)
    if not itself.compared:
        origin += "; nothing is found in them, so that they prove little"
    about = {
        "task": predictor.task.name,
        "labels": list(predictor.classes),
        "image_shape": list(predictor.image_shape),
        "inputs": [_described(name, array, spec.inputs) for name, array in inputs.items()],
        "outputs": [_described(name, array) for name, array in expected.items()],
        "preprocessing": opened.dataset().preprocessing.as_json(),
        "calibrated": bool(loading.get("calibrated")),
        "flips": bool(loading.get("tta")),
        "folded": list(predictor.folded),
    }
    tolerance = allowed_difference(expected.values(), itself.scale)
    return ExportSource(predictor, inputs, origin, expected, about, tolerance)


def _described(name: str, array: np.ndarray, texts: Mapping[str, str] = {}) -> dict[str, Any]:
    """Return what about.json says of an input or output, whose first axis is any."""
    text = {"description": texts[name]} if name in texts else {}
    return {"name": name, "shape": ["batch", *array.shape[1:]], "dtype": array.dtype.name} | text


def _more_inputs(
    predictor: Predictor, images: np.ndarray, origin: str
) -> tuple[dict[str, np.ndarray], str]:
    """Return what the network takes beside images, and where all of it is from."""
    more = predictor.task.more_inputs
    if more is None:
        return {}, origin
    try:
        return more(images), origin
    except DataError:
        made_up = more(images, made_up=True)
    return made_up, f"{origin}; their {' and '.join(made_up)} made up"


def sample_images(
    config: Config, predictor: Predictor, dataset: Dataset | None = None
) -> tuple[np.ndarray, str]:
    """Return images of the test split; made-up ones where the data are gone, or are other data."""
    shape, dtype = predictor.image_shape, predictor.pixels.dtype
    try:
        dataset = load_data(config) if dataset is None else dataset
        images = np.asarray(dataset.test.images[:SELF_TEST_IMAGES])
        if images.shape[1:] == shape and images.dtype == dtype and len(images):
            return images, "the first of the test split"
    except (DataError, ConfigError, OSError):
        pass
    return _made_up(predictor), "made up: the data of the run were not there"


def _made_up(predictor: Predictor) -> np.ndarray:
    shape, pixels = (SELF_TEST_IMAGES, *predictor.image_shape), predictor.pixels
    if pixels.dtype == "float32":
        return np.random.default_rng(0).uniform(pixels.low, pixels.high, shape).astype(np.float32)
    low, high = int(pixels.low), int(pixels.high)
    return np.random.default_rng(0).integers(low, high + 1, shape, pixels.dtype)


def _write(out: Path, files: dict[str, bytes], made: dict[str, Any], key: Any) -> str:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = made | {"sha256": sums}
    manifest["checksum"] = checksum(manifest)
    content = _json(manifest)
    signed = {} if key is None else {SIGNATURE: key.sign(content)}
    try:
        atomic_io.atomic_write_dir(out.absolute(), {**files, **signed, MANIFEST: content}.items())
    except OSError as error:
        raise BundleError(f"{out}: cannot be written: {error.strerror}") from None
    return hashlib.sha256(content).hexdigest()


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
