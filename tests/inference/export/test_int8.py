"""A network as an ONNX file in int8: what is quantized, what it costs, and what is refused."""

import json
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convax
from convax import model
from convax.inference.export import int8 as module
from convax.inference.export import onnx as onnx_file
from convax.inference.export.bundle import sample_images
from convax.inference.export.int8 import METHODS, OUTPUTS, Quantization, export_int8
from convax.inference.export.manifest import BundleError
from convax.training.config.schema import load_config
from convax.training.run.directory import create_run
from tests.inference.export.test_bundle import write_task
from tests.inference.export.test_onnx import images_of, run_file
from tests.tiny import untrained


@pytest.fixture
def onnx():
    for name in ("jax2onnx", "onnxruntime"):
        with onnx_file.quiet():
            pytest.importorskip(name)
    return pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def residual():
    """A function of images with preprocessing, a residual block, and what comes after the outputs."""
    block = model.residual(
        model.serial(model.conv(8, 3, padding=1), model.relu(), model.conv(8, 3, padding=1))
    )
    net = model.serial(
        model.conv(8, 3, stride=2), model.relu(), block, model.global_avg_pool(), model.dense(5)
    )
    _, params, state = net.init(jax.random.key(0), (1, 12, 12, 3))

    def function(images):
        x = (images.astype(jnp.float32) / 255 - 0.5) / 0.25
        outputs, _ = net.apply(params, state, x)
        return jax.nn.softmax(outputs), outputs

    return function


@pytest.mark.parametrize("method", METHODS)
def test_what_is_quantized_and_how_close_it_is(method, residual, onnx, rng):
    packages = onnx_file.load_packages()
    given = onnx_file._converted(
        packages, residual, images_of(12, 12, 3), ["probabilities", OUTPUTS]
    )
    images = rng.integers(0, 256, (40, 12, 12, 3), np.uint8)
    made = module._quantized(packages, given, method, images, OUTPUTS)
    onnx.checker.check_model(made, full_check=True)
    assert [opset.domain for opset in made.opset_import] == [""]
    stored = {c.name: onnx.numpy_helper.to_array(c) for c in made.graph.initializer}
    weights = {name: a for name, a in stored.items() if a.dtype == np.int8 and a.ndim > 1}
    assert sorted(a.shape for a in weights.values()) == [(8, 3, 3, 3), (8, 5), *2 * [(8, 8, 3, 3)]]
    for name in weights:  # symmetric, and each channel uses its range
        assert not stored[name.replace("_quantized", "_zero_point")].any()
        channels = 5 if weights[name].ndim == 2 else 8
        assert stored[name.replace("_quantized", "_scale")].shape == (channels,)
        axis = 0 if weights[name].ndim == 2 else (1, 2, 3)
        np.testing.assert_array_equal(np.abs(weights[name].astype(int)).max(axis), 127)
    by_output = {name: node for node in made.graph.node for name in node.output}
    reads = lambda node: [by_output[i].op_type for i in node.input if i in by_output]  # noqa: E731
    for node in made.graph.node:
        if node.op_type in ("Conv", "Add", "Gemm"):
            assert set(reads(node)) == {"DequantizeLinear"}
    kinds = Counter(node.op_type for node in made.graph.node)
    assert (kinds["Conv"], kinds["Gemm"], kinds["Add"]) == (3, 1, 1)
    (divided, *_) = [node for node in made.graph.node if node.op_type in ("Div", "Sub")]
    assert "DequantizeLinear" not in reads(divided)  # preprocessing
    (probabilities, outputs), _ = run_file(made.SerializeToString(), images)
    expected, logits = residual(jnp.asarray(images))
    np.testing.assert_allclose(outputs, logits, atol=0.03 * np.ptp(logits))
    np.testing.assert_allclose(probabilities, expected, atol=0.03)
    assert np.abs(outputs - logits).max() > 1e-4  # it is not float32


def test_the_command_line(command, whole, onnx, tmp_path):
    file = tmp_path / "net.onnx"
    code, out, _ = command("export", whole.path, file, "--int8", "--int8-images", "15", "--json")
    found = json.loads(out)
    assert code == 0 and (found["images"], found["metric"]) == (15, "accuracy")
    assert found["after"] >= found["before"] - 0.01
    live = convax.load(whole.path)
    images, _ = sample_images(whole.config(), live)
    said, session = run_file(file, images)  # and nothing but predictions
    np.testing.assert_allclose(said, live(images), atol=0.05)
    about = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert about["int8"].items() <= found.items() and about["task"] == "classification"
    code, out, _ = command("export", whole.path, tmp_path / "b.onnx", "--int8")
    assert code == 0 and "int8: accuracy" in out and "20 validation images, by minmax" in out


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "embedding", "multilabel", "regression"])
def test_other_tasks(task, onnx, tmp_path):
    config = load_config(write_task(task, tmp_path))
    run = convax.train(config, tmp_path / "run")
    done = export_int8(run.path, tmp_path / "net.onnx", Quantization(max_loss=0.02))
    assert done.before > 0.5 and done.bytes_after < done.bytes_before
    live = convax.load(run.path)
    assert convax.evaluate(run.path).figures[done.metric] == pytest.approx(done.before, abs=1e-6)
    images, _ = sample_images(config, live)
    said, _ = run_file(tmp_path / "net.onnx", images)
    expected = live(images)
    np.testing.assert_allclose(said, expected, atol=0.1 * np.ptp(expected))


def test_a_loss_that_is_too_large_is_refused(whole, onnx, tmp_path, monkeypatch):
    real = module._quantized

    def spoiled(*given):
        made = real(*given)
        for constant in made.graph.initializer:
            array = onnx.numpy_helper.to_array(constant)
            if array.ndim and array.dtype == np.int8:
                constant.CopyFrom(onnx.numpy_helper.from_array(0 * array, constant.name))
        return made

    file = tmp_path / "net.onnx"
    monkeypatch.setattr(module, "_quantized", spoiled)
    with pytest.raises(BundleError, match=r"int8 costs too much: accuracy .*, more than --max-los"):
        export_int8(whole.path, file)
    assert not file.exists()
    monkeypatch.setattr(module, "_quantized", lambda *given: 1 / 0)
    with pytest.raises(BundleError, match="cannot be quantized: division by zero"):
        export_int8(whole.path, file)


def test_what_it_refuses(command, whole, onnx, tmp_path):
    export = ("export", whole.path, tmp_path / "net.onnx")
    for options, problem in {
        ("--int8-images", "9"): "they are about --int8; add it",
        ("--int8", "--tta"): "leave them out with --int8",
        ("--int8", "--no-fold"): "with batch norms folded; leave them out",
        ("--int8", "--int8-method", "none"): "got 'none', need one of minmax, entropy, percentile",
        ("--int8", "--sign", "key"): "an ONNX file has no signature",
    }.items():
        code, _, error = command(*export, *options)
        assert code == 2 and problem in error and error.count("\n") == 1
    with pytest.raises(ValueError, match="need 1 image or more"):
        export_int8(whole.path, tmp_path / "net.onnx", Quantization(images=0))
    with pytest.raises(ValueError, match="method: got 'mean', need one of minmax"):
        export_int8(whole.path, tmp_path / "net.onnx", Quantization(method="mean"))  # type: ignore


def test_without_validation_images(onnx, tmp_path):
    config = load_config(write_task("classification", tmp_path), ["data.validation=0"])
    run, _ = untrained(config, tmp_path / "run")
    with pytest.raises(BundleError, match=r"no validation images .*; train with data\.validation"):
        export_int8(run.path, tmp_path / "net.onnx")


def test_a_detector_is_refused(whole, onnx, tmp_path):
    config = load_config(write_task("instance_segmentation", tmp_path))
    run = create_run(config, tmp_path / "run", whole.dataset())
    with pytest.raises(BundleError, match=r"boxes among its layers .*; leave out --int8"):
        export_int8(run.path, tmp_path / "net.onnx")
