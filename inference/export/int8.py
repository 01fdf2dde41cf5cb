"""A trained network as an ONNX file that computes in int8: post-training quantization.

ONNX Runtime's own quantizer does it (``pip install 'convax[onnx]'``): weights are rounded to int8
with a scale for each output channel, activations to uint8 with a scale and a zero point for each
tensor, whose ranges are measured on validation images. In the file, ``QuantizeLinear`` and
``DequantizeLinear`` stand around each operation (QDQ), which a runtime merges with it. Batch norms
are folded first. Preprocessing, and what follows the network's outputs, stay in float32.

References:
    Jacob et al., arXiv:1712.05877
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from ...training.common.text import first_line
from ...training.data import Split
from ...training.data.preprocess import preprocess
from ...training.evaluation import Evaluation, evaluate_outputs, reopen_trained
from ...training.experiment import Experiment
from ...training.run.directory import open_run
from ...training.tasks.metric_names import NAMES, written
from ...training.tasks.registry import spec_of
from ..forward import without_norms
from .bundle import export_source
from .manifest import BundleError
from .onnx import (
    Packages,
    convert_and_compare,
    free_path,
    load_packages,
    quiet,
    session_of,
    set_metadata,
    write,
)

Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)
IMAGES = 200  # that ranges are measured on
# MLPerf asks of a quantized network for 99 % of the metric in float32 (arXiv:1911.02549).
MAX_LOSS = 0.01

BATCH = 16  # calibration images at once, whose activations are in memory together
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What may stand between those in int8, without leaving it.
BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
MOVING = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
OUTPUTS = "before_postprocessing"  # a graph output until the file is written


class Quantization(NamedTuple):
    """How a network is quantized.

    Attributes:
        method: how a tensor's range follows from its values: "minmax" takes all of them, and
            "percentile" all but the outermost 0.001 %; "entropy" the range that loses the least
            information.
        images: how many validation images these are measured on, at the most.
        max_loss: how far the task's metric may fall, in parts of 1, before nothing is written.
    """

    method: Method = "minmax"
    images: int = IMAGES
    max_loss: float = MAX_LOSS


DEFAULT = Quantization()


class Quantized(NamedTuple):
    """What quantization did to a network.

    Attributes:
        method, max_loss: as in `Quantization`.
        images: how many validation images the ranges were measured on.
        metric: the figure that a run is judged by, `before` and `after` on a `split` of so many
            examples.
        bytes_before, bytes_after: of the file in float32, and of that in int8.
    """

    method: str
    images: int
    metric: str
    split: str
    examples: int
    before: float
    after: float
    max_loss: float
    bytes_before: int
    bytes_after: int

    @property
    def change(self) -> str:
        """Return in words what the metric was, and is."""
        before, after = (written(self.metric, value) for value in (self.before, self.after))
        name = NAMES.get(self.metric, self.metric)
        return f"{name} {before} -> {after} ({self.split}, {self.examples:,} examples)"

    @property
    def text(self) -> str:
        """Return it in two lines for people."""
        sizes = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes"
        return (
            f"int8: {self.change}\n{sizes}; ranges of {self.images} validation images, "
            f"by {self.method}"
        )


def export_int8(
    run: str | Path,
    out: str | Path,
    how: Quantization = DEFAULT,
    *,
    data_path: Path | None = None,
    **loading: Any,
) -> Quantized:
    """Write the network of a run as an ONNX file that computes in int8.

    The file is as `export_onnx` writes it; `how` and what it cost stand in its metadata as
    ``int8``.

    Args:
        run: the run directory.
        out: the file to make.
        how: the way to do it.
        data_path: where the run's data lie by now, if they were moved.
        loading: ``checkpoint`` and ``use_ema`` of `predictor.load`.

    Raises:
        RunError, CheckpointError, DataError: the run or its data cannot be used; a study is no run.
        BundleError: as `export_onnx`; there are no validation images, it is a detector, nothing is
            to be quantized, or the metric falls too far.
        ValueError: `how` makes no sense.
    """
    if how.method not in METHODS:
        raise ValueError(f"int8: method: got {how.method!r}, need one of {', '.join(METHODS)}")
    if how.images < 1 or not how.max_loss >= 0:
        raise ValueError(f"int8: got {how}, need 1 image or more, and max_loss of 0 or more")
    out, packages = free_path(out), load_packages()
    task_name = open_run(run).config().task
    if spec_of(task_name).has_threshold:
        raise BundleError(
            f"{run}: --int8: got a run of {task_name}, which computes boxes among its layers and "
            "cannot be quantized as a whole; leave out --int8"
        )
    _, experiment, params, state = reopen_trained(
        run,
        loading.get("checkpoint", "best"),
        use_ema=loading.get("use_ema", True),
        data_path=data_path,
    )
    calibration = _calibration_images(run, experiment, how.images)
    source = export_source(run, loading, data_path)
    loaded, task = without_norms([experiment.loaded(params, state)])[0][0], experiment.task

    def function(images: jax.Array) -> tuple[jax.Array, ...]:
        spec = loaded.card.preprocessing
        x = preprocess(images, spec)
        outputs, _ = loaded.net.apply(loaded.params, loaded.state, x, train=False)
        predictions = task.postprocess(outputs, spec, loaded.card.image_shape)
        both = (predictions, outputs)
        return both[:1] if predictions is outputs else both

    apart = len(jax.eval_shape(function, source.inputs["images"])) > 1
    measured_output = OUTPUTS if apart else task.spec.outputs
    more = [OUTPUTS] if apart else []
    model, _ = convert_and_compare(packages, out, source, function, more)
    before = model.SerializeToString()
    try:
        model = _quantized(packages, model, how.method, calibration, measured_output)
    except Exception as error:  # whatever a quantizer says of what it does not know
        raise BundleError(f"{out}: cannot be quantized: {first_line(error)}") from error

    def measured(content: bytes) -> Evaluation:
        session = session_of(packages, content)

        def outputs_of(images: np.ndarray) -> np.ndarray:
            return session.run([measured_output], {"images": images})[0]

        split = "test" if experiment.dataset.test.count else "validation"
        return evaluate_outputs(experiment, params, split, outputs_of)

    in_float, in_int8 = measured(before), measured(model.SerializeToString())
    metric = task.spec.metric
    if apart:
        del model.graph.output[1]
    result = Quantized(
        how.method,
        len(calibration),
        metric,
        in_float.split,
        in_float.count,
        in_float.figures[metric],
        in_int8.figures[metric],
        how.max_loss,
        len(before),
        model.ByteSize(),
    )
    if not result.before - result.after <= how.max_loss:  # nan as well
        raise BundleError(
            f"{out}: int8 costs too much: {result.change}, more than --max-loss "
            f"{how.max_loss:g}; try another --int8-method, or more --int8-images; nothing was "
            "written"
        )
    set_metadata(packages, model, {**source.about, "int8": result._asdict()})
    write(out, model.SerializeToString())
    return result


def _calibration_images(run: str | Path, experiment: Experiment, most: int) -> np.ndarray:
    """Return validation images from all over the split ``(N, H, W, C)``, as they are stored."""
    validation: Split = experiment.dataset.validation
    if not validation.count:
        raise BundleError(
            f"{run}: --int8: it has no validation images to measure ranges on; train with "
            "data.validation"
        )
    count = min(most, validation.count)
    return np.asarray(validation.images[np.arange(count) * validation.count // count])


def _quantized(
    packages: Packages, model: Any, method: Method, images: np.ndarray, outputs: str
) -> Any:
    """Return a model with its network in int8, from the first weights to the tensor `outputs`."""
    quantization = import_module("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder, _silent():
        given, optimized, made = (str(Path(folder) / name) for name in ("a", "b", "c"))
        packages.onnx.save(model, given)
        # Constants are computed, and a bias joins its convolution: the quantizer looks for weights
        # among what is stored.
        quantization.quant_pre_process(given, optimized, skip_symbolic_shape=True)
        model = packages.onnx.load(optimized)
        chosen = _prepare(model.graph, outputs)
        packages.onnx.save(model, optimized)
        quantization.quantize_static(
            optimized,
            made,
            _reader(quantization, images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*WEIGHTED, *BETWEEN, *MOVING],
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method={
                "minmax": quantization.CalibrationMethod.MinMax,
                "entropy": quantization.CalibrationMethod.Entropy,
                "percentile": quantization.CalibrationMethod.Percentile,
            }[method],
            # A batch at a time, whatever the method: else all activations of all are kept.
            extra_options={"MatMulConstBOnly": True, "CalibStridedMinMax": 1},
        )
        made = packages.onnx.load(made)
    used = {node.domain for node in made.graph.node}
    opsets = [opset for opset in made.opset_import if opset.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(opsets)
    return made


def _prepare(graph: Any, outputs: str) -> list[str]:
    """Name all nodes, and return the names of those that are to compute in int8.

    These are what has weights, what follows one of them and leads to `outputs`.
    """
    stored = {constant.name: constant for constant in graph.initializer}
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
        if node.op_type == "Gemm" and len(node.input) > 2:  # a bias (1, N) is not read as one
            bias = stored.get(node.input[2])
            if bias is not None and list(bias.dims[:-1]) == [1]:
                del bias.dims[0]
    del graph.value_info[:]  # the shapes as they were

    def is_weighted(node: Any) -> bool:
        return node.op_type in WEIGHTED and any(name in stored for name in node.input)

    behind = _reached(graph.node, is_weighted, lambda node: (node.input, node.output))
    leading = _reached(
        reversed(graph.node),
        lambda node: outputs in node.output,
        lambda node: (node.output, node.input),
    )
    kinds = {*WEIGHTED, *BETWEEN, *MOVING}
    chosen = [n.name for n in graph.node if n.op_type in kinds and n.name in behind & leading]
    if not chosen:
        raise ValueError("no operation of it has weights")
    return chosen


def _reached(
    nodes: Iterable[Any],
    begins: Callable[[Any], bool],
    ends: Callable[[Any], tuple[Iterable[str], Iterable[str]]],
) -> set[str]:
    """Return the names of the nodes from where some begin on, in the order that is given."""
    names: set[str] = set()
    tensors: set[str] = set()
    for node in nodes:
        before, after = ends(node)
        if begins(node) or not tensors.isdisjoint(before):
            names.add(node.name)
            tensors.update(after)
    return names


def _reader(quantization: Any, images: np.ndarray) -> Any:
    """Return batches of images as ONNX Runtime's quantizer asks for them."""
    batches = np.array_split(images, math.ceil(len(images) / BATCH))

    class Reader(quantization.CalibrationDataReader):
        left: Iterator[np.ndarray] = iter(batches)

        def __len__(self) -> int:
            return len(batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.left = iter(batches[start_index:end_index])

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {"images": batch}

    return Reader()


@contextmanager
def _silent() -> Iterator[None]:
    """Silence the quantizer, which prints what it is at."""
    with quiet(), redirect_stdout(io.StringIO()):
        yield
