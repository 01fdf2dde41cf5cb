"""A trained network as one ONNX file, for runtimes other than JAX.

The conversion is jax2onnx's (``pip install 'convax[onnx]'``). It reads the program of the inference
function, traced as JAX's own operations (`ops.implementation`), and ONNX Runtime has to give the
predictions of the live network before a file is written.

References:
    https://enpasos.github.io/jax2onnx/
    https://onnx.ai/onnx/operators/onnx__MaxPool.html
"""

import json
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import ops
from ...training.common import atomic_io
from ...training.common.text import first_line
from .bundle import ExportSource, export_source
from .manifest import BundleError

OPSET = 21  # read by ONNX Runtime 1.18 and later


class OnnxVerification(NamedTuple):
    """What ONNX Runtime said, beside the live network."""

    images: int
    origin: str  # where they are from
    difference: float  # the largest
    tolerance: float


def export_onnx(
    run: str | Path, out: str | Path, *, data_path: Path | None = None, **loading: Any
) -> OnnxVerification:
    """Write the network of a run as an ONNX file.

    Its input ``images`` is ``(N, H, W, C)`` of `Predictor.pixels`, N from 1, its outputs are what
    `convax.load` predicts; the preprocessing is inside. What else it takes (`Task.more_inputs`) are
    inputs behind that. Task, labels and shapes stand in its metadata.

    Args:
        run: the run directory.
        out: the file to make.
        data_path: where the run's data lie by now, if they were moved.
        loading: keywords of `predictor.load`.

    Raises:
        RunError, CheckpointError, CalibrationError: as `predictor.load`; a study is no run.
        BundleError: `out` exists or cannot be written; a package is missing; the network cannot be
            converted, or ONNX Runtime gives other predictions.
    """
    out, packages = free_path(out), load_packages()
    source = export_source(run, loading, data_path)
    predictor = source.predictor

    def function(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        prediction = predictor.function(predictor.params, predictor.state, *inputs)
        return tuple(jax.tree.leaves(prediction))

    model, verification = convert_and_compare(packages, out, source, function)
    set_metadata(packages, model, source.about)
    write(out, model.SerializeToString())
    return verification


def free_path(out: str | Path) -> Path:
    """Return the path of a file to make; `BundleError` where one is."""
    out = Path(out)
    if out.exists():
        raise BundleError(f"{out}: exists; choose another file, or remove it")
    return out


def load_packages() -> "Packages":
    """Import the packages that an ONNX file needs; `BundleError` where one is missing."""
    try:
        with quiet():
            return Packages(*map(import_module, Packages._fields))
    except ImportError as error:
        raise BundleError(
            f"export: an ONNX file needs {error.name}: pip install 'convax[onnx]'"
        ) from None


def convert_and_compare(
    packages: "Packages",
    out: Path,
    source: ExportSource,
    function: Callable[..., tuple[jax.Array, ...]],
    more_outputs: Sequence[str] = (),
) -> tuple[Any, OnnxVerification]:
    """Convert a function, and hold its predictions against those of the live network.

    Args:
        packages: those of `load_packages`.
        out: the file that it is for, to name in errors.
        source: the network, inputs, and what is expected.
        function: ``function(*inputs) -> (*predictions, *more)``.
        more_outputs: the names of what it gives behind the predictions, which is not compared.

    Raises:
        BundleError: it cannot be converted, or ONNX Runtime gives other predictions.
    """
    _, inputs, origin, expected, _, tolerance = source
    try:
        model = _converted(packages, function, inputs, [*expected, *more_outputs])
    except Exception as error:  # whatever a converter says of what it does not know
        raise BundleError(
            f"{out}: jax2onnx cannot convert this network: {_operation(error)}{first_line(error)}"
        ) from error
    content = model.SerializeToString()
    try:
        differences = []
        for some in (slice(None), slice(1)):  # any number of images, one file
            wanted = {name: array[some] for name, array in expected.items()}
            given = {name: array[some] for name, array in inputs.items()}
            found = _run(packages, content, given, wanted)
            differences.append(source.predictor.task.spec.compare(found, wanted).difference)
        difference = float(np.max(differences))
    except Exception as error:
        raise BundleError(f"{out}: ONNX Runtime refuses it: {first_line(error)}") from error
    if not difference <= tolerance:  # nan as well
        raise BundleError(
            f"{out}: wrong predictions: ONNX Runtime differs by up to {difference:.3g}, more than "
            f"{tolerance:.3g}; nothing was written"
        )
    return model, OnnxVerification(len(inputs["images"]), origin, difference, tolerance)


def set_metadata(packages: "Packages", model: Any, about: Mapping[str, Any]) -> None:
    """Set the metadata of a model to the values of `about`, as JSON."""
    packages.onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in about.items()})


def write(out: Path, content: bytes) -> None:
    """Write a file, completely or not at all; `BundleError` where that cannot be."""
    try:
        atomic_io.atomic_write(out, content)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written: {error.strerror}") from None


def session_of(packages: "Packages", content: bytes) -> Any:
    """Return ONNX Runtime's session of a model, on CPU, which logs errors alone."""
    options = packages.onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return packages.onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )


class Packages(NamedTuple):
    """The packages that an ONNX file needs."""

    jax2onnx: Any
    onnx: Any
    onnxruntime: Any


def _converted(
    packages: Packages, function, inputs: Mapping[str, np.ndarray], outputs: list[str]
) -> Any:
    """Convert to a model with an axis N for the batch, in place of that of the inputs."""
    shapes = [jax.ShapeDtypeStruct(("N", *a.shape[1:]), a.dtype) for a in inputs.values()]
    # Without jit inside jit: jax2onnx 0.17.1 cannot read it of jax 0.12, and files are smaller.
    with (
        ops.implementation("jaxpr"),
        jax.disable_jit(),
        _restored(jax, jnp, jax.lax, jax.nn),
        quiet(),
    ):
        model = packages.jax2onnx.to_onnx(
            function,
            shapes,
            model_name="convax",
            opset=OPSET,
            input_names=list(inputs),
            output_names=outputs,
        )
    _pool_over_space(model, packages.onnx.helper)
    return model


def _operation(error: Exception) -> str:
    """Name JAX's operation that a converter of jax2onnx's, a file of its name, was at work on."""
    frames = traceback.extract_tb(error.__traceback__)
    at = [frame for frame in frames if "jax2onnx" in frame.filename and frame.name == "lower"]
    return f"lax.{Path(at[-1].filename).stem}: " if at else ""


def _pool_over_space(model: Any, helper: Any) -> None:
    """Make each pool over all axes of a channels-last image one over its spatial axes.

    jax2onnx writes ``Unsqueeze, Unsqueeze, MaxPool, Squeeze``, with a window of 1 for the batch and
    for the channels, which is right, and more axes than ONNX Runtime pools over.
    """
    nodes = list(model.graph.node)
    made = {name: i for i, node in enumerate(nodes) for name in node.output}
    used = {name: i for i, node in enumerate(nodes) for name in node.input}
    instead: dict[int, list[Any]] = {}
    for i, node in enumerate(nodes):
        of = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        rank = len(of.get("kernel_shape", ()))
        if node.op_type != "MaxPool" or rank < 3 or of["kernel_shape"][0] != 1:
            continue
        second = made[node.input[0]]
        first, last = made[nodes[second].input[0]], used[node.output[0]]
        if [nodes[j].op_type for j in (first, second, last)] != 2 * ["Unsqueeze"] + ["Squeeze"]:
            continue
        inner = {k: of[k][1:-1] for k in ("kernel_shape", "strides", "dilations") if k in of}
        if "pads" in of:  # those below each axis, then those above
            inner["pads"] = [*of["pads"][1 : rank - 1], *of["pads"][rank + 1 : -1]]
        x, y = nodes[first].input[0], nodes[last].output[0]
        there, back = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
        instead |= {
            first: [helper.make_node("Transpose", [x], [f"{y}_first"], perm=there)],
            second: [],
            i: [helper.make_node("MaxPool", [f"{y}_first"], [f"{y}_pooled"], **inner)],
            last: [helper.make_node("Transpose", [f"{y}_pooled"], [y], perm=back)],
        }
    kept = [new for i, node in enumerate(nodes) for new in instead.get(i, [node])]
    graph, needed = model.graph, {name for node in kept for name in node.input}
    constants = [c for c in graph.initializer if c.name in needed]
    shapes = [value for value in graph.value_info if value.name in needed]
    for field, values in (
        (graph.node, kept),
        (graph.initializer, constants),
        (graph.value_info, shapes),
    ):
        del field[:]
        field.extend(values)


def _run(
    packages: Packages,
    content: bytes,
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return what ONNX Runtime says of inputs; of the names and shapes that are expected."""
    session = session_of(packages, content)
    found = dict(zip(expected, session.run(list(expected), dict(inputs)), strict=True))
    for name, array in found.items():
        if array.shape != expected[name].shape:
            raise ValueError(f"{name}: got {array.shape}, need {expected[name].shape}")
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what jax2onnx and ONNX Runtime log and warn of: plugins that are not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _restored(*modules: ModuleType) -> Iterator[None]:
    """`modules` are left as they were: jax2onnx 0.17.1 leaves a `jnp.cumsum` of its own."""
    before = [dict(vars(module)) for module in modules]
    try:
        yield
    finally:
        for module, names in zip(modules, before, strict=True):
            vars(module).update(names)
